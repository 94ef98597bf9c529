# SPDX-License-Identifier: Apache-2.0
"""What the host has needed differs from boot to boot, so far that one more such step does not fit."""

from __future__ import annotations

from tdx_headroom.verdict import remedies
from tdx_headroom.verdict.findings import RISK, Finding, Findings, Signs
from tdx_headroom.verdict.history import areas_of, spread_of
from tdx_headroom.verdict.model import State

KINDS = ("varies",)


def look(signs: Signs) -> Findings:
    """Only where this boot's plan fits: one that does not has its own finding."""
    plan, before = signs.plan, signs.facts.holes_before
    if plan is None or not before or signs.predicted is State.WILL_FAIL:
        return
    found = spread_of(areas_of(plan), before, str(signs.strategy.strategy))
    if found is None or not found.next_does_not_fit:
        return
    text = (
        f"In {found.boots} boots with this firmware, kernel and command line a TDMR has needed from"
        f" {found.least} to {found.most} of {found.limit} areas: one more such step does not fit."
    )
    figures = {name: getattr(found, name) for name in ("boots", "least", "most", "limit")}
    yield Finding("varies", RISK, text, figures, remedies.for_areas(signs, plan))
