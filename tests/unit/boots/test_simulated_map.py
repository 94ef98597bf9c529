# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from tdx_headroom.address import ADDRESS_SPACE, GIB, KIB, MIB
from tdx_headroom.boots.map_risks import MapRisk, argument_risks, set_aside
from tdx_headroom.boots.memory_map import boot_time_map, confirms, nodes_of_boot, simulate
from tdx_headroom.facts.host_facts import MemoryRegion
from tdx_headroom.facts.observations import FirmwareRange, NodeRange

RAM, KEPT, TABLES = "System RAM", "Reserved", "ACPI Tables"
FIRMWARE = (
    FirmwareRange(0, 0x9FC00, RAM),
    FirmwareRange(0x9FC00, 0xA0000, KEPT),
    FirmwareRange(MIB, 2 * GIB - 128 * KIB, RAM),
    FirmwareRange(2 * GIB - 128 * KIB, 2 * GIB, KEPT),
    FirmwareRange(4 * GIB, 8 * GIB, RAM),
)
ONE = (NodeRange(0, ADDRESS_SPACE, 0),)
TWO = (NodeRange(0, 640 * KIB, 0), NodeRange(MIB, 5 * GIB, 0), NodeRange(5 * GIB, 8 * GIB, 1))
LOW = (0x1000, 0x9F000)
MIDDLE = (MIB, 2 * GIB - 128 * KIB)


def ranges(*arguments: str) -> list[tuple[int, int]]:
    """The memory above 1 MiB, on a host of one node."""
    made = simulate(FIRMWARE, arguments, ONE)
    assert made.regions[0] == (*LOW, 0)
    assert made.exact, made.risks
    return [(r.start, r.end) for r in made.regions[1:]]


def test_the_firmwares_map_as_it_is() -> None:
    """The first page is no RAM, and partial pages go."""
    made = simulate(FIRMWARE, (), ONE)
    assert made.regions == (
        MemoryRegion(*LOW, 0),
        MemoryRegion(*MIDDLE, 0),
        MemoryRegion(4 * GIB, 8 * GIB, 0),
    )
    assert made.exact
    assert made.risks == ()


@pytest.mark.parametrize(
    "argument",
    [
        "memmap=1M$5G",
        "memmap=1M#5G",
        "memmap=1M!5G",
        "memmap=1M%5G-1",
        "memmap=1M%5G-1+2",
        "memmap=1M%5G",
        "memmap=0x100000$0x140000000",
        "memmap=1M$0x140000000",
        '"memmap=1M$5G"',
        'memmap="1M$5G"',
        "memmap=04000000$5G",
    ],
)
def test_a_hole_in_every_form(argument: str) -> None:
    """Reserved, ACPI data, persistent memory, converted or removed: no RAM."""
    assert ranges(argument) == [MIDDLE, (4 * GIB, 5 * GIB), (5 * GIB + MIB, 8 * GIB)]


@pytest.mark.parametrize("argument", ["mem=6G", "memmap=6G", "mem=6144M", "mem=0x180000000"])
def test_a_limit(argument: str) -> None:
    """No RAM above."""
    assert ranges(argument) == [MIDDLE, (4 * GIB, 6 * GIB)]


@pytest.mark.parametrize(
    "argument", ["mem=nopentium", "mem=0", "mem=", "mem", "memmap=foo", "memmap", "quiet"]
)
def test_nonsense_changes_nothing(argument: str) -> None:
    """As in ``parse_memopt()`` and ``parse_memmap_one()``."""
    assert ranges(argument) == [MIDDLE, (4 * GIB, 8 * GIB)]


def test_commas_and_a_bad_piece() -> None:
    """What is not understood is passed over, what stands beside it is not."""
    assert ranges("memmap=1M$5G,x,1M$6G") == [
        MIDDLE,
        (4 * GIB, 5 * GIB),
        (5 * GIB + MIB, 6 * GIB),
        (6 * GIB + MIB, 8 * GIB),
    ]


EXACT = ("memmap=exactmap", "memmap=0x9fc00@0", "memmap=1G@1M", "memmap=1G@4G")


