# SPDX-License-Identifier: Apache-2.0
"""The kinds of memory maps. Each family makes one map from a random generator and a turn number.

All randomness comes from the generator that is handed in; the same generator state gives the same map.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tests.kernel.guestmap import GIB, HIGH, KIB, LOW_TAIL, MIB, GuestMap, Module, low_end
from tests.kernel.pieces import KINDS, PAGE, Span, amount, apart, piece, scattered, some_memory, spans

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    Family = Callable[[Random, int, GuestMap], GuestMap]
    Families = dict[str, tuple[int, Family]]
    """Each with its share: maps of it in a deck."""


def plain(r: Random, _turn: int, g: GuestMap) -> GuestMap:
    """Memory as the firmware has it."""
    return replace(g, memory=some_memory(r), machine=r.choice(("q35", "pc")))


def holes(r: Random, turn: int, g: GuestMap) -> GuestMap:
    """0 to 40 holes of every kind."""
    g = replace(g, memory=some_memory(r), machine=r.choice(("q35", "pc")))
    count = (0, 40, 5, 20)[turn] if turn < 4 else r.randint(0, 40)
    return replace(g, note=f"{count} holes", arguments=scattered(r, g, count))


def limit(r: Random, turn: int, g: GuestMap) -> GuestMap:
    """One TDMR that needs one area less than the limit, exactly the limit, or one more.

    The holes go into the last GiB below or above the PCI hole, so that the first region reaches into it and
    one TDMR covers it all. In the low TDMR two holes are there already (the first MiB and the firmware's
    tables) and no PAMT, because PAMTs go above 4 GiB. In the high one no hole is, and the PAMTs of both.
    """
    most = 16 if turn % 4 else r.choice((8, 12, 20, 24))
    wanted = most + (turn % 3) - 1
    g = replace(g, memory=r.choice((4, 5, 6)) * GIB, module=Module(max_reserved=most))
    low = turn % 2 == 0
    span = (GIB + MIB, g.low_end - LOW_TAIL) if low else (g.high_end - GIB + MIB, g.high_end - MIB)
    made = apart(r, span, wanted - 2)
    note = f"{wanted} areas of {most} wanted in the {'low' if low else 'high'} TDMR"
    return replace(g, note=note, arguments=tuple(piece(r.choice(KINDS), at, size) for at, size in made))


def borders(r: Random, _turn: int, g: GuestMap) -> GuestMap:
    """Holes that start on, end on, lie across or fill GiB borders, to the page and to the byte."""
    g = replace(g, memory=r.randint(3, 12) * GIB + r.choice((0, 0, 512 * MIB, 3 * MIB)))
    inside = [
        b for b in range(GIB, g.high_end, GIB) if any(a + 2 * MIB < b < e - 2 * MIB for a, e in spans(g))
    ]
    arguments = []
    for border in r.sample(inside, min(len(inside), r.randint(1, 6))):
        size = r.choice((PAGE, 2 * PAGE, 64 * KIB, MIB, MIB + 0x123))
        start = r.choice((border, border - size, border - size // 2, border + PAGE, border - 1, border + 1))
        if r.random() < 0.15 and border >= HIGH and border + GIB <= g.high_end - MIB:
            start, size = border, GIB
        arguments.append(piece(r.choice(KINDS), start, size))
    return replace(g, note=f"{len(arguments)} borders", arguments=tuple(arguments))


def tiny(r: Random, _turn: int, g: GuestMap) -> GuestMap:
    """Pieces that are smaller than a page or start inside one, close to each other."""
    g = replace(g, memory=some_memory(r))
    arguments = []
    for _ in range(r.randint(1, 6)):
        span = r.choice(spans(g))
        at = r.randrange(span[0], span[1] - 64 * KIB) if span[1] - span[0] > 64 * KIB else span[0]
        for _ in range(r.randint(1, 4)):
            size = r.choice((1, 0x10, 0x7FF, 0xFFF, 0x1000, 0x1001, 0x1FFF, r.randrange(1, 0x4000)))
            arguments.append(piece(r.choice(KINDS), at, size))
            at += size + r.choice((0, 1, 0x800, 0xFFF, 0x1000, 0x1FFF, r.randrange(0, 0x3000)))
    return replace(g, arguments=tuple(arguments))


def exactmap(r: Random, _turn: int, g: GuestMap) -> GuestMap:
    """Memory listed piece by piece, some of it tiny, unaligned or overlapping; the rest left out."""
    g = replace(g, memory=r.choice((1, 2, 3, 4, 6, 8)) * GIB)
    tail = g.low_end - LOW_TAIL
    first = r.randrange(192 * MIB, min(tail, 768 * MIB), PAGE) + r.choice((0, 0, 0x345))
    arguments = ["memmap=exactmap", piece("@", 0, 0x9FC00), piece("@", MIB, first - MIB)]
    at = first
    end = tail
    for _ in range(r.randint(2, 18)):
        at += r.choice((0, 1, PAGE, 0x1800, 64 * KIB, MIB, r.randrange(256 * MIB), r.randrange(GIB)))
        if at + MIB >= end:
            at, end = HIGH + r.choice((0, PAGE, 0x123, 300 * MIB)), g.high_end
        if at >= end:
            break
        size = r.choice(
            (0x800, PAGE, 0x1FFF, 3 * PAGE, MIB, 100 * MIB, r.randrange(1, GIB), r.randrange(1, GIB))
        )
        size = min(size, end - at)
        arguments.append(piece(r.choice("@@@@$#"), at, size))
        at += size
    arguments.append(piece("@", tail, LOW_TAIL - 2 * MIB))
    return replace(g, note=f"{len(arguments) - 1} pieces", arguments=tuple(arguments))


def numa(r: Random, turn: int, g: GuestMap) -> GuestMap:
    """1 to 4 nodes with borders anywhere inside a GiB, some too small for a PAMT; with and without holes."""
    count = turn % 4 + 1
    nodes = tuple(
        r.choice((r.randint(512, 3000), r.randint(1, 3) * 1024, r.randint(512, 3000) if i == 0 else 16)) * MIB
        for i in range(count)
    )
    g = replace(g, memory=sum(nodes), nodes=nodes)
    number = r.choice((0, 0, 3, 12))
    return replace(g, note=f"{count} nodes, {number} holes", arguments=scattered(r, g, number))


def numa_fake(r: Random, _turn: int, g: GuestMap) -> GuestMap:
    """Nodes that the kernel makes itself (numa=fake=)."""
    g = replace(g, memory=r.randint(2, 8) * GIB + r.choice((0, 100 * MIB)))
    fake = r.choice(("2", "3", "5", "8", "700M", "1025M", "2U"))
    return replace(g, note=fake, arguments=(f"numa=fake={fake}", *scattered(r, g, r.choice((0, 4)))))


def tdmrs(r: Random, turn: int, g: GuestMap) -> GuestMap:
    """Memory that needs many TDMRs, with a limit just below, at or above what it needs."""
    count = r.randint(2, 7)
    g = replace(g, memory=(2 + 2 * count) * GIB)
    gone = tuple(piece("$", HIGH + (2 * i + 1) * GIB, GIB) for i in range(count))
    most = max(1, count + 1 + (turn % 6) - 1)
    return replace(
        g, note=f"{count + 1} TDMRs needed of {most}", arguments=gone, module=Module(max_tdmrs=most)
    )


def straddle(r: Random, _turn: int, g: GuestMap) -> GuestMap:
    """Memory above 4 GiB that begins shortly before a TDMR's end: PAMTs may lie across it."""
    g = replace(g, memory=2 * GIB + r.randint(2, 12) * GIB)
    border = HIGH + r.randint(1, (g.high_end - HIGH) // GIB - 1) * GIB
    first = MIB * r.randint(1, 4)
    start = border - r.randrange(2 * MIB, 96 * MIB, PAGE)
    gone = piece("$", HIGH + first, start - HIGH - first)
    size = r.choice((16, 16, 24, 40))
    module = Module(pamt_entry_size=(size, 16, 16))
    return replace(g, note=f"from {amount(start)}", arguments=(gone,), module=module)


def module_limits(r: Random, turn: int, g: GuestMap) -> GuestMap:
    """Other limits and PAMT entry sizes than any module has had so far."""
    g = replace(g, memory=some_memory(r))
    sizes = (1, 3, 8, 12, 16, 24, 32, 48, 100)
    # An odd size at 2 MiB is one whose part of the PAMT does not end with a page.
    odd = (1, 3, 5, 12)
    module = Module(
        max_tdmrs=r.randint(1, 64),
        max_reserved=r.randint(1, 40),
        pamt_entry_size=(
            r.choice(sizes),
            r.choice(odd if turn % 2 == 0 else (*sizes, 4096)),
            r.choice((*sizes, 4096)),
        ),
    )
    if turn % 4 == 1:  # as much PAMT as memory: it cannot be had
        module = replace(module, pamt_entry_size=(r.choice((2048, 4096)), 16, 16))
    return replace(
        g, note=str(module.pamt_entry_size), arguments=scattered(r, g, r.randint(0, 24)), module=module
    )


def mem(r: Random, _turn: int, g: GuestMap) -> GuestMap:
    """Memory cut off by mem=, anywhere above the low memory."""
    g = replace(g, memory=r.randint(4, 12) * GIB)
    cut = r.randrange(HIGH + 64 * MIB, g.high_end, PAGE) + r.choice((0, 0, 0x800))
    made = list(scattered(r, g, r.choice((0, 0, 6))))
    r.shuffle(made)
    return replace(g, note=amount(cut), arguments=(*made, f"mem={amount(cut)}"))


def movable(r: Random, _turn: int, g: GuestMap) -> GuestMap:
    """kernelcore=, movablecore= and movable_node: less of NORMAL for the PAMTs."""
    nodes = tuple(r.randint(8, 32) * 128 * MIB for _ in range(r.randint(1, 3)))
    g = replace(g, memory=sum(nodes), nodes=nodes)
    core = r.choice(
        ("kernelcore=50%", "kernelcore=1G", "movablecore=30%", "movablecore=1G", "kernelcore=900M")
    )
    also = r.choice(((), ("movable_node",)))
    return replace(g, note=core, arguments=(core, *also, *scattered(r, g, r.choice((0, 5)))))


def hugepages(r: Random, _turn: int, g: GuestMap) -> GuestMap:
    """Huge pages that are reserved at boot, where PAMTs would have gone."""
    nodes = tuple(r.randint(3, 5) * GIB for _ in range(r.randint(1, 2)))
    g = replace(g, memory=sum(nodes), nodes=nodes if len(nodes) > 1 else ())
    made = r.choice(
        (
            ("hugepagesz=1G", "hugepages=1"),
            ("hugepagesz=1G", "hugepages=2"),
            ("hugepagesz=2M", f"hugepages={r.randint(16, 700)}"),
            ("default_hugepagesz=2M", f"hugepages={r.randint(16, 700)}", "hugepagesz=1G", "hugepages=1"),
            ("hugepagesz=2M", f"hugepages=0:{r.randint(16, 500)}"),
        )
    )
    return replace(g, note=" ".join(made), arguments=(*made, *scattered(r, g, r.choice((0, 4)))))


def crashkernel(r: Random, _turn: int, g: GuestMap) -> GuestMap:
    """Memory set aside for a crash kernel (kernels that have both kexec and TDX)."""
    g = replace(g, memory=r.randint(3, 8) * GIB)
    made = r.choice(
        ("crashkernel=256M", "crashkernel=128M@512M", "crashkernel=512M,high", "crashkernel=1G-:192M")
    )
    return replace(g, note=made, arguments=(made, *scattered(r, g, r.choice((0, 4)))))


def kexec_handover(r: Random, _turn: int, g: GuestMap) -> GuestMap:
    """kho=on: scratch areas set aside for the next kernel (kernels that have it)."""
    nodes = tuple(r.randint(3, 5) * GIB for _ in range(r.randint(1, 2)))
    g = replace(g, memory=sum(nodes), nodes=nodes if len(nodes) > 1 else ())
    return replace(g, arguments=("kho=on", *scattered(r, g, r.choice((0, 4)))))


def dimm(r: Random, _turn: int, g: GuestMap) -> GuestMap:
    """Memory modules that the firmware's map does not list; ACPI adds them while the kernel boots."""
    dimms = tuple(r.choice((256, 512, 1024)) * MIB for _ in range(r.randint(1, 2)))
    return replace(g, note=" + ".join(map(amount, dimms)), memory=r.choice((1, 2, 4)) * GIB, dimms=dimms)


def big(r: Random, turn: int, g: GuestMap) -> GuestMap:
    """A server: 64 to 384 GiB, 1 to 4 nodes, a few holes."""
    memory = (96, 384, 128, 256)[turn] if turn < 4 else r.choice((64, 96, 128, 192, 256, 384))
    memory *= GIB
    count = turn % 4 + 1
    share = memory // count // MIB * MIB
    nodes = (*(share - r.randrange(0, GIB, MIB) for _ in range(count - 1)),)
    nodes = (*nodes, memory - sum(nodes))
    g = replace(g, memory=memory, nodes=nodes if count > 1 else ())
    if turn % 4 == 3:  # every second GiB gone: more TDMRs than a module has
        gone = tuple(piece("$", HIGH + (2 * i + 1) * GIB, GIB) for i in range(66))
        return replace(g, note=f"{memory // GIB} GiB, 66 GiB-sized holes", arguments=gone)
    number = r.choice((0, 6, 20))
    note = f"{memory // GIB} GiB, {count} nodes, {number} holes"
    return replace(g, note=note, arguments=scattered(r, g, number, 512 * MIB))


def cmrs(r: Random, turn: int, g: GuestMap) -> GuestMap:
    """CMRs that cover the memory, or end too early, or have a gap; the module decides."""
    machine = r.choice(("q35", "pc"))
    memory = r.randint(4, 8) * GIB
    g = replace(g, memory=memory, machine=machine)
    table: list[Span] = [(MIB, low_end(memory, machine)), (HIGH, g.high_end)]
    at = r.randrange(HIGH + 64 * MIB, g.high_end, PAGE)
    kind = ("all", "short", "gap", "touching", "hole")[turn % 5]
    if kind == "short":
        table[1] = (HIGH, at)
    elif kind == "gap":
        table[1:] = [(HIGH, at), (at + MIB, g.high_end)]
    elif kind == "touching":
        table[1:] = [(HIGH, at), (at, g.high_end)]
    arguments: tuple[str, ...] = ()
    if kind == "hole":  # the kernel leaves out what the CMRs leave out: accepted
        at = min(at, g.high_end - 4 * MIB) // MIB * MIB
        table[1:] = [(HIGH, at), (at + MIB, g.high_end)]
        arguments = (piece("$", at, MIB),)
    return replace(
        g, note=kind, arguments=arguments, module=Module(cmrs=tuple(t for t in table if t[0] < t[1]))
    )


def failing(r: Random, turn: int, g: GuestMap) -> GuestMap:
    """A SEAMCALL that fails: each leaf, with codes that the kernel takes apart and with others."""
    g = replace(g, memory=some_memory(r))
    leaf = (45, 36, 34, 33, 35, 31)[turn % 6]
    code = (
        0xC000_0505_0000_0000,  # what TDH.SYS.RD gave on a real host
        0xC000_0A02_0000_0001,  # TDX_TDMR_OUTSIDE_CMRS
        0x8000_FF00_FFFF_0000,  # TDX_SEAMCALL_VMFAILINVALID
        0x8000_FF00_0000_000D,  # TDX_SEAMCALL_GP
        0x8000_FF00_0000_0006,  # TDX_SEAMCALL_UD
    )[turn % 5]
    module = Module(fail_leaf=leaf, fail_code=code)
    return replace(
        g, note=f"leaf {leaf} gives {code:#x}", arguments=scattered(r, g, r.choice((0, 4))), module=module
    )


FAMILIES: Families = {
    "plain": (1, plain),
    "holes": (6, holes),
    "limit": (5, limit),
    "borders": (3, borders),
    "tiny": (2, tiny),
    "exactmap": (3, exactmap),
    "numa": (4, numa),
    "numa-fake": (1, numa_fake),
    "tdmrs": (2, tdmrs),
    "limits": (2, module_limits),
    "straddle": (2, straddle),
    "mem": (1, mem),
    "movable": (2, movable),
    "hugepages": (2, hugepages),
    "crashkernel": (1, crashkernel),
    "kho": (1, kexec_handover),
    "dimm": (1, dimm),
    "big": (1, big),
    "cmrs": (1, cmrs),
    "failing": (1, failing),
}
