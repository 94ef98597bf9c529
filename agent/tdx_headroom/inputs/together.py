# SPDX-License-Identifier: Apache-2.0
"""Which files are one host's: by their kinds, by what their names say, and by the kernels that they tell."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

from tdx_headroom.errors import AgentError
from tdx_headroom.inputs.printed import CMDLINE, UNAME_A, files_in
from tdx_headroom.inputs.system_report import KERNEL_LOG
from tdx_headroom.inputs.texts import encoding_of
from tdx_headroom.sources.kernel_log.boot_lines import BOOT_IMAGE
from tdx_headroom.sources.kernel_log.boot_map import read_boot_map
from tdx_headroom.sources.kernel_log.reader import read_log_file
from tdx_headroom.sources.platform import RELEASE_PATH, release_in_uname

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from tdx_headroom.sources.kernel_log.records import KernelLog
    from tdx_headroom.sources.reading import Reading

MOST_FILES = 16
"""No host has more kinds of files."""
_START = 1 << 16
"""Bytes by which it is told what a file holds."""
_SAYS_WHAT = re.compile(
    r"bz2|cat|cmdline|command|cpu|cpuinfo|debug|disk|dmesg|dump|firmware|gz|hibernation|info|intel|iomem|journal|journalctl"
    r"|kern|kernel|kmsg|kvm|line|linux|logs?|map|md|mem|memblock|memmap|memory|messages|module|osrelease|out|output"
    r"|parameters|power|proc|release|report|reserved|boot|sys|syslog|system|tdx|txt|uname|version|xz|zones?|zoneinfo|zst|"
)
"""Words of file names that tell a kind of file, no host."""
_OPTIONS = re.compile(r"(uname[-_ ]+[ar]|journal(?:ctl)?(?:[-_ ]+[kb])+)(?![a-z0-9])")


def of_one_host(paths: Collection[Path]) -> list[Path]:
    """Which of the files of a directory are one host's: its log, and what was printed of its other files.

    None where two are of one kind or of different kernels, where one is an archive or the like, where there
    is nothing but a log, or where their names say more than what they hold, and not the same.
    """
    together: list[Path] = []
    files: dict[str, str] = {}
    log = None
    for path in sorted(paths) if len(paths) <= MOST_FILES else ():
        with path.open("rb") as stream:
            start = stream.read(_START)
        encoding = encoding_of(start)
        if encoding is None or start.lstrip().startswith(b"{"):
            return []
        text = start.decode(encoding, "backslashreplace")
        try:
            found = files_in(text[: text.rfind("\n") + 1] or text, path.name)
        except AgentError:
            return []
        if not found and read_log_file(path.name, text).error is not None:
            continue  # a note: whoever reads it says that it is no log
        found = found or {KERNEL_LOG: text}
        if files.keys() & found:
            return []
        files |= found
        together.append(path)
    if KERNEL_LOG in files:
        log = read_log_file(KERNEL_LOG, files.pop(KERNEL_LOG))
    alike = len({_host_in_name(path.name) for path in together}) == 1
    return together if alike and files and len(together) > 1 and not other_kernels(files, log) else []


def _host_in_name(name: str) -> tuple[str, ...]:
    """What a file's name says besides what it holds: `rack1` of `rack1-iomem.txt`."""
    words = re.split(r"[^a-z0-9]+", _OPTIONS.sub("", name.lower()))
    return tuple(word for word in words if not _SAYS_WHAT.fullmatch(word))


def other_kernels(
    files: Mapping[str, str], log: Reading[KernelLog] | None
) -> tuple[tuple[str, str], tuple[str, str]] | None:
    """Two files, by their paths, that tell different kernels, and these; None where all agree.

    Args:
        files: of a host, by their paths, without its log.
        log: of the host, if there is one.
    """
    image = BOOT_IMAGE.search(files.get(CMDLINE, ""))
    told = (
        (RELEASE_PATH, files.get(RELEASE_PATH, "").strip()),
        (UNAME_A, release_in_uname(files.get(UNAME_A, ""))),
        (KERNEL_LOG, read_boot_map(log.value, log.origin).kernel_release if log and log.value else None),
        (CMDLINE, image[1] if image else None),
    )
    for one, other in pairwise((path, release) for path, release in told if release):
        # An image may be called by more than its release: `.efi`.
        if one[1] != other[1] and not (other[0] == CMDLINE and other[1].startswith(f"{one[1]}.")):
            return one, other
    return None
