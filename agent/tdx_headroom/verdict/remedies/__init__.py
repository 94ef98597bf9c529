# SPDX-License-Identifier: Apache-2.0
"""What to change on a host so that TDX comes up: computed, not guessed."""

from tdx_headroom.verdict.remedies.areas import for_areas
from tdx_headroom.verdict.remedies.convertible import is_let_in, keep_apart, keep_off, refused_regions
from tdx_headroom.verdict.remedies.kernels import for_plan
from tdx_headroom.verdict.remedies.room import for_room, for_set_aside
from tdx_headroom.verdict.remedies.step import for_step
from tdx_headroom.verdict.remedies.tdmrs import for_tdmrs

__all__ = [
    "for_areas",
    "for_plan",
    "for_room",
    "for_set_aside",
    "for_step",
    "for_tdmrs",
    "is_let_in",
    "keep_apart",
    "keep_off",
    "refused_regions",
]
