# SPDX-License-Identifier: Apache-2.0
"""Memory or CPUs that are offline."""

from __future__ import annotations

from tdx_headroom.address import show_size, total, union
from tdx_headroom.verdict.findings import NOTE, Finding, Findings, Signs
from tdx_headroom.verdict.late_memory import late_memory


def memory(signs: Signs) -> Findings:
    """Memory that was added since the boot, and waits to be refused, or will be at the next boot."""
    facts = signs.facts
    late = late_memory(facts)
    if late:
        size = show_size(total(union([*late, *(facts.offline or ())])))
        text = f"{size} of memory come after TDX, which this kernel initializes at boot, and stay offline."
        yield Finding("memory-offline", NOTE, text)
    elif facts.offline:
        added = f"{show_size(total(facts.offline))} of memory, added since the boot, are offline"
        yield Finding("memory-offline", NOTE, f"{added}: TDX refuses memory added late.")


def cpu_package(signs: Signs) -> Findings:
    """A CPU package that had no online CPU in this boot."""
    log = signs.facts.kernel_log
    if log is not None and log.package_offline:
        offline = "A CPU package has no online CPU, or was to lose its last one"
        text = f"{offline}: TDX needs one in each to make and remove guests."
        yield Finding("cpu-package-offline", NOTE, text)
