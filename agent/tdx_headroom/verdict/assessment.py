# SPDX-License-Identifier: Apache-2.0
"""Facts, plans and verdict of one host at one time: what every output renders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tdx_headroom.plan import plan_host
from tdx_headroom.verdict import judge
from tdx_headroom.verdict.late_memory import at_boot
from tdx_headroom.verdict.what_if import UNCHANGED, apply

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tdx_headroom.facts.host_facts import HostFacts
    from tdx_headroom.plan import Plan, Strategy
    from tdx_headroom.verdict import Verdict
    from tdx_headroom.verdict.what_if import WhatIf


@dataclass(frozen=True, slots=True)
class Assessment:
    """One host, assessed; ``facts`` are after any what-if."""

    facts: HostFacts
    plans: Mapping[Strategy, Plan | None]
    verdict: Verdict


def assess(facts: HostFacts, what_if: WhatIf = UNCHANGED) -> Assessment:
    """Plan and judge, after the changes that the operator wants to try.

    Raises:
        FactsError: the facts contradict themselves (PAMT bases that do not go with the TDMRs), or a change
            cannot be made to them.
    """
    changed = at_boot(apply(what_if, facts))
    plans = plan_host(changed)
    verdict = judge(changed, plans, assume=what_if.strategy, what_if=what_if.changes_host)
    return Assessment(changed, plans, verdict)
