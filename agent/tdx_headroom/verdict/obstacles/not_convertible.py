# SPDX-License-Identifier: Apache-2.0
"""Memory outside every CMR."""

from __future__ import annotations

from tdx_headroom.address import show_size
from tdx_headroom.plan import Outcome
from tdx_headroom.verdict.findings import NOTE, Finding, Findings, Signs


def look(signs: Signs) -> Findings:
    """How much, and what comes of it."""
    plan = signs.plan
    if plan is None or not plan.not_convertible_bytes:
        return
    size = plan.not_convertible_bytes
    rejected = plan.outcome is Outcome.REJECTED
    effect = "the TDX module rejects the plan" if rejected else "a guest that gets such a page fails later"
    text = f"{show_size(size)} of memory lie outside every CMR: {effect}."
    yield Finding("not-convertible", NOTE, text, {"not_convertible_bytes": size})
