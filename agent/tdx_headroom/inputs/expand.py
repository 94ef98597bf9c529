# SPDX-License-Identifier: Apache-2.0
"""From what a user names to the inputs: directories of captures, and the files of one host."""

from __future__ import annotations

import os
import re
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.errors import AgentError
from tdx_headroom.inputs.named import STANDARD_STREAM, Kind, Named
from tdx_headroom.inputs.together import MOST_FILES, of_one_host

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_DEEPER = "deeper"
MAX_DEPTH = 4
"""Captures lie no deeper than this in a directory that is given: DIR/site/rack/host.tar.gz."""

_OF_A_ROOT = (
    "proc/iomem",
    "proc/cpuinfo",
    "sys/firmware/memmap",
    "sys/kernel/debug/memblock",
    "dev/kmsg",
    "dmesg",
    "sos_commands",
    "var/log/dmesg",
    "sys/firmware/efi",
    "boot",
    "efi/EFI",
    "efi/loader",
)
# In a directory only what is named like an input is taken: a README is no log, nor is a checksum.
_LIKE_AN_INPUT = re.compile(
    r".+\.(?:tar|tgz|txz|tbz2?|(?:tar|log|txt|dmesg|jsonl?|facts)\.(?:gz|xz|bz2|zst)|log|dmesg|txt|jsonl?|facts)"
    r"|(?:dmesg|journal|iomem|memmap|memblock|zoneinfo|cpuinfo|cmdline|uname)[^/]*",
    re.DOTALL,
)


def looks_like_root(path: Path) -> bool:
    """Whether something of a host's /proc, /sys, /boot or log lies below a directory, or a sosreport does."""
    return any(os.path.exists(path / part) for part in _OF_A_ROOT)  # noqa: PTH110  as below


def is_folder(path: Path) -> bool:
    """Whether it is a directory; not where that cannot be seen: whoever opens it is told why."""
    return os.path.isdir(path)  # noqa: PTH112  Path's raise where nobody may look


def merged(named: Sequence[Named]) -> Named:
    """All inputs as the files of one host; of a directory, the files in it.

    Raises:
        AgentError: one is something else than a file that one host has several of.
    """
    if wrong := next((one for one in named if one.kind not in (Kind.ANY, Kind.LOG)), None):
        raise AgentError(f"--merge takes no --{wrong.kind}: that is a host by itself", status=os.EX_USAGE)
    parts: list[str] = []
    for one in named:
        path = Path(one.path)
        if not is_folder(path):
            parts.append(one.path)
            continue
        if looks_like_root(path):
            hint = "leave it out of --merge"
            raise AgentError(f"{one.path} is a host by itself", hint=hint, status=os.EX_USAGE)
        found = [str(file) for file in map(path.joinpath, _names_in(path)) if _is_input(file)]
        if not found:
            raise AgentError(f"{one.path} has no file of a host in it", status=os.EX_NOINPUT)
        parts += found
    return Named(Kind.MERGE, ", ".join(one.path for one in named), tuple(parts))


class _InFolder(NamedTuple):
    """Inputs of one kind in a directory.

    Args:
        kind: of each.
        folder: in which they are.
        names: all of them in one text, with ``/`` between: there may be very many, in every process.
    """

    kind: Kind
    folder: Path
    names: str


class Inputs:
    """All inputs, in order; they are made when they are asked for.

    Args:
        parts: of which they consist.
    """

    def __init__(self, parts: Iterable[Named | _InFolder]) -> None:
        self._parts = tuple(parts)
        self._number = sum(
            1 if isinstance(part, Named) else part.names.count("/") + 1 for part in self._parts
        )

    def __iter__(self) -> Iterator[Named]:
        """Each of them."""
        for part in self._parts:
            if isinstance(part, Named):
                yield part
            else:
                names = re.finditer(r"[^/]+", part.names)
                yield from (Named(part.kind, str(part.folder / name[0])) for name in names)

    def __len__(self) -> int:
        """How many they are."""
        return self._number


def expand(named: Sequence[Named]) -> Inputs:
    """The inputs, with each directory of captures replaced by the captures in it, in order of their names.

    Files of one host that lie together are one input.

    Raises:
        AgentError: standard input is named twice.
    """
    if sum(one.path == STANDARD_STREAM for one in named) > 1:
        raise AgentError("standard input is named twice", status=os.EX_USAGE)
    return Inputs(part for one in named for part in _expanded(one))


def _expanded(one: Named) -> Iterable[Named | _InFolder]:
    path = Path(one.path)
    if one.kind is Kind.CAPTURE and is_folder(path):
        one = Named(Kind.ANY, one.path)  # unpacked, or a directory of captures
    if one.kind in (Kind.ROOT, Kind.ANY) and is_folder(path) and not looks_like_root(path):
        return list(_captures(path, one.kind, MAX_DEPTH)) or [one]
    return [one]


def _captures(folder: Path, kind: Kind, depth: int) -> Iterator[Named | _InFolder]:
    try:
        names = _names_in(folder)
        few = islice(filter(_is_input, map(folder.joinpath, names)), MOST_FILES + 1)
        together = of_one_host(list(few)) if kind is Kind.ANY else []
    except OSError:
        yield Named(kind, str(folder))  # reading it says why not
        return
    if together:
        yield Named(Kind.MERGE, str(folder), tuple(map(str, together)))

    def what(name: str) -> str | None:
        path = folder / name
        if is_folder(path):
            if looks_like_root(path):
                return Kind.ROOT
            return _DEEPER if depth and not path.is_symlink() else None
        return Kind.ANY if kind is Kind.ANY and _is_input(path) and path not in together else None

    for found, some in groupby(names, what):
        if found == _DEEPER:
            for name in some:
                yield from _captures(folder / name, kind, depth - 1)
        elif found is not None:
            yield _InFolder(Kind(found), folder, "/".join(some))


def _names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def _is_input(path: Path) -> bool:
    return _LIKE_AN_INPUT.fullmatch(path.name) is not None and os.path.isfile(path)  # noqa: PTH113  as above
