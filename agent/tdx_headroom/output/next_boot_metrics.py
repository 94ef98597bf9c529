# SPDX-License-Identifier: Apache-2.0
"""The metrics about the boot that comes next, and about every installed kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.errors import one_line
from tdx_headroom.facts.boot_inventory import mask
from tdx_headroom.facts.boots import RUNNING_KERNEL, Role
from tdx_headroom.verdict import State
from tdx_headroom.verdict.boots import kernels_of
from tdx_headroom.verdict.model import FORETOLD
from tdx_headroom.verdict.obstacles.no_sign import KIND as NO_SIGN

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tdx_headroom.facts.boots import BootEntry
    from tdx_headroom.output.metric_families import Sample
    from tdx_headroom.verdict.assessment import Assessment
    from tdx_headroom.verdict.boots import Boot

MAX_KERNELS = 8
"""Kernels that have series of their own."""

_STATES = (*FORETOLD, State.CANNOT_TELL)


def next_boot_samples(assessment: Assessment) -> Iterator[Sample]:
    """What is known of the next boot of a TDX host; what is not known is absent, but for the verdict.

    Args:
        assessment: of the host.
    """
    boots, state = assessment.boots, coming_state(assessment)
    for kind, severity in dict.fromkeys((f.kind, f.severity) for f in assessment.deciding.findings):
        yield ("tdx_finding", (kind, severity), 1)
    if boots is None:
        # Nobody has looked: the running kernel is taken to come again.
        if state is not None:
            yield from _states("tdx_next_boot", state)
            yield _info((assessment.facts.kernel_release or "", "", Role.NEXT, RUNNING_KERNEL, state))
        return
    state = state or State.CANNOT_TELL
    yield from _states("tdx_next_boot", state)
    entry = _shown_entry(boots)
    if entry is not None:
        yield _info((entry.release or "", entry.loader or "", _role(entry), mask(entry.known_from), state))
    if assessment.pending is not None:
        yield ("tdx_next_boot_pending", (), int(assessment.pending))
    yield from _states("tdx_staged_boot", _staged(assessment, state))
    yield from _kernels(boots)


def coming_state(assessment: Assessment) -> State | None:
    """The verdict of the boot that comes next; None where nothing is exported of it."""
    if assessment.verdict.state is State.NOT_TDX:
        return None
    if assessment.boots is None:
        return assessment.verdict.next_boot
    return assessment.next_boot or State.CANNOT_TELL


def _staged(assessment: Assessment, state: State) -> State | None:
    """The state of a boot that is not like the running one; None where it is, or both are unknown alike.

    The same kernel on the same line is not like it where modprobe's configuration was changed, say, or new
    firmware is staged.
    """
    verdict = assessment.verdict
    if assessment.pending is False and state is (verdict.next_boot or State.CANNOT_TELL):
        return None
    if verdict.state is State.CANNOT_TELL and any(f.kind == NO_SIGN for f in assessment.deciding.findings):
        return None  # it may be any server: nobody waits for its TDX
    both = state is State.CANNOT_TELL and verdict.state is State.CANNOT_TELL
    # tdx_verdict has it already, and one cause is one alert.
    return None if both and assessment.coming is not None else state


def _states(name: str, actual: State | None) -> Iterator[Sample]:
    return ((name, (state,), int(state is actual)) for state in _STATES)


def _info(labels: Sequence[str]) -> Sample:
    return ("tdx_next_boot_info", tuple(one_line(label, 120) for label in labels), 1)


def _shown_entry(boots: tuple[Boot, ...]) -> BootEntry | None:
    """The one that comes next, or what kexec has loaded: that there is such a kernel is known."""
    entries = [boot.entry for boot in boots]
    return next((e for e in entries if Role.NEXT in e.roles or Role.KEXEC in e.roles), None)


def _role(entry: BootEntry) -> Role:
    return next((role for role in (Role.KEXEC, Role.ONE_SHOT) if role in entry.roles), Role.NEXT)


def _kernels(boots: tuple[Boot, ...]) -> Iterator[Sample]:
    # Two releases that were cut to the same text would be the same series twice, which fails a scrape.
    shown: dict[str, Boot] = {}
    for boot in kernels_of(boots):
        shown.setdefault(one_line(boot.entry.release or "", 120), boot)
    for release, boot in [*shown.items()][:MAX_KERNELS]:
        yield ("tdx_boot_verdict", (release, boot.state), 1)
        if boot.plan is not None and boot.plan.headroom is not None:
            yield ("tdx_boot_reserved_areas_headroom_min", (release,), boot.plan.headroom)
