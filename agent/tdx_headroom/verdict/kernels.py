# SPDX-License-Identifier: Apache-2.0
"""Which kernel looks for holes in which way: a table, with the source of each row.

docs/kernels.md is made from it. Printing CMRs does not prove that a kernel uses them.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from tdx_headroom.facts.boots import Starts
from tdx_headroom.plan import Strategy


class KernelRow(NamedTuple):
    """One family of kernels.

    Args:
        name: for people.
        pattern: of the whole release (``uname -r``).
        strategy: how it looks for holes; None where nobody has read it.
        starts: when it initializes the module.
        source: where this is known from.
        prints_cmrs: whether its log shows the CMRs.
        inferred: whether the strategy is concluded from what hosts did, not read in the source.
        mainline: whether it is no vendor's.
    """

    name: str
    pattern: str
    strategy: Strategy | None
    starts: Starts
    source: str
    prints_cmrs: bool = False
    inferred: bool = False
    mainline: bool = False


_REGIONS = Strategy.MEMORY_REGIONS
_SUBREGION = Strategy.CMR_SUBREGION
_PACKAGE = "the kernel's source package"
_TREE = "arch/x86/virt/vmx/tdx/tdx.c"

# What follows the version in mainline's own releases, and in those of distributions that build its TDX code:
# Ubuntu and Proxmox, which has Ubuntu's configuration, and Fedora. Ubuntu counts its builds from 1; those of
# its mainline archive (6.17.0-061700-generic) and of others that took over its names have long numbers.
_MAINLINE = r"(?:\.[0-9]+)*(?:-rc[0-9]+)?"
_DISTRIBUTION = (
    r"\.0-[1-9][0-9]{0,3}"
    r"-(?:generic|generic-64k|lowlatency|oem|aws|azure|gcp|oracle|ibm|kvm|nvidia|realtime|raspi)"
    r"|(?:\.[0-9]+)+-[1-9][0-9]{0,2}-pve"
    r"|(?:\.[0-9]+)+-[0-9]+(?:\.[0-9]+)*\.fc[0-9]+\.x86_64"
)
_OFFICIAL = rf"(?:{_MAINLINE}|{_DISTRIBUTION})"
# Of these it is not known whether they build it. They have mainline's KVM, which does not call it up to 6.15.
_AS_MAINLINE = r"(?:\.[0-9]+)+-(?:arch[0-9]+-[0-9]+|[0-9]+\.el[0-9]+\.elrepo\.x86_64)"

# Debian's ABI names (kernel handbook, "Version numbers and ABIs"): 6.1.0-40-amd64, 6.1.0-0.deb11.7-amd64,
# 5.4.0-0.bpo.2-amd64, 6.12.9+bpo-amd64, 6.12.9-amd64, 7.1-rc3-amd64, 6.12.48+deb13-cloud-amd64.
_DEBIAN = (
    r"[0-9]+\.[0-9]+(?:\.[0-9]+)*(?:-rc[0-9]+)?(?:-(?:0\.(?:bpo|deb[0-9]+)\.)?[0-9]+)?"
    r"(?:\+(?:bpo|deb[0-9]+)(?:[+.u][0-9]+)*)?-(?:rt-|cloud-)?amd64"
)
# Red Hat's, and what is rebuilt from it; others put words of their own in between.
_EL = r"(?:\.[0-9]+)*(?:\.rt[0-9]+\.[0-9]+)?\.el{0}(?:_[0-9]+)?(?:\.x86_64(?:_v2)?(?:\+[a-z0-9-]+)?)?"

KERNELS = (
    KernelRow(
        "Debian",
        _DEBIAN,
        _REGIONS,
        Starts.NOT_BUILT,
        "Debian's configurations of 6.12, 7.2 and 7.3: INTEL_TDX_HOST is not set",
    ),
    KernelRow(
        "Ubuntu 6.8.0-1001 to -1004 intel",
        r"6\.8\.0-100[1-4]-intel",
        _REGIONS,
        Starts.KVM_LOAD,
        "log of an Emerald Rapids host that needed 17 areas under -1004",
        prints_cmrs=True,
    ),
    KernelRow(
        "Ubuntu 6.8.0-1005 intel",
        r"6\.8\.0-1005-intel",
        None,
        Starts.KVM_LOAD,
        "it lies between a kernel without and one with the CMR patch",
        prints_cmrs=True,
    ),
    KernelRow(
        "Ubuntu 6.8.0 intel from -1006 on (not 6.14)",
        r"6\.8\.0-(?:100[6-9]|10[1-9][0-9]|1[1-9][0-9]{2}|[2-9][0-9]{3})-intel",
        _SUBREGION,
        Starts.KVM_LOAD,
        "the same host came up under -1006 with the CMR patch of June 2024",
        prints_cmrs=True,
        inferred=True,
    ),
    KernelRow(
        "Ubuntu 6.5 intel-opt and 6.11 intel",
        r"6\.5\.0-[0-9]+-intel-opt|6\.11\.0-[0-9]+-intel",
        None,
        Starts.KVM_LOAD,
        "logs of hosts; the source has not been read",
    ),
    KernelRow(
        "Ubuntu 6.14 intel",
        r"6\.14\.0-[0-9]+-intel",
        _REGIONS,
        Starts.KVM_LOAD,
        "log of a Granite Rapids host; the tree has mainline's function",
    ),
    KernelRow("SLE 15 SP6", r"6\.4\.0-150600\..*", _SUBREGION, Starts.KVM_LOAD, _PACKAGE, prints_cmrs=True),
    KernelRow(
        "SLE 15 SP7",
        r"6\.4\.0-150700\..*",
        _SUBREGION,
        Starts.UNKNOWN,
        "it has the same base as SP6",
        prints_cmrs=True,
        inferred=True,
    ),
    KernelRow(
        "CentOS Virt SIG",
        r"5\.14\.0-.*\.tdx\.el9s?(?:\..*)?",
        None,
        Starts.KVM_LOAD,
        "log of a host; the source has not been read",
    ),
    KernelRow(
        "EL9 from 9.7 on",
        rf"5\.14\.0-(?:[6-9][0-9]{{2}}|[1-9][0-9]{{3}}){_EL.format(9)}",
        _REGIONS,
        Starts.KVM_LOAD,
        "the kernel's source package and its configuration",
    ),
    KernelRow(
        "EL9 before 9.7",
        rf"5\.14\.0-[0-9]+{_EL.format(9)}",
        _REGIONS,
        Starts.NEVER,
        "the kernel's source package; KVM does not call it yet",
    ),
    KernelRow("UEK8", r"6\.12\.0-.*\.el[0-9]+uek.*", _REGIONS, Starts.NOT_BUILT, "its configuration"),
    KernelRow("older UEK", r".*\.el[0-9]+uek.*", _REGIONS, Starts.UNKNOWN, _PACKAGE),
    KernelRow(
        "EL10",
        rf"6\.12\.0-[0-9]+{_EL.format(10)}",
        None,
        Starts.UNKNOWN,
        "the configurations seen lack KVM_INTEL_TDX; later ones may have it",
    ),
    KernelRow(
        "other SUSE",
        r"[6-9]\.[0-9]+\.[0-9]+-[0-9]{6}\..*|[6-9]\.[0-9]+\.[0-9]+-[0-9]+-default",
        _REGIONS,
        Starts.UNKNOWN,
        _PACKAGE,
    ),
    KernelRow(
        "mainline 6.8 to 6.15",
        rf"6\.(?:[89]|1[0-5])(?:{_OFFICIAL}|{_AS_MAINLINE})",
        _REGIONS,
        Starts.NEVER,
        f"{_TREE}; KVM does not call it yet",
        mainline=True,
    ),
    KernelRow(
        "mainline 6.16 to 7.0",
        rf"(?:6\.(?:1[6-9]|[2-9][0-9])|7\.0){_OFFICIAL}",
        _REGIONS,
        Starts.KVM_LOAD,
        f"{_TREE}, arch/x86/kvm/vmx/tdx.c",
        mainline=True,
    ),
    KernelRow(
        "mainline 7.1 and later",
        rf"(?:7\.[1-9][0-9]*|[89]\.[0-9]+|[1-9][0-9]\.[0-9]+){_OFFICIAL}",
        _REGIONS,
        Starts.BOOT,
        f"{_TREE}, read up to 7.3",
        mainline=True,
    ),
)


MAX_RELEASE = 64
"""Longer no release is that a kernel tells (``__NEW_UTS_LEN``)."""

VENDORS = re.compile(r"-intel(?:-opt)?$|\.tdx\.", re.ASCII)
"""Vendors' kernels with TDX of their own: one that is in no row is not taken for mainline's."""

_OWN_BUILD = re.compile(r"([0-9]+\.[0-9]+)(?![0-9]).*", re.ASCII)


def look_up(release: str | None) -> KernelRow | None:
    """The row of a kernel release; None when the table does not know it."""
    if release is None or len(release) > MAX_RELEASE:
        return None
    return _row_of(release)


@lru_cache
def _row_of(release: str) -> KernelRow | None:
    return next((row for row in KERNELS if re.fullmatch(row.pattern, release, re.ASCII)), None)


def of_one_vendor(release: str | None, other: str | None) -> bool:
    """Whether two kernels are of one vendor's and of one kind, such as Ubuntu's generic ones."""
    words = _words(release)
    return bool(words - {"rc"}) and None not in (look_up(release), look_up(other)) and words == _words(other)


def _words(release: str | None) -> set[str]:
    """What of a release is no number."""
    return set(re.findall("[A-Za-z]+", release or ""))


def built_from(release: str | None) -> KernelRow | None:
    """The mainline row from which somebody has built a kernel with a name of their own; None for all others.

    It does what mainline does, unless built with TDX patches: that it never initializes TDX is not said.
    """
    version = _OWN_BUILD.fullmatch(release or "")
    if version is None or look_up(release) is not None or VENDORS.search(release or ""):
        return None
    return look_up(version[1])


def why_unknown(release: str | None) -> str | None:
    """What is not known of a kernel; None when a row tells how it looks for holes."""
    row, own = look_up(release), built_from(release)
    if release is None or (row is not None and row.strategy is not None):
        return None
    if own is not None:
        return (
            f"kernel {release} is somebody's own build: as {own.name}, unless it was built with TDX patches"
        )
    if row is not None:
        return f"how kernel {release} ({row.name}) looks for holes is unknown; mainline uses {_REGIONS}"
    return f"kernel {release} is not in the table; mainline uses {_REGIONS}"


def names_with(strategies: set[Strategy], *, initializing: bool = False) -> list[str]:
    """Kernels that use one of these strategies, vendors' before mainline, which is named once.

    Args:
        strategies: to look for.
        initializing: only kernels that are known to initialize TDX; otherwise all that have its code.
    """
    wanted = {Starts.BOOT, Starts.KVM_LOAD} if initializing else {*Starts} - {Starts.NOT_BUILT}
    rows = (row for row in KERNELS if row.strategy in strategies and row.starts in wanted)
    return list(dict.fromkeys("mainline" if row.mainline else row.name for row in rows))
