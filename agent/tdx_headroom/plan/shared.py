# SPDX-License-Identifier: Apache-2.0
"""Plans that hosts and boots share which have the same memory."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from tdx_headroom import kept
from tdx_headroom.facts.host_facts import GivenBases, HostFacts
from tdx_headroom.plan.build import plan_host

if TYPE_CHECKING:
    from collections.abc import Mapping, Sized

    from tdx_headroom.plan.model import Plan, Strategy


def plans_of(facts: HostFacts) -> Mapping[Strategy, Plan | None]:
    """What each strategy makes of the host, as :func:`plan_host` says; the last results are kept.

    Args:
        facts: of the host.

    Raises:
        FactsError: the PAMT bases given do not go with the TDMRs.
    """
    asked = what_counts(facts)
    return _plans(asked) if may_be_kept(asked) else plan_host(asked)


def what_counts(facts: HostFacts) -> HostFacts:
    """The facts that a plan is made of, without all others.

    Args:
        facts: of the host.
    """
    return HostFacts(
        limits=facts.limits,
        memory_regions=facts.memory_regions,
        cmrs=facts.cmrs,
        pamt_placement=facts.pamt_placement,
        zones=facts.zones,
        reserved=facts.reserved,
        hugetlb_bytes=facts.hugetlb_bytes,
    )


def may_be_kept(facts: HostFacts, *more: Sized) -> bool:
    """Whether what is made of a host's memory, maps and command line is small enough to be kept.

    Args:
        facts: what counts of a host's for that, and no others.
        more: rows of what else it is made of.
    """
    if isinstance(facts.pamt_placement, GivenBases):
        # Nobody's but a tester's; and each of these PAMTs may reach into every TDMR.
        return False
    zones, suspects, firmware = facts.zones or (), facts.suspects, facts.firmware_map or ()
    built = () if facts.traits is None else (*facts.traits.built_in, *facts.traits.unread)
    arguments = (*(facts.command_line or ()), *built)
    names = (
        *(zone.name for zone in zones),
        *(row.kind for row in firmware),
        *(one.device or "" for one in suspects),
    )
    ranges = (facts.memory_regions, facts.cmrs, facts.reserved, facts.node_ranges, zones, suspects, firmware)
    return kept.may_be_kept((*ranges, arguments, *more), (*names, *arguments))


_plans = lru_cache(kept.KEPT)(plan_host)
