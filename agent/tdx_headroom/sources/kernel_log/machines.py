# SPDX-License-Identifier: Apache-2.0
"""Whether a log is that of one machine: a log server's, or that of a tool which asked many, is not."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tdx_headroom.errors import SourceError, one_line
from tdx_headroom.sources.kernel_log.known_lines import matters
from tdx_headroom.sources.kernel_log.records import SOURCE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tdx_headroom.sources.kernel_log.line_forms import Line

# Names before a machine has its own: an image's, an installer's, an initial RAM disk's.
_OF_IMAGES = frozenset(
    {"", "(none)", "localhost", "localhost-live", "archiso", "debian", "fedora", "linux", "ubuntu"}
)
_ADDRESS = re.compile(r"[0-9.]+|[0-9a-f:]*:[0-9a-f:]*")
_BEGINS = re.compile(r"Linux version [0-9]|Command line: |virt/tdx: BIOS enabled: ")
"""What each boot prints once, and early."""
_SHOWN = 3


def check_machines(lines: Sequence[Line], wrapping: str) -> None:
    """Refuse a log of several machines: what one says would be laid to another's charge.

    A name may change while a machine boots, and again in its next boot. Two names of which each begins a
    boot, or that come in turns, are two machines', or those of one that has been renamed.

    Args:
        lines: of the text, taken apart.
        wrapping: what each line of the log stands behind; empty where nothing.

    Raises:
        SourceError: there are several.
    """
    found = [(line.host, line.text) for line in lines if line.host and line.text and matters(line.text)]
    named = [(name, text) for full, text in found if (name := _short(full)) not in _OF_IMAGES]
    refuse_several([*_begin(named), *_in_turns(named)])
    if wrapping:
        behind = [(line.wrapping, line.text) for line in lines if line.wrapping and line.text]
        refuse_several(_begin(behind), what="hosts or files")


def refuse_several(names: Iterable[str], what: str = "hosts") -> None:
    """Refuse a log in which there are several of these names.

    Raises:
        SourceError: there are several.
    """
    several = [*dict.fromkeys(names)]
    if len(several) > 1:
        shown = ", ".join(one_line(name.strip(" :|"), 40) for name in several[:_SHOWN])
        more = f" and {len(several) - _SHOWN} more" if len(several) > _SHOWN else ""
        raise SourceError(
            SOURCE,
            f"it holds the logs of several {what}: {shown}{more}",
            hint="give the lines of one, by grep; of a host that was renamed, those since then",
        )


def _begin(named: Iterable[tuple[str, str]]) -> list[str]:
    """The names that begin a boot."""
    return [name for name, text in named if _BEGINS.match(text)]


def _in_turns(named: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Two names of which the first comes again behind the second, without beginning a boot."""
    left: dict[str, str] = {}
    present = None
    for name, text in named:
        if _BEGINS.match(text):
            left.clear()
        elif name in left:
            return name, left[name]
        if present not in (None, name):
            left[str(present)] = name
        present = name
    return ()


def _short(host: str) -> str:
    """A host's name without its domain."""
    name = host.casefold()
    return name if _ADDRESS.fullmatch(name) else name.partition(".")[0]
