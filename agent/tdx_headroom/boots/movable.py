# SPDX-License-Identifier: Apache-2.0
"""Where the movable zone of each node begins, in which no PAMT can lie (mm/mm_init.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.address import GIB, MIB, PAGE, align_down, align_up
from tdx_headroom.facts.command_line import name_and_value, parse_amount, parse_unsigned

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tdx_headroom.facts.host_facts import MemoryRegion

BLOCK_PAGES = 1024
"""``MAX_ORDER_NR_PAGES``."""

_Pages = tuple[int, int]


def movable_starts(regions: Sequence[MemoryRegion], arguments: Iterable[str]) -> dict[int, int] | None:
    """Start of the movable zone by node, as ``plan.zones.zones_of()`` takes it; None where it is unknown.

    ``find_zone_movable_pfns_for_nodes()``: the memory for the kernel is spread evenly over the nodes.

    Args:
        regions: memory regions at boot.
        arguments: of the command line. What ``movable_node`` and ``kernelcore=mirror`` do depends on SRAT and
            on the EFI map.
    """
    given = [name_and_value(argument) for argument in arguments]
    names = {name for name, _ in given}
    if "movable_node" in names or ("kernelcore", "mirror") in given:
        return None
    if any(r.node is None for r in regions) and names & {"kernelcore", "movablecore"}:
        return None
    nodes: dict[int, list[_Pages]] = {}
    for region in regions:
        first, last = align_up(region.start, PAGE) // PAGE, align_down(region.end, PAGE) // PAGE
        if first < last:
            nodes.setdefault(region.node or 0, []).append((first, last))
    total = sum(last - first for pages in nodes.values() for first, last in pages)
    core = _kernel_pages(given, total)
    if not core or core >= total:
        return {}
    end = max(pages[-1][1] for pages in nodes.values())
    lowest = (4 * GIB if end * PAGE > 4 * GIB else 16 * MIB) // PAGE
    found = {}
    for node, start in _spread(dict(sorted(nodes.items())), core, lowest).items():
        rounded = align_up(start, BLOCK_PAGES)
        if start and rounded < nodes[node][-1][1]:
            found[node] = rounded * PAGE
    return found


def _kernel_pages(given: Iterable[tuple[str, str | None]], total: int) -> int:
    """How many pages are for the kernel at least; 0: there is no movable zone."""
    wanted = {"kernelcore": 0, "movablecore": 0}
    percent = {"kernelcore": 0, "movablecore": 0}
    for name, value in given:
        if name not in wanted or value is None:
            continue
        number, rest = parse_unsigned(value)
        if rest.startswith("%"):
            percent[name] = number
        else:
            wanted[name], percent[name] = parse_amount(value)[0] // PAGE, 0
    for name, share in percent.items():
        if share:
            wanted[name] = total * 100 * share // 10000
    if wanted["movablecore"]:
        movable = min(total, align_up(wanted["movablecore"], BLOCK_PAGES))
        return max(wanted["kernelcore"], total - movable)
    return wanted["kernelcore"]


def _spread(nodes: dict[int, list[_Pages]], core: int, lowest: int) -> dict[int, int]:
    """The first page after what each node gives to the kernel, round by round, with a node less each time."""
    starts = dict.fromkeys(nodes, 0)
    usable = len(nodes)
    while True:
        share = core // usable
        for node, pages in nodes.items():
            if core < share:
                share = core // usable
            starts[node], core = _take(pages, starts[node], share, core, lowest)
        usable -= 1
        if not (usable and core > usable):
            return starts


def _take(pages: Sequence[_Pages], start: int, left: int, core: int, lowest: int) -> tuple[int, int]:
    """One node's turn: where its movable memory starts, and how much the kernel still wants."""
    for low, last in pages:
        first = max(low, start)
        if first >= last:
            continue
        if first < lowest:
            kernel = min(last, lowest) - first
            left -= min(kernel, left)
            core -= min(kernel, core)
            if last <= lowest:
                start = last
                continue
            first = lowest
        size = min(last - first, left)
        start = first + size
        core -= min(core, size)
        left -= size
        if not left:
            break
    return start, core
