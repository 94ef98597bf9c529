# SPDX-License-Identifier: Apache-2.0
"""The kernel's TDMR construction, recomputed: no I/O, no clock, integers only."""

from tdx_headroom.plan.build import plan_host
from tdx_headroom.plan.model import (
    AreaKind,
    ModuleStatus,
    ModuleVerdict,
    Outcome,
    Pamt,
    Plan,
    ReservedArea,
    Strategy,
    Tdmr,
)
from tdx_headroom.plan.shared import plans_of

__all__ = [
    "AreaKind",
    "ModuleStatus",
    "ModuleVerdict",
    "Outcome",
    "Pamt",
    "Plan",
    "ReservedArea",
    "Strategy",
    "Tdmr",
    "plan_host",
    "plans_of",
]
