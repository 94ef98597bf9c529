# SPDX-License-Identifier: Apache-2.0
"""Pairs of boots of one machine under two command lines: what the first shows must foretell the second."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from tests.kernel.guestmap import GIB, HIGH, KIB, LOW_TAIL, MIB, GuestMap, Module
from tests.kernel.pieces import KINDS, PAGE, amount, piece, scattered, some_memory, spans

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST = 1700
"""Characters of a command line; the kernel takes 2048, a few are the test's own."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two guests with the same machine; only the kernel's arguments differ."""

    first: GuestMap
    second: GuestMap


def pairs(seed: int, count: int) -> list[Pair]:
    """The first ``count`` pairs of the seed."""
    return [_pair(Random(f"{seed}/pair/{number}"), number) for number in range(count)]


def _pair(r: Random, number: int) -> Pair:
    sizes: tuple[int, ...] = ()
    if r.random() < 0.4:
        sizes = tuple(r.randint(512, 3000) * MIB for _ in range(r.randint(2, 4)))
    memory = sum(sizes) if sizes else max(some_memory(r), r.choice((0, 0, 5 * GIB)))
    module = Module(max_reserved=r.choice((16, 16, 12, 8, 6, 5, 4, 3)))
    machine = GuestMap(
        2 * number, "pair", memory, machine=r.choice(("q35", "q35", "pc")), nodes=sizes, module=module
    )
    before = r.choice(((), (), _arguments(r, machine)))
    return Pair(_with(machine, 0, before), _with(machine, 1, _arguments(r, machine)))


def _with(machine: GuestMap, more: int, arguments: tuple[str, ...]) -> GuestMap:
    return GuestMap(
        machine.number + more,
        "pair",
        machine.memory,
        machine=machine.machine,
        nodes=machine.nodes,
        arguments=arguments,
        module=machine.module,
    )


def _arguments(r: Random, g: GuestMap) -> tuple[str, ...]:
    """One to three kinds of arguments, in any order, as far as they fit."""
    found: list[str] = []
    for make in r.sample(MAKERS, r.choice((1, 1, 2, 3))):
        found += make(r, g)
    if r.random() < 0.2:
        found.insert(
            r.randint(0, len(found)), r.choice(("mem=nopentium", "mem=0", "memmap=foo", "numa=nohmat"))
        )
    while sum(map(len, found)) + len(found) > LONGEST:
        found.pop()
    return tuple(found)


def _spot(r: Random, g: GuestMap) -> tuple[int, int]:
    """Start and size of a piece anywhere that a hole can be."""
    span = r.choice(spans(g))
    size = r.choice((1, 0x800, PAGE, 0x1FFF, 64 * KIB, MIB, r.randrange(1, 64 * MIB)))
    return r.randrange(span[0], max(span[0] + 1, span[1] - size), r.choice((1, PAGE, PAGE, MIB))), size


def _written(r: Random, value: int) -> str:
    """A number in one of the notations that the kernel reads."""
    return r.choice((amount(value), f"{value:#x}", f"{value}", f"0{value:o}", amount(value).lower()))


def _holes(r: Random, g: GuestMap) -> list[str]:
    return list(scattered(r, g, r.choice((1, 3, 8, 16)), r.choice((4 * MIB, 64 * MIB))))


def _odd_holes(r: Random, g: GuestMap) -> list[str]:
    made = []
    for _ in range(r.randint(1, 8)):
        at, size = _spot(r, g)
        made.append(f"{_written(r, size)}{r.choice(KINDS + '@')}{_written(r, at)}")
    if r.random() < 0.3:
        return [f"memmap={','.join(made)}"]
    return [r.choice(("memmap={}", '"memmap={}"', 'memmap="{}"')).format(text) for text in made]


def _converted(r: Random, g: GuestMap) -> list[str]:
    made = []
    for _ in range(r.randint(1, 6)):
        at, size = _spot(r, g)
        types = r.choice(
            ("-1+2", "-1+3", "-1+12", "-1", "+2", "+5", "", "-2", "-1+0xefffffff", "-1+2x", "-2+1")
        )
        made.append(f"memmap={_written(r, size)}%{_written(r, at)}{types}")
    return made


def _limit(r: Random, g: GuestMap) -> list[str]:
    low = HIGH + 64 * MIB if g.high_end > HIGH + 128 * MIB else g.low_end * 3 // 4
    high = g.high_end if g.high_end > HIGH + 128 * MIB else g.low_end
    cut = r.randrange(low, high, r.choice((PAGE, MIB))) + r.choice((0, 0, 0x800))
    return [f"{r.choice(('mem', 'memmap'))}={_written(r, cut)}"]


def _exactmap(r: Random, g: GuestMap) -> list[str]:
    """The map anew; what stands before it on the line counts for nothing."""
    tail = g.low_end - LOW_TAIL
    first = r.randrange(160 * MIB, max(161 * MIB, min(tail, 1200 * MIB)), PAGE) + r.choice((0, 0, 0x345))
    made = [piece("@", 0, 0x9FC00), piece("@", MIB, first - MIB)]
    at, end = first, tail
    for _ in range(r.randint(1, 10)):
        at += r.choice((0, 1, PAGE, 0x1800, MIB, r.randrange(256 * MIB)))
        if at + MIB >= end:
            at, end = HIGH + r.choice((0, PAGE, 0x123)), g.high_end
        if at >= end:
            break
        size = min(r.choice((0x800, PAGE, 3 * PAGE, 100 * MIB, r.randrange(1, GIB))), end - at)
        made.append(piece(r.choice("@@@@$#"), at, size))
        at += size
    made.append(piece("@", tail, LOW_TAIL - 2 * MIB))
    before = _holes(r, g)[:4] if r.random() < 0.4 else []
    if r.random() < 0.3:
        return [*before, "memmap=exactmap," + ",".join(m.removeprefix("memmap=") for m in made)]
    return [*before, "memmap=exactmap", *made]


def _numa(r: Random, _g: GuestMap) -> list[str]:
    return [r.choice(("numa=off", "numa=off", "numa=noacpi", "numa=fake=2", "numa=fake=700M"))]


def _crash(r: Random, _g: GuestMap) -> list[str]:
    return [
        r.choice(("crashkernel=128M", "crashkernel=256M,high", "crashkernel=64M@320M", "crashkernel=1G-:96M"))
    ]


def _huge(r: Random, g: GuestMap) -> list[str]:
    most = max(2, g.memory // (2 * MIB))
    return r.choice(
        (
            [f"hugepages={r.randint(1, most)}"],
            ["hugepagesz=2M", f"hugepages={r.randint(most // 2, most)}"],
            ["hugepagesz=1G", f"hugepages={r.randint(1, 4)}"],
            ["default_hugepagesz=1G", "hugepages=1", "hugepagesz=2M", f"hugepages={r.randint(1, most)}"],
            [f"hugepages=0:{r.randint(1, most)}"],
        )
    )


def _cma(r: Random, g: GuestMap) -> list[str]:
    share = r.randint(1, max(1, g.memory // GIB))
    return [r.choice((f"cma={r.randint(16, 400)}M", f"cma={share}G", f"hugetlb_cma={share}G", "cma=0"))]


def _movable(r: Random, g: GuestMap) -> list[str]:
    share = r.randint(256, max(512, g.memory // MIB))
    made = [
        r.choice(
            (
                f"kernelcore={share}M",
                f"movablecore={share}M",
                f"movablecore={r.randint(10, 95)}%",
                f"kernelcore={r.randint(10, 95)}%",
                "kernelcore=1G",
                "movable_node",
                "kernelcore=mirror",
            )
        )
    ]
    return made + ([f"movablecore={r.randint(10, 90)}%"] if r.random() < 0.2 else [])


def _set_aside(r: Random, _g: GuestMap) -> list[str]:
    return [r.choice(("reserve_mem=64M:2M:mine", "kho=on", "reserve_mem=1M:4096:trace"))]


MAKERS: list[Callable[[Random, GuestMap], list[str]]] = [
    _holes, _holes, _odd_holes, _odd_holes, _converted, _limit, _exactmap, _exactmap, _numa,
    _crash, _huge, _huge, _cma, _movable, _movable, _set_aside,
]  # fmt: skip
