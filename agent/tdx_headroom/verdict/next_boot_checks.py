# SPDX-License-Identifier: Apache-2.0
"""Checks of the boot that comes next: which it is, and what TDX does with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.facts.boots import Role
from tdx_headroom.verdict import way_out
from tdx_headroom.verdict.boots import why_none_comes
from tdx_headroom.verdict.check_model import Check, Result
from tdx_headroom.verdict.model import State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tdx_headroom.verdict.assessment import Assessment

_GROUP = "next boot"
_RESULTS = {
    State.WILL_INITIALIZE: Result.PASS,
    State.AT_RISK: Result.WARN,
    State.WILL_FAIL: Result.FAIL,
    State.CANNOT_TELL: Result.WARN,
    State.NOT_TDX: Result.SKIP,
}


def next_boot_checks(assessment: Assessment) -> Iterator[Check]:
    """Nothing where nobody has looked for boot entries."""
    if assessment.boots is None:
        return
    coming = assessment.coming
    if coming is None:
        why = why_none_comes(assessment.facts)
        hint = "see `tdx-headroom boots`; boot configurations are often root's alone"
        yield Check(_GROUP, "entry", Result.WARN, f"which boots next cannot be told: {why}", hint)
        return
    entry = coming.entry
    release = "an unknown kernel" if entry.release is None else f"kernel {entry.release}"
    once = ", once" if Role.ONE_SHOT in entry.roles else ""
    yield Check(_GROUP, "entry", Result.PASS, f"{release}{once}, known from {entry.known_from}")
    remedies = [*way_out.told(assessment), *(() if coming.verdict is None else coming.verdict.remedies)]
    result = _RESULTS[coming.state]
    if Role.RUNNING in entry.roles and entry.unknown is None and result is not Result.PASS:
        # Nothing is staged: what this boot comes to is in all other checks. Firmware apart.
        result = Result.WARN if coming.staged.firmware_update is not None else Result.SKIP
    yield Check(_GROUP, "tdx", result, f"{coming.state}: {coming.why}", next(iter(remedies), None))
