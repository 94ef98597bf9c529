# SPDX-License-Identifier: Apache-2.0
"""A kernel that does not initialize TDX, whatever the memory map."""

from __future__ import annotations

from tdx_headroom.verdict.findings import NOTE, Finding, Findings, Signs
from tdx_headroom.verdict.kernels import why_not_tried


def look(signs: Signs) -> Findings:
    """A plan that fits is no promise under it."""
    why = why_not_tried(signs.facts.kernel_release)
    if why is not None and signs.plan is not None:
        yield Finding("kernel-without-tdx", NOTE, why)
