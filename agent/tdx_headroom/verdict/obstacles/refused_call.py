# SPDX-License-Identifier: Apache-2.0
"""A call that the TDX module refused, and nothing shows what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.facts.kernel_report import FailureReason, KernelReport
from tdx_headroom.verdict.decode import describe_seamcall, remedies_for
from tdx_headroom.verdict.findings import NOTE, Finding, Findings, Signs

if TYPE_CHECKING:
    from tdx_headroom.facts.kernel_report import SeamcallFailure


def in_words(call: SeamcallFailure) -> str:
    """That it was refused, as a sentence."""
    return (
        f"The TDX module refused a call ({describe_seamcall(call)}), and the log does not show what came"
        " of it."
    )


def look(signs: Signs) -> Findings:
    """The refused call; some kernels give TDX up after it and say no more."""
    call = signs.refused
    if call is None:
        return
    yield Finding(
        "call-refused",
        NOTE,
        in_words(call),
        remedies=remedies_for(KernelReport(reason=FailureReason.SEAMCALL, seamcall=call)),
    )
