# SPDX-License-Identifier: Apache-2.0
"""CPUs that the kernel is told to leave out: the TDX module wants every one of them initialized."""

from __future__ import annotations

from tdx_headroom.errors import one_line
from tdx_headroom.facts.boot_arguments import cpu_limits
from tdx_headroom.verdict.findings import RISK, Finding, Findings, Remedy, RemedyKind, Signs

KIND = "cpus-left-out"


def look(signs: Signs) -> Findings:
    """Only of a boot that is staged, and of limits with which TDX is not known to have come up.

    TDH.SYS.CONFIG is refused while a CPU lacks TDH.SYS.LP.INIT (TDX module, ``tdh_sys_config``).
    """
    staged = signs.staged
    if staged is None or staged.running:
        return
    for limit in cpu_limits(signs.facts.command_line or ()):
        if limit.cpus is not None and staged.cpus is not None and limit.cpus >= staged.cpus:
            continue
        if limit.argument in staged.up_with:
            continue
        shown = one_line(limit.argument, 60)
        text = (
            f"{shown} may leave CPUs out, and the TDX module is to refuse a host whose CPUs are not all up."
        )
        remedy = Remedy(
            RemedyKind.REMOVE_ARGUMENTS, f"Take {shown} off the kernel's command line.", (limit.argument,)
        )
        yield Finding(KIND, RISK, text, remedies=(remedy,))
