# SPDX-License-Identifier: Apache-2.0
"""Which kernel looks for holes in which way: a table, with the source of each row.

docs/kernels.md is made from it. Printing CMRs does not prove that a kernel uses them.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import NamedTuple

from tdx_headroom.plan import Strategy


class InitTime(StrEnum):
    """When a kernel initialises the TDX module."""

    BOOT = "at boot"
    KVM_LOAD = "when kvm_intel is loaded with tdx=1"
    NEVER = "never"
    UNKNOWN = "unknown"


class KernelRow(NamedTuple):
    """One family of kernels.

    Args:
        name: for people.
        pattern: of the whole release (``uname -r``).
        strategy: how it looks for holes.
        init: when it initialises the module.
        source: where this is known from.
        prints_cmrs: whether its log shows the CMRs.
        inferred: whether the strategy is concluded from what hosts did, not read in the source.
        mainline: whether it is no vendor's.
    """

    name: str
    pattern: str
    strategy: Strategy
    init: InitTime
    source: str
    prints_cmrs: bool = False
    inferred: bool = False
    mainline: bool = False


_REGIONS = Strategy.MEMORY_REGIONS
_SUBREGION = Strategy.CMR_SUBREGION

_PACKAGE = "the kernel's source package"

KERNELS = (
    KernelRow(
        "Ubuntu 6.8.0-1001 to -1004 intel",
        r"6\.8\.0-100[1-4]-intel",
        _REGIONS,
        InitTime.KVM_LOAD,
        "log of an Emerald Rapids host that needed 17 areas under -1004",
        prints_cmrs=True,
    ),
    KernelRow(
        "Ubuntu 6.8.0-1006 intel and later",
        r"6\.8\.0-(?:100[6-9]|10[1-9][0-9]|1[1-9][0-9]{2}|[2-9][0-9]{3})-intel",
        _SUBREGION,
        InitTime.KVM_LOAD,
        "the same host came up under -1006 with the CMR patch of June 2024",
        prints_cmrs=True,
        inferred=True,
    ),
    KernelRow(
        "Ubuntu 6.14 intel",
        r"6\.14\.0-[0-9]+-intel",
        _REGIONS,
        InitTime.KVM_LOAD,
        "log of a Granite Rapids host; the tree has mainline's function",
    ),
    KernelRow("SLE 15 SP6", r"6\.4\.0-150600\..*", _SUBREGION, InitTime.KVM_LOAD, _PACKAGE, prints_cmrs=True),
    KernelRow("EL9", r"5\.14\.0-.*\.el9.*", _REGIONS, InitTime.UNKNOWN, _PACKAGE),
    KernelRow("UEK", r".*\.el[0-9]+uek.*", _REGIONS, InitTime.UNKNOWN, _PACKAGE),
    KernelRow(
        "other SUSE",
        r"6\.[0-9]+\.[0-9]+-[0-9]{6}\..*|6\.[0-9]+\.[0-9]+-[0-9]+-default",
        _REGIONS,
        InitTime.UNKNOWN,
        _PACKAGE,
    ),
    KernelRow(
        "mainline 6.8 to 6.15",
        # Ubuntu's -intel kernels, the first of them 6.5, do initialize TDX; not all of them are known here.
        r"6\.(?:[89]|1[0-5])(?![0-9])(?!.*-intel).*",
        _REGIONS,
        InitTime.NEVER,
        "arch/x86/virt/vmx/tdx/tdx.c; KVM does not call it yet",
        mainline=True,
    ),
    KernelRow(
        "mainline 6.16 to 7.0",
        r"(?:6\.(?:1[6-9]|[2-9][0-9])|7\.0)(?![0-9]).*",
        _REGIONS,
        InitTime.KVM_LOAD,
        "arch/x86/virt/vmx/tdx/tdx.c, arch/x86/kvm/vmx/tdx.c",
        mainline=True,
    ),
    KernelRow(
        "mainline 7.1 and later",
        r"(?:7\.[1-9][0-9]*|[89]\.[0-9]+|[1-9][0-9]\.[0-9]+)(?![0-9]).*",
        _REGIONS,
        InitTime.BOOT,
        "arch/x86/virt/vmx/tdx/tdx.c, read up to 7.3",
        mainline=True,
    ),
)


def look_up(release: str | None) -> KernelRow | None:
    """The row of a kernel release; None when the table does not know it."""
    if release is None:
        return None
    return next((row for row in KERNELS if re.fullmatch(row.pattern, release, re.ASCII)), None)


def predates_tdx(release: str | None) -> bool:
    """Whether a kernel is older than mainline's TDX for hosts, and no vendor's that is known to have it."""
    return (
        release is not None
        and look_up(release) is None
        and re.match(r"[0-5]\.|6\.[0-7]\b", release) is not None
    )


def why_not_tried(release: str | None) -> str | None:
    """Why a kernel does not initialize TDX, whatever the memory map; None when it may."""
    row = look_up(release)
    if row is not None and row.init is InitTime.NEVER:
        name = row.name[:1].upper() + row.name[1:]
        text = "never initializes TDX, since KVM does not ask for it: this is about a kernel that does"
        return f"{name} {text}, with the same memory map."
    if predates_tdx(release):
        text = "Mainline has TDX for hosts since 6.8"
        return f"{text}: kernel {release} initializes it only if its vendor has put it in."
    return None


def names_with(strategies: set[Strategy]) -> list[str]:
    """Kernels that use one of these strategies, vendors' before mainline, which is named once."""
    rows = (row for row in KERNELS if row.strategy in strategies)
    return list(dict.fromkeys("mainline" if row.mainline else row.name for row in rows))
