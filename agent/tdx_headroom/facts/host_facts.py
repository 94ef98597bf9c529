# SPDX-License-Identifier: Apache-2.0
"""What is known about one host: the input of the plan. Frozen; round-trips through JSON.

The JSON form is ``tdx-headroom/facts/1`` (docs/formats.md); integers are bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple, cast

from tdx_headroom.address import ADDRESS_SPACE, Range
from tdx_headroom.errors import AgentError
from tdx_headroom.facts.boots import BootInventory, KernelTraits
from tdx_headroom.facts.codec import DecodeError, decode, encode
from tdx_headroom.facts.kernel_report import KernelReport
from tdx_headroom.facts.observations import (
    FirmwareRange,
    HolesBefore,
    LogHealth,
    NodeRange,
    Platform,
    Suspect,
    TdxSeen,
    Zone,
)
from tdx_headroom.facts.sources import CmrSource, Disagreement, MemorySource, PlacementSource, SourceStatus

SCHEMA = "tdx-headroom/facts/1"


class FactsError(AgentError):
    """A facts object that cannot be used; says which part of it, and why."""


class MemoryRegion(NamedTuple):
    """Memory ``[start, end)`` in bytes and its NUMA node, None when no source tells it."""

    start: int
    end: int
    node: int | None


class PamtEntrySize(NamedTuple):
    """Bytes per PAMT entry at each page size, as the module reports them."""

    size_4k: int = 16
    size_2m: int = 16
    size_1g: int = 16


class Limits(NamedTuple):
    """The TDX module's limits. The defaults are those of every module seen so far.

    ``pamt_page_bitmap_entry_bits`` is None without Dynamic PAMT, else the bits per 4 KiB page.
    """

    max_tdmrs: int = 64
    max_reserved_per_tdmr: int = 16
    pamt_entry_size: PamtEntrySize = PamtEntrySize()
    pamt_page_bitmap_entry_bits: int | None = None


DEFAULT_LIMITS = Limits()


class Placement(StrEnum):
    """Where PAMTs land: where the kernel will put them, at given bases, or outside every TDMR."""

    PREDICTED = "predicted"
    GIVEN = "given"
    NONE = "none"


class GivenBases(NamedTuple):
    """PAMT bases in TDMR order; None for a PAMT outside every TDMR."""

    bases: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class HostFacts:
    """One host. Unknown is None, never empty or zero.

    Args:
        host: its name, where that is known.
        kernel_release: ``uname -r``.
        limits: of the TDX module.
        memory_regions: raw, in address order, not page-rounded.
        cmrs: ``(base, size)`` in table order as the module reports them, empty entries included.
        pamt_placement: where to assume the PAMTs.
        memory_source: the source that ``memory_regions`` come from.
        node_source: the source that their nodes come from.
        cmr_source: the source of the CMRs.
        offline: memory that was added since the boot and that the kernel does not use.
        suspects: memory that is most likely not convertible, by what it is; each address once.
        zones: of all nodes, holes included; None: to be derived from the memory regions.
        reserved: memory that boot has reserved for good.
        hugetlb_bytes: memory in huge pages.
        placement_source: the sources of ``zones`` and ``reserved``.
        firmware_map: the firmware's memory map, for what a hole is made of.
        firmware_map_certain: whether it is surely that of the boot, without what hot-add has put there since.
        command_line: the kernel's arguments about memory, TDX and hibernation, others left out.
        sources, disagreements, kernel_log, log_health, platform: how all this was learnt.
        tdx_before: what the boot before has shown of TDX.
        traits: what the kernel does, by its own files.
        boots: what is staged on its disk; None: nobody has looked.
        node_ranges: which memory is of which node, holes included, as SRAT has it.
        holes_before: what TDMRs have needed in earlier boots like this one.
    """

    host: str | None = None
    kernel_release: str | None = None
    limits: Limits = DEFAULT_LIMITS
    memory_regions: tuple[MemoryRegion, ...] | None = None
    cmrs: tuple[tuple[int, int], ...] | None = None
    pamt_placement: Placement | GivenBases = Placement.PREDICTED
    memory_source: MemorySource | None = None
    node_source: str | None = None
    cmr_source: CmrSource | None = None
    offline: tuple[Range, ...] | None = None
    suspects: tuple[Suspect, ...] = ()
    zones: tuple[Zone, ...] | None = None
    reserved: tuple[Range, ...] | None = None
    hugetlb_bytes: int | None = None
    placement_source: PlacementSource | None = None
    firmware_map: tuple[FirmwareRange, ...] | None = None
    firmware_map_certain: bool = False
    command_line: tuple[str, ...] | None = None
    sources: tuple[SourceStatus, ...] = ()
    disagreements: tuple[Disagreement, ...] = ()
    kernel_log: KernelReport | None = None
    log_health: LogHealth | None = None
    platform: Platform | None = None
    tdx_before: TdxSeen | None = None
    traits: KernelTraits | None = None
    boots: BootInventory | None = None
    node_ranges: tuple[NodeRange, ...] | None = None
    holes_before: tuple[HolesBefore, ...] = ()

    @property
    def nodes_known(self) -> bool:
        """Whether every memory region's node is known."""
        return self.memory_regions is not None and all(r.node is not None for r in self.memory_regions)

    @property
    def boots_told(self) -> bool:
        """Whether the disk tells of boots, be it only why none is known; not where nobody may look at all."""
        if self.boots is None:
            return False
        closed = any(not source.ok and not source.absent for source in self.sources)
        return bool(self.boots.entries) or (self.boots.unknown is not None and not closed)

    def to_json(self) -> dict[str, Any]:
        """The facts as a JSON object."""
        limits = self.limits
        placement: object = self.pamt_placement
        if isinstance(placement, GivenBases):
            placement = {"bases": list(placement.bases)}
        return {
            "schema": SCHEMA,
            "host": self.host,
            "kernel_release": self.kernel_release,
            "limits": {
                "max_tdmrs": limits.max_tdmrs,
                "max_reserved_per_tdmr": limits.max_reserved_per_tdmr,
                "pamt_entry_size": dict(zip(("4k", "2m", "1g"), limits.pamt_entry_size, strict=True)),
                "pamt_page_bitmap_entry_bits": limits.pamt_page_bitmap_entry_bits,
            },
            "memory_regions": encode(self.memory_regions),
            "cmrs": encode(self.cmrs),
            "pamt_placement": placement,
            **{name: encode(getattr(self, name)) for name in _EXTRA},
        }

    @classmethod
    def from_json(cls, value: object) -> HostFacts:
        """The facts in a JSON object.

        Raises:
            FactsError: it is no facts object, or a part of it cannot be used; the message names the part.
        """
        if type(value) is not dict:
            raise FactsError("a facts object is expected, {...}")
        table = cast("dict[str, Any]", value)
        schema = table.get("schema")
        if schema != SCHEMA:
            what = "missing" if schema is None else repr(schema)
            raise FactsError(f"schema is {what}", hint=f"this agent reads {SCHEMA}")
        for key in ("memory_regions", "cmrs"):
            if key not in table:
                raise FactsError(f"{key} is missing", hint="give null when it is unknown")
        try:
            facts = cls(
                host=decode(str | None, table.get("host"), "host"),
                kernel_release=decode(str | None, table.get("kernel_release"), "kernel_release"),
                limits=_limits(table.get("limits")),
                memory_regions=_regions(table["memory_regions"]),
                cmrs=_cmrs(table["cmrs"]),
                pamt_placement=_placement(table.get("pamt_placement", Placement.PREDICTED)),
                **{name: decode(_EXTRA[name], table[name], name) for name in _EXTRA if name in table},
            )
        except DecodeError as error:
            raise FactsError(str(error)) from None
        if (facts.hugetlb_bytes or 0) < 0:
            raise FactsError(f"hugetlb_bytes is {facts.hugetlb_bytes}", hint="bytes in huge pages, or null")
        return facts


