# SPDX-License-Identifier: Apache-2.0
"""So many TDMRs that the kernel warns."""

from __future__ import annotations

from tdx_headroom.plan.tdmrs import TDMR_NR_WARN
from tdx_headroom.verdict.findings import NOTE, Finding, Findings, Signs


def look(signs: Signs) -> Findings:
    """How many are in use."""
    plan, limit = signs.plan, signs.facts.limits.max_tdmrs
    if plan is not None and 0 <= limit - plan.tdmrs_needed < TDMR_NR_WARN:
        figures = {"needed": plan.tdmrs_needed, "limit": limit}
        yield Finding("few-tdmrs", NOTE, f"{plan.tdmrs_needed} of {limit} TDMRs are in use.", figures)
