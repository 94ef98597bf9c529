# SPDX-License-Identifier: Apache-2.0
"""What system-report.sh of canonical/tdx prints, which its users are asked for, as files of the host."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tdx_headroom.sources.kernel_log.known_lines import matters
from tdx_headroom.sources.kernel_log.line_forms import BARE, read_line
from tdx_headroom.sources.platform import RELEASE_PATH
from tdx_headroom.textlines import lines_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

KERNEL_LOG = "kernel log"
"""What stands for the path of a log."""

_LOG, _MSRS = "TDX kernel logs", "Model specific registers (MSRs)"
_KNOWN = frozenset({_LOG, _MSRS, "Kernel version", "CPU details", "Kernel command line"})
_HEAD = re.compile(r"#{2,4} (.{1,80})")
_QUOTED = re.compile(r"^(?:> ?)+")
_QUOTED_HEAD = re.compile(rf"^(?:> ?)+#+ (?:{re.escape(_LOG)}|{re.escape(_MSRS)})", re.MULTILINE)
_FENCE = "```"
_RELEASE = re.compile(r"([0-9]+[.][A-Za-z0-9._+~-]{1,80})(?: .*)?")
# rdmsr prints hexadecimal digits without 0x. One of the KeyIDs is the module's own, no guest's.
_PRIVATE_KEYIDS = re.compile(r"NUM_TDX_PRIV_KEYS: *(?:0x)?([0-9a-fA-F]{1,4})\b.*")


def files_in_report(text: str) -> dict[str, str]:
    """The files by their paths, the log among them; none where the text is no such report."""
    if f"# {_LOG}" not in text and f"# {_MSRS}" not in text:
        return {}
    lines: Sequence[str] = lines_of(text)
    if _QUOTED_HEAD.search(text):
        lines = [_QUOTED.sub("", line) for line in lines]
    sections = _sections(lines)
    return {path: found for path, found in _files(sections) if found is not None} if sections else {}


def is_of_a_log(line: str, *, bare: bool = True) -> bool:
    """Whether a line is one of a kernel log.

    Args:
        line: of any text.
        bare: whether a message without its time may be one.
    """
    read = read_line(line)
    return read.text is not None and (read.form != BARE or (bare and matters(read.text)))


def _sections(lines: Sequence[str]) -> dict[str, list[str]]:
    """The lines of each section's block of code, by its title.

    Lines of a log that stand elsewhere belong to the log, in their order: they may tell what it does not.
    """
    sections: dict[str, list[str]] = {}
    title = None
    inside = False
    for line in lines:
        if line.startswith(_FENCE):
            inside = not inside and title is not None
            continue
        if title is not None and inside:
            sections[title].append(line)
        if title == _LOG and inside:
            continue
        if is_of_a_log(line.strip(), bare=not (inside and title in _KNOWN)):
            sections.setdefault(_LOG, []).append(line.strip())
        elif not inside and (head := _HEAD.fullmatch(line.strip())):
            title = head[1]
            sections.setdefault(title, [])
    return sections


def _files(sections: Mapping[str, Sequence[str]]) -> list[tuple[str, str | None]]:
    def first(title: str) -> str:
        return next((line.strip() for line in sections.get(title, ()) if line.strip()), "")

    release = _RELEASE.fullmatch(first("Kernel version"))
    keyids = next(filter(None, map(_PRIVATE_KEYIDS.fullmatch, sections.get(_MSRS, ()))), None)
    count = int(keyids[1], 16) if keyids else 0
    model, command_line = first("CPU details"), first("Kernel command line")
    return [
        (RELEASE_PATH, release[1] if release else None),
        ("proc/cpuinfo", f"model name : {model}\n" if model else None),
        ("proc/cmdline", command_line or None),
        ("sys/fs/cgroup/misc.capacity", f"tdx {count - 1}\n" if count else None),
        (KERNEL_LOG, "\n".join(sections[_LOG]) if _LOG in sections else None),
    ]
