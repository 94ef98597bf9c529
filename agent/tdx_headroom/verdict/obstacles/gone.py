# SPDX-License-Identifier: Apache-2.0
"""A host that had TDX in the boot before, and does not try it in this one."""

from __future__ import annotations

from tdx_headroom.verdict.findings import NOTE, Finding, Findings, Signs
from tdx_headroom.verdict.signs import tdx_gone, tdx_seen

KIND = "gone-since-last-boot"


def look(signs: Signs) -> Findings:
    """Only the running agent knows the boot before."""
    if not signs.what_if and tdx_gone(signs.facts.tdx_before, tdx_seen(signs.facts)):
        text = (
            "TDX was up in the boot before, and this one does not try it: the kernel, its command line or a"
            " BIOS setting has changed."
        )
        yield Finding(KIND, NOTE, text)
