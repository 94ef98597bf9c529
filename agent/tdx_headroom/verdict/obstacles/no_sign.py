# SPDX-License-Identifier: Apache-2.0
"""A log and a CPU that show nothing of TDX: they may be any server's."""

from __future__ import annotations

from tdx_headroom.verdict.findings import NOTE, Finding, Findings, Signs

NO_SIGN = "Nothing shows that this host can do TDX: the log has no line with its private KeyIDs."


def look(signs: Signs) -> Findings:
    """That a memory map does not fit is sure all the same."""
    if signs.no_sign:
        text = f"{NO_SIGN} The verdict is about the memory map alone."
        yield Finding("no-sign-of-tdx", NOTE, text)
