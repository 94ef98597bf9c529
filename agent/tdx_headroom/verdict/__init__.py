# SPDX-License-Identifier: Apache-2.0
"""What the next TDX initialisation on a host will do, why, and what to do about it."""

from tdx_headroom.verdict.judge import judge
from tdx_headroom.verdict.model import (
    Basis,
    CrossCheck,
    Estimate,
    State,
    StrategyFinding,
    Verdict,
    describe,
    predict,
)
from tdx_headroom.verdict.obstacles.hibernation import hibernation_blocks
from tdx_headroom.verdict.signs import not_a_tdx_host

__all__ = [
    "Basis",
    "CrossCheck",
    "Estimate",
    "State",
    "StrategyFinding",
    "Verdict",
    "describe",
    "hibernation_blocks",
    "judge",
    "not_a_tdx_host",
    "predict",
]
