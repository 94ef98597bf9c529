# SPDX-License-Identifier: Apache-2.0
"""Facts, plans and verdict of one host at one time: what every output renders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tdx_headroom.plan import plan_host
from tdx_headroom.verdict import judge

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tdx_headroom.facts import HostFacts
    from tdx_headroom.plan import Plan, Strategy
    from tdx_headroom.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Assessment:
    """One host, assessed."""

    facts: HostFacts
    plans: Mapping[Strategy, Plan | None]
    verdict: Verdict


def assess(facts: HostFacts) -> Assessment:
    """Plan and judge.

    Raises:
        FactsError: the facts contradict themselves (PAMT bases that do not go with the TDMRs).
    """
    plans = plan_host(facts)
    return Assessment(facts, plans, judge(facts, plans))
