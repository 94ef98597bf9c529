# SPDX-License-Identifier: Apache-2.0
"""Which files of a host the agent reads: of an archive no others are looked at."""

from __future__ import annotations

import re
from enum import Enum

from tdx_headroom.hostfs.root import MAX_FILE
from tdx_headroom.sources.kernel_log.reader import LOG_PATHS, MAX_LOG


class Want(Enum):
    """What of a path is wanted."""

    TEXT = "text"
    NAME = "name"


_TEXT = re.compile(
    r"proc/(?:iomem|cpuinfo|cmdline|zoneinfo|meminfo|stat|sys/kernel/(?:osrelease|hostname|random/boot_id))"
    r"|sys/firmware/memmap/[0-9]{1,6}/(?:start|end|type)"
    r"|sys/kernel/debug/memblock/(?:memory|reserved)"
    r"|sys/devices/system/memory/(?:block_size_bytes|memory[0-9]{1,9}/state)"
    r"|sys/module/(?:kvm_intel/parameters/tdx|kvm/parameters/enable_virt_at_load)|sys/power/disk|sys/fs/cgroup/misc\.capacity"
    r"|sys/devices/faux/tdx_host/version|sys/class/dmi/id/bios_version"
    r"|sos_commands/(?:kernel|host)/(?:uname_-a|hostname)"
)
# Whatever lies in a node's directory shows that there is the node.
_NAME = re.compile(
    r"sys/devices/system/node/node[0-9]{1,5}(?:/(?:memory[0-9]{1,9}|meminfo|cpulist|distance))?"
)


def wanted(path: str) -> Want | None:
    """What the agent reads of this path, relative to the host's root; None when it never looks at it."""
    if _TEXT.fullmatch(path) or LOG_PATHS.fullmatch(path):
        return Want.TEXT
    return Want.NAME if _NAME.fullmatch(path) else None


def limit(path: str) -> int:
    """The most bytes that are read of it."""
    return MAX_LOG if LOG_PATHS.fullmatch(path) else MAX_FILE
