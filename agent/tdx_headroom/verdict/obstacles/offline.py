# SPDX-License-Identifier: Apache-2.0
"""Memory or CPUs that are offline."""

from __future__ import annotations

from tdx_headroom.address import show_size, total
from tdx_headroom.verdict.findings import NOTE, Finding, Findings, Signs


def memory(signs: Signs) -> Findings:
    """Memory that was added since the boot, and waits to be refused."""
    if signs.facts.offline:
        added = f"{show_size(total(signs.facts.offline))} of memory, added since the boot, are offline"
        yield Finding("memory-offline", NOTE, f"{added}: TDX refuses memory added late.")


def cpu_package(signs: Signs) -> Findings:
    """A CPU package that had no online CPU in this boot."""
    log = signs.facts.kernel_log
    if log is not None and log.package_offline:
        offline = "A CPU package has no online CPU, or was to lose its last one"
        text = f"{offline}: TDX needs one in each to make and remove guests."
        yield Finding("cpu-package-offline", NOTE, text)