def test_exactmap_forgets_what_stands_before_it() -> None:
    """A hole before it is none, one behind it is."""
    plain = [(MIB, GIB + MIB), (4 * GIB, 5 * GIB)]
    assert ranges("memmap=1M$512M", *EXACT) == plain
    assert ranges(*EXACT, "memmap=1M$512M") == [
        (MIB, 512 * MIB),
        (513 * MIB, GIB + MIB),
        (4 * GIB, 5 * GIB),
    ]


def test_mem_after_what_adds_memory() -> None:
    """Edits come in their order: a limit cuts what was added before it, not what is added after it."""
    assert ranges("mem=4G", "memmap=1M@5G") == [MIDDLE, (5 * GIB, 5 * GIB + MIB)]
    assert ranges("memmap=1M@5G", "mem=4G") == [MIDDLE]


def test_the_larger_type_wins() -> None:
    """RAM over a reserved range is no RAM, unless the range was removed or converted."""
    reserved = f"128K@{2 * GIB - 128 * KIB:#x}"
    assert ranges(f"memmap={reserved}") == [MIDDLE, (4 * GIB, 8 * GIB)]
    converted = f"memmap=128K%{2 * GIB - 128 * KIB:#x}-2+1"
    assert ranges(converted) == [(MIB, 2 * GIB), (4 * GIB, 8 * GIB)]


def test_touching_ram_is_joined_before_it_is_rounded() -> None:
    """Half a page at the end of one piece and half at the start of the next make a whole one."""
    made = ranges(
        "memmap=exactmap", "memmap=0x9fc00@0", "memmap=1G@1M", "memmap=0x800@4G", "memmap=0x900@0x100000800"
    )
    assert made == [(MIB, GIB + MIB), (4 * GIB, 4 * GIB + 0x1000)]


def test_regions_are_split_at_the_border_of_nodes() -> None:
    """Touching memory of two nodes is two regions, of one node one."""
    made = simulate(FIRMWARE, (), TWO, srat=True)
    assert made.regions[2:] == (
        MemoryRegion(4 * GIB, 5 * GIB, 0),
        MemoryRegion(5 * GIB, 8 * GIB, 1),
    )
    assert made.exact


@pytest.mark.parametrize("argument", ["numa=off", "numa=noacpi", "acpi=off"])
def test_without_srat_all_is_node_0(argument: str) -> None:
    """Nodes are never looked up."""
    made = simulate(FIRMWARE, (argument,), TWO, srat=True)
    assert made.regions[2:] == (MemoryRegion(4 * GIB, 8 * GIB, 0),)
    assert made.exact


def test_acpi_off_may_be_taken_back() -> None:
    """The later one counts."""
    assert len(simulate(FIRMWARE, ("acpi=off", "acpi=force"), TWO).regions) == 4


def test_fake_nodes_are_not_known() -> None:
    """The memory is said, its nodes are not."""
    made = simulate(FIRMWARE, ("numa=fake=2",), TWO)
    assert made.regions[2:] == (MemoryRegion(4 * GIB, 8 * GIB, None),)
    assert made.risks == (MapRisk.NUMA_FAKE,)
    assert not made.exact


def test_unknown_nodes() -> None:
    """Without nodes the borders between regions are unknown, so they are not exact."""
    made = simulate(FIRMWARE, (), None)
    assert {r.node for r in made.regions} == {None}
    assert made.risks == (MapRisk.NODES,)
    assert not made.exact


def test_memory_in_no_node() -> None:
    """The kernel throws SRAT away for more than 1 MiB that it leaves out; other lists tell nothing of it."""
    short = (NodeRange(0, 5 * GIB, 0), NodeRange(5 * GIB, 7 * GIB, 1))
    by_srat = simulate(FIRMWARE, (), short, srat=True)
    assert by_srat.regions[2:] == (MemoryRegion(4 * GIB, 8 * GIB, 0),)
    assert by_srat.exact
    by_regions = simulate(FIRMWARE, (), short)
    assert by_regions.regions[-1] == MemoryRegion(7 * GIB, 8 * GIB, None)
    assert by_regions.risks == (MapRisk.NODES,)


