# SPDX-License-Identifier: Apache-2.0
"""A log that contradicts itself, or the hardware: somebody may have forged a part of it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tdx_headroom.errors import one_line
from tdx_headroom.facts.kernel_report import ContradictionKind, ModuleState
from tdx_headroom.verdict.findings import NOTE, Finding, Findings, Signs

if TYPE_CHECKING:
    from tdx_headroom.facts.host_facts import HostFacts

HARDWARE = "log-contradicts-hardware"
_LONGEST = 120
_MOST = 4
_SAYS = {
    ContradictionKind.SECOND_BOOT: "a boot seems to begin in the middle of one whose clock goes on;"
    " what came before still counts",
    ContradictionKind.TWO_OUTCOMES: "it tells another outcome of the same boot; the worse of them counts",
    ContradictionKind.OUTSIDE_THE_LOG: "it tells of a failure, without the prefix of the log; it counts",
    ContradictionKind.MEMORY_MAP: "it does not go with the memory map before it, or comes after the boot;"
    " it does not count",
    ContradictionKind.SAME_MOMENT: "it has the very time of an unrelated line before it, and may be a part of"
    " that one's text; it counts",
}
UNFORGEABLE = "A log that nobody can forge: `journalctl -k -b -o json`"
"""What would settle it."""

# tdx_init() sets the CPU's flag since v6.8, the first mainline kernel with TDX host support.
_OLD = re.compile(r"(?:[0-5]\.|6\.[0-7]\.).*")


def contradicts_hardware(facts: HostFacts) -> bool:
    """Whether an unverified log says that TDX is up, on a CPU that does not show it.

    Kernels before 6.8 have TDX from patches, and do not all set the CPU's flag.
    """
    log, platform = facts.kernel_log, facts.platform
    if log is None or log.verified or log.state is not ModuleState.INITIALIZED:
        return False
    if platform is None or platform.tdx_host_platform is not False:
        return False
    return facts.kernel_release is None or _OLD.fullmatch(facts.kernel_release) is None


def itself(signs: Signs) -> Findings:
    """Lines that do not go with those before them."""
    log = signs.facts.kernel_log
    if log is None or not log.contradictions:
        return
    found = log.contradictions
    texts = [f"at `{one_line(c.line, _LONGEST)}`: {_SAYS[c.kind]}" for c in found[:_MOST]]
    if len(found) > _MOST:
        texts.append(f"in {len(found) - _MOST} more lines")
    for text in texts:
        yield Finding("log-contradicts-itself", NOTE, f"The log contradicts itself {text}.")


def hardware(signs: Signs) -> Findings:
    """TDX is said to be up, on a CPU that does not show it."""
    log = signs.facts.kernel_log
    if log is not None and contradicts_hardware(signs.facts):
        text = (
            f"The log says `{one_line(log.message or '', _LONGEST)}`, and the CPU does not show"
            " tdx_host_platform: one of them is of another host or boot, or forged."
        )
        yield Finding(HARDWARE, NOTE, text)
