# SPDX-License-Identifier: Apache-2.0
"""What works under this kernel, and would not under another."""

from __future__ import annotations

from tdx_headroom.plan import Outcome
from tdx_headroom.verdict.findings import NOTE, Finding, Findings, Signs
from tdx_headroom.verdict.kernels import names_with
from tdx_headroom.verdict.model import describe

KIND = "other-kernel"


def look(signs: Signs) -> Findings:
    """Each strategy that some other kernel uses, and under which this host would fail."""
    if signs.plan is not None and signs.plan.outcome is not Outcome.OK:
        return
    for other, plan in signs.plans.items():
        if other is signs.strategy.strategy or plan is None or plan.outcome is Outcome.OK:
            continue
        if names := names_with({other}):
            text = f"Under {other} ({', '.join(names)}) this host would fail: {describe(plan)}"
            yield Finding(KIND, NOTE, f"{text} Stay on this one.")