def test_a_gap_inside_a_node_belongs_to_it() -> None:
    """Memory that comes back in a hole is of the node around it; between two nodes it is of neither."""
    seen = (
        NodeRange(0, 4 * GIB + MIB, 0),
        NodeRange(4 * GIB + 2 * MIB, 5 * GIB, 0),
        NodeRange(6 * GIB, 8 * GIB, 1),
    )
    made = simulate(FIRMWARE, (), seen)
    assert made.regions[2:] == (
        MemoryRegion(4 * GIB, 5 * GIB, 0),
        MemoryRegion(5 * GIB, 6 * GIB, None),
        MemoryRegion(6 * GIB, 8 * GIB, 1),
    )


@pytest.mark.parametrize(
    ("arguments", "risks"),
    [
        (("memmap=16M$32M",), {MapRisk.KERNEL_IMAGE}),
        (("memmap=exactmap", "memmap=1G@1M"), {MapRisk.NO_BOOT}),
        (("memmap=1M%5G-1+1",), {MapRisk.NO_BOOT}),
        (("memmap=15E@2E",), {MapRisk.NO_BOOT}),
        (("memmap=exactmap",), {MapRisk.NO_BOOT, MapRisk.KERNEL_IMAGE}),
        (("add_efi_memmap",), {MapRisk.EFI_IMPORT}),
        (("efi_fake_mem=1G@5G:0x40000",), {MapRisk.EFI_FAKE_MEM}),
        (("kernelcore=mirror",), {MapRisk.MIRROR}),
    ],
)
def test_what_makes_regions_uncertain(arguments: tuple[str, ...], risks: set[MapRisk]) -> None:
    """Each of these is named, and the regions are not called exact."""
    made = simulate(FIRMWARE, arguments, ONE)
    assert set(made.risks) == risks
    assert not made.exact


SOFT = (*FIRMWARE, FirmwareRange(8 * GIB, 9 * GIB, "Soft Reserved"))


@pytest.mark.parametrize(
    ("firmware", "running", "arguments", "risks"),
    [
        (SOFT, (), (), ()),
        (SOFT, (), ("memmap=1M$5G",), (MapRisk.EFI_IMPORT,)),
        (SOFT, (), ("efi=nosoftreserve",), (MapRisk.SOFT_RESERVE,)),
        (FIRMWARE, (), ("efi=debug,nosoftreserve",), ()),
        (FIRMWARE, ("efi=nosoftreserve",), (), (MapRisk.SOFT_RESERVE,)),
        (FIRMWARE, ("efi=nosoftreserve",), ("efi=nosoftreserve",), ()),
        (FIRMWARE, ("efi_fake_mem=1G@5G:0x40000",), (), (MapRisk.EFI_FAKE_MEM,)),
    ],
)
def test_specific_purpose_memory(
    firmware: tuple[FirmwareRange, ...],
    running: tuple[str, ...],
    arguments: tuple[str, ...],
    risks: tuple[MapRisk, ...],
) -> None:
    """With some of it the EFI map comes in after every edit; to give it up changes the firmware's map."""
    made = simulate(firmware, arguments, ONE, running=running)
    assert made.risks == risks
    assert made.exact is not bool(risks)


def test_a_type_without_a_name() -> None:
    """A number on the command line may or may not be that of memory without a name in the firmware's map."""
    firmware = (*FIRMWARE, FirmwareRange(8 * GIB, 9 * GIB, "Unknown E820 type"))
    assert simulate(firmware, ("memmap=1G%8G-20+1",), ONE).risks == (MapRisk.UNKNOWN_TYPE,)
    named = (*FIRMWARE, FirmwareRange(8 * GIB, 9 * GIB, "type 20"))
    assert simulate(named, ("memmap=1G%8G-20+1",), ONE).regions[-1].end == 9 * GIB


