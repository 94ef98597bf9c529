# SPDX-License-Identifier: Apache-2.0
"""Another kernel, under whose hole strategy a host fits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.plan import Outcome, Strategy
from tdx_headroom.plan.module import accepts_cmrs
from tdx_headroom.verdict.findings import Remedy, RemedyKind
from tdx_headroom.verdict.kernels import names_with

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tdx_headroom.plan import Plan
    from tdx_headroom.verdict.findings import Signs


def for_plan(signs: Signs, *own: Remedy) -> tuple[Remedy, ...]:
    """What to do about a plan that does not fit: another kernel, and what its obstacle itself asks for.

    Nothing where TDX failed for a reason that the memory map has no part in: that comes first.
    """
    if signs.log_is_to_blame:
        return ()
    name = "remedies (other kernels)"
    found = signs.guard.part(
        name, lambda: _other_kernels(signs.plans, signs.strategy.strategy, signs.facts.cmrs), list[Remedy]()
    )
    return (*found, *own)


def _other_kernels(
    plans: Mapping[Strategy, Plan | None], strategy: Strategy, cmrs: Sequence[tuple[int, int]] | None
) -> list[Remedy]:
    fitting = {
        s
        for s, plan in plans.items()
        if s is not strategy and plan is not None and plan.outcome is Outcome.OK
    }
    kernels = names_with(fitting, initializing=True) if accepts_cmrs(cmrs or ()) else []
    if not kernels:
        # Nobody can boot a kernel that nobody is known to have, and no kernel mends a CMR table.
        return []
    text = f"Boot a kernel that looks at CMRs, under which this host fits: {', '.join(kernels)}."
    return [Remedy(RemedyKind.OTHER_KERNEL, text, bytes_given_up=0, computed=True)]