_EXTRA: dict[str, Any] = {
    "memory_source": MemorySource | None,
    "node_source": str | None,
    "cmr_source": CmrSource | None,
    "offline": tuple[Range, ...] | None,
    "suspects": tuple[Suspect, ...],
    "zones": tuple[Zone, ...] | None,
    "reserved": tuple[Range, ...] | None,
    "hugetlb_bytes": int | None,
    "placement_source": PlacementSource | None,
    "firmware_map": tuple[FirmwareRange, ...] | None,
    "firmware_map_certain": bool,
    "command_line": tuple[str, ...] | None,
    "sources": tuple[SourceStatus, ...],
    "disagreements": tuple[Disagreement, ...],
    "kernel_log": KernelReport | None,
    "log_health": LogHealth | None,
    "platform": Platform | None,
    "tdx_before": TdxSeen | None,
    "traits": KernelTraits | None,
    "boots": BootInventory | None,
    "node_ranges": tuple[NodeRange, ...] | None,
    "holes_before": tuple[HolesBefore, ...],
}


def _is_address(value: object) -> bool:
    return type(value) is int and 0 <= value <= ADDRESS_SPACE


def _positive(table: dict[str, Any], key: str, default: int, where: str) -> int:
    value = table.get(key, default)
    if type(value) is not int or value <= 0 or value > ADDRESS_SPACE:
        raise FactsError(f"{where}.{key} is {value!r}", hint="a positive integer is expected")
    return value