@pytest.mark.parametrize(
    ("arguments", "risks"),
    [
        (("hugepages=4",), [MapRisk.HUGE_PAGES]),
        (("hugepages=0",), []),
        (("hugepagesz=1G", "hugepages=4"), [MapRisk.GIGANTIC_PAGES]),
        (
            ("default_hugepagesz=1G", "hugepages=1", "hugepagesz=2M", "hugepages=1"),
            [MapRisk.GIGANTIC_PAGES, MapRisk.HUGE_PAGES],
        ),
        (("hugepages=1", "default_hugepagesz=1G"), [MapRisk.GIGANTIC_PAGES]),
        (("hugepages=0:2,1:3",), [MapRisk.HUGE_PAGES]),
        (("hugetlb_cma=4G",), [MapRisk.CMA]),
        (("hugetlb-cma=4G",), [MapRisk.CMA]),
        (("cma=0",), []),
        (("cma=64M",), [MapRisk.CMA]),
        (("crashkernel=512M",), [MapRisk.CRASH_KERNEL]),
        (("reserve_mem=1M:4096:x",), [MapRisk.RESERVED_MEMORY]),
        (("kernelcore=1G",), [MapRisk.KERNEL_CORE]),
        (("movablecore=90%",), [MapRisk.MOVABLE_CORE]),
        (("kernelcore=0",), []),
        (("movable_node",), [MapRisk.MOVABLE_NODE]),
        (("kho=on",), [MapRisk.HANDOVER]),
        (("kho=off",), []),
    ],
)  # fmt: skip
def test_what_moves_pamts(arguments: tuple[str, ...], risks: list[MapRisk]) -> None:
    """Each is named, and leaves the regions exact."""
    assert argument_risks(arguments) == risks
    assert simulate(FIRMWARE, arguments, ONE).exact


def test_what_a_risk_is_of() -> None:
    """Of the regions, of room for PAMTs, of both, or only of where those lie."""
    assert MapRisk.EFI_IMPORT.of_regions
    assert not MapRisk.EFI_IMPORT.may_leave_no_room
    assert MapRisk.HUGE_PAGES.may_leave_no_room
    assert not MapRisk.HUGE_PAGES.of_regions
    assert MapRisk.MIRROR.of_regions
    assert MapRisk.MIRROR.may_leave_no_room
    assert not MapRisk.CRASH_KERNEL.of_regions
    assert not MapRisk.CRASH_KERNEL.may_leave_no_room


@pytest.mark.parametrize(
    ("arguments", "size"),
    [
        ((), 0),
        (("hugepages=3",), 6 * MIB),
        (("hugepages=3", "hugepagesz=1G", "hugepages=2"), 2 * GIB + 6 * MIB),
        (("hugepagesz=7M", "hugepages=2"), 0),
        (("hugepages=0:2,1:3",), 10 * MIB),
        (("hugepages=x",), 0),
        (("hugepages",), 0),
    ],
)
def test_bytes_in_huge_pages(arguments: tuple[str, ...], size: int) -> None:
    """A number belongs to the size before it."""
    assert set_aside(arguments) == size


@pytest.mark.parametrize(
    ("arguments", "size"),
    [
        (("hugepages=3", "cma=64M"), 70 * MIB),
        (("hugetlb_cma=0:4G,1:2G",), 6 * GIB),
        (("hugetlb_cma=50%",), 0),
        (("cma=64M@0-4G",), 64 * MIB),
        (("crashkernel=512M,high", "crashkernel=72M,low"), 584 * MIB),
        (("crashkernel=1G-4G:192M,4G-:256M",), 448 * MIB),
        (("crashkernel=128M@512M",), 128 * MIB),
        (("reserve_mem=1M:4096:x",), MIB),
        (("quiet",), 0),
    ],
)
def test_bytes_set_aside(arguments: tuple[str, ...], size: int) -> None:
    """All that may fill a zone before the PAMTs come."""
    assert set_aside(arguments) == size


