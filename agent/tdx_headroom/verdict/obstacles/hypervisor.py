# SPDX-License-Identifier: Apache-2.0
"""A hypervisor between the hardware and the kernel, as below Xen's dom0."""

from __future__ import annotations

from tdx_headroom.errors import printable
from tdx_headroom.facts.kernel_report import ModuleState
from tdx_headroom.verdict.findings import FAILS, Certainty, Finding, Findings, Remedy, RemedyKind, Signs

KIND = "hypervisor-below"
_WITHOUT = Remedy(
    RemedyKind.CHANGE_KERNEL, "Make an entry the one that boots that starts this kernel without a hypervisor."
)


def look(signs: Signs) -> Findings:
    """Whatever the memory map, which is the hypervisor's: it has VMX for itself, and with it SEAMCALL."""
    platform, log = signs.facts.platform, signs.facts.kernel_log
    if platform is None or platform.hypervisor is None:
        return
    if log is not None and log.state is ModuleState.INITIALIZED and not signs.what_if:
        return
    text = (
        f"A hypervisor runs below this kernel ({printable(platform.hypervisor)}): neither KVM nor the TDX"
        " module can be used from there."
    )
    yield Finding(KIND, FAILS, text, remedies=(_WITHOUT,), certainty=Certainty.ANY_MAP)
