# SPDX-License-Identifier: Apache-2.0
"""Where facts come from, how reading each source went, and where two sources differ; pure data."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, Self

from tdx_headroom.address import Range  # noqa: TC001  the codec reads the annotation

if TYPE_CHECKING:
    from tdx_headroom.errors import SourceError

RESERVED = "memblock-reserved"
"""The source of all memory that boot has reserved."""

_LAST_SEEN = re.compile(r"last seen, boot (.*), BIOS version (.*)", re.DOTALL)
_PLACEMENT = re.compile(r"zones from (.*), reserved memory (?:unknown|from (.*))", re.DOTALL)


class MemorySource(StrEnum):
    """A source of memory regions, best first; facts may name one that this agent does not know."""

    MEMBLOCK = "memblock"
    LOG_NODE_RANGES = "log-node-ranges"
    IOMEM = "iomem"
    LOG_E820 = "log-e820"
    FIRMWARE_MEMMAP = "firmware-memmap"

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, str):
            return None
        other = str.__new__(cls, value)
        other._name_, other._value_ = "OTHER", value
        return other

    @property
    def kernels_own(self) -> bool:
        """Whether it is the kernel's own list of memory regions, split where TDX sees them split."""
        return self in (MemorySource.MEMBLOCK, MemorySource.LOG_NODE_RANGES)

    @property
    def exact(self) -> bool:
        """Whether it shows the memory that the kernel has, not only what the firmware gave it."""
        return self.kernels_own or self is MemorySource.IOMEM

    @property
    def from_log(self) -> bool:
        """Whether it is the kernel's log, of which a part may be lost."""
        return self in (MemorySource.LOG_NODE_RANGES, MemorySource.LOG_E820)


class CmrSource(NamedTuple):
    """Where the CMRs come from; in the facts' JSON it is the text.

    Args:
        name: the source's, also that of an earlier boot's CMRs.
        boot_id, bios_version: of the earlier boot that showed them; None where this boot does.
    """

    name: str = "kernel-log"
    boot_id: str | None = None
    bios_version: str | None = None

    @property
    def last_seen(self) -> bool:
        """Whether an earlier boot showed them, not this one."""
        return self.boot_id is not None

    def __str__(self) -> str:
        if not self.last_seen:
            return self.name
        return f"last seen, boot {self.boot_id}, BIOS version {self.bios_version}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """From the text."""
        match = _LAST_SEEN.fullmatch(text)
        return cls(boot_id=match[1], bios_version=match[2]) if match else cls(text)


class PlacementSource(NamedTuple):
    """Where that comes from by which the PAMTs' places are predicted; in the facts' JSON it is the text.

    Args:
        zones: source of the zones.
        reserved: source of the reserved memory; None where it is unknown.
    """

    zones: str = "the memory regions"
    reserved: str | None = None

    def __str__(self) -> str:
        reserved = "unknown" if self.reserved is None else f"from {self.reserved}"
        return f"zones from {self.zones}, reserved memory {reserved}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """From the text; None where an agent never wrote it."""
        match = _PLACEMENT.fullmatch(text)
        return cls(match[1], match[2]) if match else None


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """How reading one source went.

    What is not compared is not in the facts' JSON either: who reads them shows the sentence.

    Args:
        source: its name.
        origin: the path or log that it was read from.
        ok: whether it was.
        error: why not, as a sentence.
        reason: the same without the source's name, where nothing else comes before it.
        public: the sentence without the text that was at fault.
        absent: there is no such source here, as opposed to one that cannot be used.
    """

    source: str
    origin: str
    ok: bool
    error: str | None = None
    reason: str | None = field(default=None, compare=False)
    public: str | None = field(default=None, compare=False)
    absent: bool = field(default=False, compare=False)

    @classmethod
    def of(cls, source: str, origin: str, error: SourceError | None) -> Self:
        """The status of a source that was read, or could not be."""
        if error is None:
            return cls(source, origin, ok=True)
        return cls(
            source,
            origin,
            ok=False,
            error=str(error),
            reason=error.told() if error.where == source else str(error),
            public=f"{error.where}: {error.told(quoting=False)}",
            absent=error.absent,
        )


class LastCmrs(NamedTuple):
    """CMRs of an earlier boot, and what has to be the same for them to hold still.

    ``cmrs`` are ``(base, size)``; ``memory_total`` is in bytes.
    """

    cmrs: tuple[tuple[int, int], ...]
    boot_id: str
    bios_version: str | None
    memory_total: int | None


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Two memory sources that differ: which ranges only one of them has."""

    a: str
    b: str
    only_a: tuple[Range, ...]
    only_b: tuple[Range, ...]

    @property
    def bytes(self) -> int:
        """Size of all the differences together."""
        return sum(r.size for r in self.only_a) + sum(r.size for r in self.only_b)