def test_nodes_of_a_boot() -> None:
    """SRAT comes first; a boot may hide its nodes, and one with a single node tells it of everything."""
    two = [MemoryRegion(0, GIB, 0), MemoryRegion(GIB, 2 * GIB, 1)]
    one = [MemoryRegion(0, GIB, 0)]
    assert nodes_of_boot(two, (), srat=TWO) == TWO
    assert nodes_of_boot(two, ()) == (NodeRange(0, GIB, 0), NodeRange(GIB, 2 * GIB, 1))
    assert nodes_of_boot(one, ()) == (NodeRange(0, ADDRESS_SPACE, 0),)
    assert nodes_of_boot(one, ("mem=1G",)) == (NodeRange(0, GIB, 0),)
    assert nodes_of_boot([MemoryRegion(0, GIB, None)], ()) is None
    for hidden in ("numa=off", "acpi=off", "numa=noacpi"):
        assert nodes_of_boot(one, (hidden,), srat=TWO) is None
    assert nodes_of_boot(one, ("numa=fake=2",)) is None


ADDED = FirmwareRange(8 * GIB, 9 * GIB, RAM)
APART = FirmwareRange(16 * GIB, 17 * GIB, RAM)
RESERVED_LAST = (*FIRMWARE[:-1], FIRMWARE[-1], FirmwareRange(0xFD_0000_0000, 0x100_0000_0000, KEPT))


@pytest.mark.parametrize(
    ("firmware", "kept", "certain"),
    [
        (FIRMWARE, len(FIRMWARE), False),
        ((*FIRMWARE, ADDED), len(FIRMWARE), False),
        ((*FIRMWARE, APART), len(FIRMWARE) + 1, False),
        (RESERVED_LAST, len(RESERVED_LAST), True),
        ((*RESERVED_LAST, APART), len(RESERVED_LAST), True),
        ((*RESERVED_LAST, ADDED, APART), len(RESERVED_LAST), True),
        ((*RESERVED_LAST[:-1], ADDED, RESERVED_LAST[-1]), len(RESERVED_LAST) + 1, False),
        ((), 0, False),
    ],
)
def test_hot_added_entries_by_their_order(
    firmware: tuple[FirmwareRange, ...], kept: int, *, certain: bool
) -> None:
    """They come last, out of order or touching RAM; a last entry of RAM may be either.

    A list by address, where RAM that touches RAM comes before another kind, is not the kernel's.
    """
    assert boot_time_map(firmware) == (firmware[:kept], certain)


def test_what_acpi_adds_while_the_kernel_starts() -> None:
    """It gets the first numbers: the boot's own entries are numbered last (a guest with two DIMMs, 6.12)."""
    assert boot_time_map((ADDED, APART, *RESERVED_LAST, APART)) == (RESERVED_LAST, True)


def test_hot_added_entries_by_the_boots_memory() -> None:
    """What the boot had memory in is its own."""
    there = [(0x1000, 8 * GIB)]
    assert boot_time_map((*FIRMWARE, APART), at_boot=there) == (FIRMWARE, True)
    assert boot_time_map((*FIRMWARE, APART), at_boot=[*there, (16 * GIB, 17 * GIB)]) == (
        (*FIRMWARE, APART),
        True,
    )


def test_the_logs_list_is_the_boots() -> None:
    """Where it is there nothing else counts."""
    assert boot_time_map((*FIRMWARE, APART), log=FIRMWARE) == (FIRMWARE, True)


def test_the_running_boot_confirms_the_model() -> None:
    """Its own command line makes the memory that it has, or the machine does what is not computed."""
    now = simulate(FIRMWARE, ("memmap=1M$5G",), TWO, srat=True)
    assert confirms(now, now.regions)
    assert confirms(now, [MemoryRegion(0, 0x9FC00, 0), *now.regions[1:]])
    assert not confirms(now, now.regions[:-1])
    assert not confirms(now, simulate(FIRMWARE, (), TWO).regions)


def test_an_emptied_entry_counts() -> None:
    """Two entries of which one is removed again are enough for the kernel, one is not."""
    two = simulate(FIRMWARE, ("memmap=exactmap", "memmap=1G@1M", "memmap=1M@5G", "memmap=1M%5G"), ONE)
    assert two.exact
    assert two.regions == (MemoryRegion(MIB, GIB + MIB, 0),)
    one = simulate(FIRMWARE, ("memmap=exactmap", "memmap=1G@1M", "memmap=1M%5G"), ONE)
    assert one.risks == (MapRisk.NO_BOOT,)
