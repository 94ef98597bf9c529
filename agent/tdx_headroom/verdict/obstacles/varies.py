# SPDX-License-Identifier: Apache-2.0
"""What the host has needed differs from boot to boot, so far that one more such step does not fit."""

from __future__ import annotations

from tdx_headroom.address import Range, show
from tdx_headroom.verdict.findings import RISK, Finding, Findings, Remedy, RemedyKind, Signs
from tdx_headroom.verdict.history import areas_of, spreads_of
from tdx_headroom.verdict.model import State
from tdx_headroom.verdict.remedies import for_step

KIND = "varies"
KINDS = (KIND,)


def look(signs: Signs) -> Findings:
    """Only where this boot's plan fits: one that does not has its own finding."""
    plan, before = signs.plan, signs.facts.holes_before
    if plan is None or not before or signs.predicted is State.WILL_FAIL:
        return
    spreads = spreads_of(areas_of(plan), before, str(signs.strategy.strategy))
    too_far = [spread for spread in spreads if spread.next_does_not_fit]
    if not too_far:
        return
    found = max(too_far, key=lambda spread: spread.most_after_a_step - spread.limit)
    text = (
        f"In {found.boots} boots with this firmware, kernel and command line a TDMR has needed from"
        f" {found.least} to {found.most} of {found.limit} areas: one more such step does not fit."
    )
    figures = {name: getattr(found, name) for name in ("boots", "least", "most", "limit")}
    short = found.most_after_a_step - found.limit
    areas = f"{short} reserved area{'' if short == 1 else 's'} fewer"
    bounds = show(found.base, found.base + found.size)
    fewer = Remedy(
        RemedyKind.FEWER_AREAS,
        f"Have {areas} in TDMR {bounds}: `tdx-headroom history` shows which holes come and go, for the"
        " firmware's vendor.",
        areas_freed=short,
    )
    most = {Range(s.base, s.base + s.size): s.most_after_a_step for s in too_far}
    yield Finding(KIND, RISK, text, figures, (fewer, *for_step(signs, plan, most)))
