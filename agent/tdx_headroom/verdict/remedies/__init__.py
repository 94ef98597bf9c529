# SPDX-License-Identifier: Apache-2.0
"""What to change on a host so that TDX comes up: computed, not guessed."""

from tdx_headroom.verdict.remedies.areas import for_areas
from tdx_headroom.verdict.remedies.kernels import for_plan

__all__ = ["for_areas", "for_plan"]
