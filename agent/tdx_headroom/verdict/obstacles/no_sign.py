# SPDX-License-Identifier: Apache-2.0
"""A log and a CPU that show nothing of TDX: they may be any server's, or only the kernel's fault."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.verdict.findings import NOTE, Finding, Findings, Remedy, RemedyKind, Signs
from tdx_headroom.verdict.obstacles.hibernation import hibernation_blocks
from tdx_headroom.verdict.signs import hints_of_tdx, is_meant_for_tdx
from tdx_headroom.verdict.this_kernel import why_without_tdx, would_show_tdx

if TYPE_CHECKING:
    from tdx_headroom.facts.host_facts import HostFacts

KIND = "no-sign-of-tdx"
HIDDEN = "hidden-by-kernel"
KINDS = (KIND, HIDDEN)
_BOOT = Remedy(
    RemedyKind.CHANGE_KERNEL,
    "Boot a kernel that initializes TDX, such as mainline from 6.16 on or Ubuntu's -intel, and make it the"
    " default.",
)


def look(signs: Signs) -> Findings:
    """That a memory map does not fit is sure all the same."""
    if signs.no_sign:
        # Hibernation stops TDX on any map.
        alone = "" if hibernation_blocks(signs.facts) else " The verdict is about the memory map alone."
        text = f"{in_words(signs.facts)}{alone}"
        hidden = _hidden_by_kernel(signs.facts)
        kind = HIDDEN if hidden and is_meant_for_tdx(signs.facts) else KIND
        yield Finding(kind, NOTE, text, remedies=(_BOOT,) if hidden else ())


def in_words(facts: HostFacts) -> str:
    """What shows nothing, and what speaks for TDX all the same."""
    release, hints = facts.kernel_release, " and ".join(hints_of_tdx(facts))
    if _hidden_by_kernel(facts):
        does = "does not bring TDX up" if why_without_tdx(facts) else "is not known to bring TDX up"
        return f"Kernel {release} {does}, so that nothing shows it here, but {hints}. Boot one that does."
    if facts.log_health is not None and facts.log_health.filtered:
        return (
            "Lines about TDX may have been taken out of the log: its CPU or command line speak for TDX, or"
            " its command line is missing. If not, the BIOS has not enabled TDX, or this kernel is built"
            " without it. Give the whole log (`journalctl -k -b`)."
        )
    if facts.log_health is not None:
        return "Nothing shows that this host can do TDX: the log has no line with its private KeyIDs."
    kernel = "its kernel" if release is None else f"kernel {release}"
    if facts.platform is None:
        return "Nothing shows that this host can do TDX: there is neither its log nor the flags of its CPU."
    more = "" if would_show_tdx(facts) else f", and {kernel} may not show it"
    return f"Nothing shows that this host can do TDX{more}."


def _hidden_by_kernel(facts: HostFacts) -> bool:
    release = facts.kernel_release
    return release is not None and not would_show_tdx(facts) and bool(hints_of_tdx(facts))
