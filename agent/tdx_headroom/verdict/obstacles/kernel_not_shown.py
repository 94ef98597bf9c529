# SPDX-License-Identifier: Apache-2.0
"""A log that has lost which kernel it is of, where another kernel could do better."""

from __future__ import annotations

from tdx_headroom.plan import Strategy
from tdx_headroom.verdict.findings import NOTE, Finding, Findings, Signs
from tdx_headroom.verdict.model import Basis, State, describe, predict

KIND = "kernel-not-shown"


def look(signs: Signs) -> Findings:
    """Whether the verdict is mainline's alone."""
    facts, plan = signs.facts, signs.plan
    source = facts.memory_source
    if facts.kernel_release is not None or source is None or not source.from_log:
        return
    if signs.strategy.basis is not Basis.MAINLINE or signs.check.matches is True or plan is None:
        return
    expected = signs.predicted
    if expected is State.WILL_INITIALIZE and signs.failed is not None:
        expected = State.AT_RISK
    other = signs.plans[Strategy.CMR_SUBREGION]
    if expected is not State.WILL_INITIALIZE and (other is None or predict(other) is not expected):
        text = (
            f"The log does not show which kernel it is. Mainline: {describe(plan)} Another may do with less."
        )
        yield Finding(KIND, NOTE, text)
