# SPDX-License-Identifier: Apache-2.0
"""What the kernel did, from its lines and from what the stand-in was handed. The agent never sees this."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.kernel.tools import KernelTestError

STANDIN = "tdx-standin: "
KERNEL = "virt/tdx: "

_CONSTRUCT = (
    "initialization failed: TDMR",
    "consumed TDMRs reaching limit",
    "TDMR [",
)
"""How lines of construct_tdmrs() begin; all others come before or after the plan is made."""


@dataclass(frozen=True, slots=True)
class Allocation:
    """One call of alloc_contig_pages() for a PAMT.

    Args:
        base, size: of the TDMR, bytes.
        pages: size of the PAMT in pages.
        nid: the node that was asked for (tdmr_get_nid()).
        at: address of the PAMT; None when there was no room.
        node, zone: where the PAMT is.
    """

    base: int
    size: int
    pages: int
    nid: int
    at: int | None
    node: int | None
    zone: str | None


@dataclass(frozen=True, slots=True)
class HandedTdmr:
    """A TDMR as TDH.SYS.CONFIG was handed it, bytes; ``areas`` are ``(offset, size)`` in that order."""

    base: int
    size: int
    pamt_base: int
    pamt_4k: int
    pamt_2m: int
    pamt_1g: int
    areas: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Truth:
    """One boot.

    Args:
        allocations: PAMTs in the order in which the kernel allocated them.
        tdmrs: what TDH.SYS.CONFIG was handed; None when the kernel did not get that far.
        status: what TDH.SYS.CONFIG returned; None when it was not called (or told to fail).
        lines: the kernel's own TDX lines, without their prefix.
    """

    allocations: tuple[Allocation, ...]
    tdmrs: tuple[HandedTdmr, ...] | None
    status: int | None
    lines: tuple[str, ...]

    @property
    def initialized(self) -> bool:
        """Whether TDX came up."""
        return any(line in ("module initialized", "TDX-Module initialized") for line in self.lines)

    @property
    def errno(self) -> int | None:
        """The errno that the kernel gave up with; None when it did not give up in this function."""
        return self._number(r"(?:module|TDX-Module) initialization failed \((-\d+)\)")

    @property
    def pamt_kib(self) -> int | None:
        """What the kernel printed as allocated for PAMTs."""
        return self._number(r"(\d+) KB allocated for PAMT")

    @property
    def messages(self) -> tuple[str, ...]:
        """The lines that construct_tdmrs() printed, in order."""
        return tuple(line for line in self.lines if line.startswith(_CONSTRUCT))

    @property
    def constructed(self) -> bool:
        """Whether construct_tdmrs() succeeded, whatever came after it."""
        return self.tdmrs is not None

    @property
    def attempted(self) -> bool:
        """Whether the kernel got as far as construct_tdmrs()."""
        return self.constructed or bool(self.allocations) or bool(self.messages)

    @property
    def no_room(self) -> bool:
        """Whether a PAMT could not be allocated."""
        return any(allocation.at is None for allocation in self.allocations)

    @property
    def failed_tdmr(self) -> tuple[int, int] | None:
        """The TDMR ``[start, end)`` that the kernel named."""
        for line in self.lines:
            found = re.fullmatch(
                r"initialization failed: TDMR \[0x([0-9a-f]+), 0x([0-9a-f]+)\): reserved areas exhausted\.",
                line,
            )
            if found:
                return int(found[1], 16), int(found[2], 16)
        return None

    def _number(self, pattern: str) -> int | None:
        for line in self.lines:
            if found := re.fullmatch(pattern, line):
                return int(found[1])
        return None


def split_log(kmsg: str) -> tuple[str, list[str]]:
    """Take the stand-in's records out of a dump of /dev/kmsg.

    Sequence numbers are closed up behind them, so that what is left looks like a log without a stand-in and
    not like one that has lost records.

    Returns:
        The records that the agent may see, and the stand-in's lines without their prefix.
    """
    kept: list[str] = []
    taken: list[str] = []
    skipping = False
    for line in kmsg.splitlines(keepends=True):
        if line.startswith(" "):
            if not skipping:
                kept.append(line)
            continue
        head, _, text = line.partition(";")
        skipping = text.startswith(STANDIN)
        if skipping:
            taken.append(text.removeprefix(STANDIN).rstrip("\n"))
            continue
        priority, sequence, rest = head.split(",", 2)
        kept.append(f"{priority},{int(sequence) - len(taken)},{rest};{text}")
    return "".join(kept), taken


def read_truth(kmsg: str, standin: list[str]) -> Truth:
    """What happened, from the kernel's log and the stand-in's lines.

    Raises:
        KernelTestError: the stand-in wrote a line that is not understood here, or nothing at all.
    """
    allocations: list[Allocation] = []
    tdmrs: list[tuple[dict[str, int], list[tuple[int, int]]]] = []
    status: int | None = None
    if not standin:
        raise KernelTestError("the log has no line of the stand-in; did the kernel get to TDX at all?")
    for line in standin:
        if found := _ALLOCATION.fullmatch(line):
            allocations.append(_allocation(found))
        elif found := _TDMR.fullmatch(line):
            tdmrs.append(({k: int(v, 0) for k, v in found.groupdict().items()}, []))
        elif found := _AREA.fullmatch(line):
            tdmrs[int(found[1])][1].append((int(found[3], 16), int(found[4], 16)))
        elif found := re.fullmatch(r"config (0x[0-9a-f]+)", line):
            status = int(found[1], 16)
        elif not re.fullmatch(r"limits .*|tdx_enable -?\d+|leaf 0x[0-9a-f]+ fails as told: .*", line):
            raise KernelTestError(f"the stand-in wrote {line!r}")
    records = (line.partition(";")[2] for line in kmsg.splitlines() if not line.startswith(" "))
    lines = tuple(text.removeprefix(KERNEL) for text in records if text.startswith(KERNEL))
    return Truth(tuple(allocations), _handed(tdmrs) if tdmrs else None, status, lines)


_ALLOCATION = re.compile(
    r"pamt base (0x[0-9a-f]+) size (0x[0-9a-f]+) pages (0x[0-9a-f]+) nid (-?\d+) "
    r"(?:none|at (0x[0-9a-f]+) node (\d+) zone (\w+))"
)
_TDMR = re.compile(
    r"tdmr (?P<index>\d+) base (?P<base>0x[0-9a-f]+) size (?P<size>0x[0-9a-f]+) "
    r"pamt 4k (?P<base_4k>0x[0-9a-f]+)\+(?P<size_4k>0x[0-9a-f]+) "
    r"2m (?P<base_2m>0x[0-9a-f]+)\+(?P<size_2m>0x[0-9a-f]+) "
    r"1g (?P<base_1g>0x[0-9a-f]+)\+(?P<size_1g>0x[0-9a-f]+) areas (?P<areas>\d+)"
)
_AREA = re.compile(r"area (\d+) (\d+) offset 0x([0-9a-f]+) size 0x([0-9a-f]+)")


def _allocation(found: re.Match[str]) -> Allocation:
    base, size, pages, nid, at, node, zone = found.groups()
    return Allocation(
        base=int(base, 16),
        size=int(size, 16),
        pages=int(pages, 16),
        nid=int(nid),
        at=None if at is None else int(at, 16),
        node=None if node is None else int(node),
        zone=zone,
    )


def _handed(tdmrs: list[tuple[dict[str, int], list[tuple[int, int]]]]) -> tuple[HandedTdmr, ...]:
    for number, (values, areas) in enumerate(tdmrs):
        if values["index"] != number or values["areas"] != len(areas):
            raise KernelTestError(
                f"the stand-in's lines on TDMR {number} are not all there; was the log too small?"
            )
        if (values["base_2m"], values["base_1g"]) != (
            values["base_4k"] + values["size_4k"],
            values["base_2m"] + values["size_2m"],
        ):
            raise KernelTestError(
                f"the PAMT of TDMR {number} is not one block of 4K, 2M and 1G part: {values}"
            )
    return tuple(
        HandedTdmr(v["base"], v["size"], v["base_4k"], v["size_4k"], v["size_2m"], v["size_1g"], tuple(areas))
        for v, areas in tdmrs
    )
