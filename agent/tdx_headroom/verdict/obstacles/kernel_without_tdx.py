# SPDX-License-Identifier: Apache-2.0
"""A kernel that does not initialize TDX, whatever the memory map."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.facts.boots import Starts, TraitsFrom
from tdx_headroom.facts.kernel_report import ModuleState
from tdx_headroom.verdict.findings import (
    FAILS,
    NOTE,
    RISK,
    Certainty,
    Finding,
    Findings,
    Remedy,
    RemedyKind,
    Signs,
)
from tdx_headroom.verdict.this_kernel import likely_start, predates_tdx, why_without_tdx

if TYPE_CHECKING:
    from tdx_headroom.facts.host_facts import HostFacts
    from tdx_headroom.verdict.staged import Staged

KIND = "kernel-without-tdx"
MAY = "kernel-may-lack-tdx"
KINDS = (KIND, MAY)
_TRIED = (ModuleState.INITIALIZED, ModuleState.FAILED)
_WITHOUT = (Starts.NEVER, Starts.NOT_BUILT)
_ANOTHER = Remedy(
    RemedyKind.CHANGE_KERNEL,
    "Make a kernel that initializes TDX the one that boots,"
    " such as mainline from 6.16 on or Ubuntu's -intel.",
)
_CONFIGURATION = Remedy(
    RemedyKind.LOOK_FURTHER,
    "Let the agent read the kernel's configuration (/boot/config-RELEASE): it needs CONFIG_INTEL_TDX_HOST=y.",
)


def look(signs: Signs) -> Findings:
    """A plan that fits is no promise under it; of a boot that is staged it decides."""
    why = why_without_tdx(signs.facts)
    if signs.staged is None:
        if why is not None and signs.plan is not None:
            yield Finding(KIND, NOTE, why)
        return
    log = signs.facts.kernel_log
    if signs.staged.shown.tried or (log is not None and log.state in _TRIED):
        return
    start, release = likely_start(signs.facts), signs.facts.kernel_release
    if start.starts in _WITHOUT and start.known_from is not TraitsFrom.MAINLINE:
        built = start.starts is Starts.NOT_BUILT
        does = "is built without TDX for hosts" if built else "never initializes TDX"
        text = f"Kernel {release} {does}: no confidential guest starts under it."
        yield Finding(KIND, FAILS, text, remedies=(_ANOTHER,), certainty=Certainty.ANY_MAP)
    elif start.starts in (*_WITHOUT, Starts.UNKNOWN):
        name = "the kernel" if release is None else f"kernel {release}"
        since = " Mainline does from 6.16 on." if predates_tdx(signs.facts) else ""
        text = f"Nothing tells whether {name} initializes TDX.{since}"
        yield Finding(MAY, RISK, text, remedies=(_ANOTHER,))
    elif start.known_from is TraitsFrom.MAINLINE and not _is_built(signs.facts, signs.staged):
        text = (
            f"Nothing tells whether kernel {release} is built with TDX for hosts: its configuration and its"
            " image could not be read, and it is no vendor's that is known to build it in."
        )
        yield Finding(MAY, RISK, text, remedies=(_CONFIGURATION, _ANOTHER))


def _is_built(facts: HostFacts, staged: Staged) -> bool:
    """Whether the kernel is known to have TDX for hosts, by its files or by what it has shown."""
    return staged.shown.built or (facts.traits is not None and facts.traits.tdx_host is True)