def _limits(value: object) -> Limits:
    if value is None:
        return DEFAULT_LIMITS
    if type(value) is not dict:
        raise FactsError("limits: expected an object")
    sizes = value.get("pamt_entry_size", {})
    if type(sizes) is not dict:
        raise FactsError("limits.pamt_entry_size: expected an object")
    bits = value.get("pamt_page_bitmap_entry_bits")
    if bits is not None:
        bits = _positive(value, "pamt_page_bitmap_entry_bits", 1, "limits")
    return Limits(
        max_tdmrs=_positive(value, "max_tdmrs", 64, "limits"),
        max_reserved_per_tdmr=_positive(value, "max_reserved_per_tdmr", 16, "limits"),
        pamt_entry_size=PamtEntrySize(
            *(_positive(sizes, key, 16, "limits.pamt_entry_size") for key in ("4k", "2m", "1g"))
        ),
        pamt_page_bitmap_entry_bits=bits,
    )


def _regions(value: object) -> tuple[MemoryRegion, ...] | None:
    """Memory regions must be what memblock can hold: in address order, disjoint, within 64 bits."""
    if value is None:
        return None
    if type(value) is not list:
        raise FactsError("memory_regions: expected a list or null")
    regions = []
    last = 0
    for i, item in enumerate(value):
        if type(item) is not list or len(item) != 3:
            raise FactsError(f"memory_regions[{i}] is {item!r}", hint="give [start, end, node or null]")
        start, end, node = item
        if not (_is_address(start) and _is_address(end)):
            raise FactsError(f"memory_regions[{i}]: {item!r} holds no 64-bit byte addresses")
        if end < start:
            raise FactsError(f"memory_regions[{i}] ends before it starts: {item!r}")
        if start < last:
            raise FactsError(
                f"memory_regions[{i}] starts at {start}, below the end {last} of the one before",
                hint="give them in address order, without overlap",
            )
        if node is not None and (type(node) is not int or node < 0):
            raise FactsError(f"memory_regions[{i}]: node is {node!r}", hint="a number or null is expected")
        regions.append(MemoryRegion(start, end, node))
        last = end
    return tuple(regions)


def _cmrs(value: object) -> tuple[tuple[int, int], ...] | None:
    """CMRs are taken as given, in any order: what is odd about them is for the plan to find."""
    if value is None:
        return None
    if type(value) is not list:
        raise FactsError("cmrs: expected a list or null")
    for i, item in enumerate(value):
        if type(item) is not list or len(item) != 2 or not all(map(_is_address, item)):
            raise FactsError(f"cmrs[{i}] is {item!r}", hint="[base, size] in bytes is expected")
    return tuple((base, size) for base, size in value)


def _placement(value: object) -> Placement | GivenBases:
    if isinstance(value, str) and value in (Placement.PREDICTED, Placement.NONE):
        return Placement(value)
    if type(value) is dict and set(value) == {"bases"} and type(value["bases"]) is list:
        bases = value["bases"]
        if all(base is None or _is_address(base) for base in bases):
            return GivenBases(tuple(bases))
    raise FactsError(
        "pamt_placement is neither of its forms", hint='give "predicted", "none" or {"bases": [b0, b1, …]}'
    )
