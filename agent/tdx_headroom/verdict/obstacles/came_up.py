# SPDX-License-Identifier: Apache-2.0
"""TDX came up in this boot, and there is no plan: what there is to say about the next one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.facts.kernel_report import ModuleState
from tdx_headroom.verdict.findings import NOTE, Finding, Findings, Signs

if TYPE_CHECKING:
    from tdx_headroom.facts.host_facts import HostFacts

KIND = "room-unknown"


def look(signs: Signs) -> Findings:
    """The same kernel does the same on the same memory map, if this log is of one boot, and of this host."""
    facts = signs.facts
    if signs.plan is None and not signs.what_if and _is_sure(facts):
        what = "map" if facts.memory_regions is None else "CMRs"
        text = (
            "The same kernel on the same memory map brings TDX up again. How many reserved areas are left,"
            f" and what another kernel would do, only the {what} can tell."
        )
        yield Finding(KIND, NOTE, text)


def _is_sure(facts: HostFacts) -> bool:
    """Whether TDX is up here; a line of success alone may be anybody's, and of any boot."""
    if facts.platform is not None and facts.platform.tdx_module_version is not None:
        return True
    log, health = facts.kernel_log, facts.log_health
    if log is None or log.state is not ModuleState.INITIALIZED or log.kvm_failed or log.contradictions:
        return False
    return log.verified or (log.keyids is not None and (health is None or not health.excerpt))
