# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tdx_headroom.facts.kernel_report import ContradictionKind
from tdx_headroom.facts.observations import FirmwareRange, NodeRange
from tdx_headroom.sources.kernel_log import boot_lines
from tdx_headroom.sources.kernel_log.boot_map import read_boot_map
from tdx_headroom.sources.kernel_log.records import KernelLog, LogRecord
from tdx_headroom.sources.kernel_log.text import parse_log_text

if TYPE_CHECKING:
    from tdx_headroom.sources.kernel_log.boot_map import BootMap

E820 = """\
BIOS-provided physical RAM map:
BIOS-e820: [mem 0x0000000000000000-0x000000000009efff] usable
BIOS-e820: [mem 0x000000000009f000-0x00000000000fffff] reserved
BIOS-e820: [mem 0x0000000000100000-0x000000005d168fff] usable
BIOS-e820: [mem 0x000000005d169000-0x000000005d22afff] ACPI data
BIOS-e820: [mem 0x000000005d22b000-0x000000005d3cefff] ACPI NVS
BIOS-e820: [mem 0x0000000100000000-0x000000107fffffff] usable
"""
E820_70 = """\
BIOS-provided physical RAM map:
BIOS-e820: [mem 0x0000000000000000-0x000000000009efff]  System RAM
BIOS-e820: [mem 0x000000000009f000-0x00000000000fffff]  device reserved
BIOS-e820: [mem 0x0000000000100000-0x000000005d168fff]  System RAM
BIOS-e820: [mem 0x000000005d169000-0x000000005d22afff]  ACPI data
BIOS-e820: [mem 0x000000005d22b000-0x000000005d3cefff]  ACPI NVS
BIOS-e820: [gap 0x000000005d3cf000-0x00000000ffffffff]
BIOS-e820: [mem 0x0000000100000000-0x000000107fffffff]  System RAM
"""
FIRMWARE = [
    FirmwareRange(0, 0x9F000, "System RAM"),
    FirmwareRange(0x9F000, 0x100000, "Reserved"),
    FirmwareRange(0x100000, 0x5D169000, "System RAM"),
    FirmwareRange(0x5D169000, 0x5D22B000, "ACPI Tables"),
    FirmwareRange(0x5D22B000, 0x5D3CF000, "ACPI Non-volatile Storage"),
    FirmwareRange(0x1_0000_0000, 0x10_8000_0000, "System RAM"),
]
USER = """\
user-defined physical RAM map:
user: [mem 0x0000000000000000-0x000000000009efff] usable
user: [mem 0x0000000000100000-0x000000003fffffff] usable
user: [mem 0x0000000040000000-0x000000007fffffff] reserved
"""
NODES = """\
Early memory node ranges
  node   0: [mem 0x0000000000001000-0x000000000009efff]
  node   0: [mem 0x0000000000100000-0x000000005d168fff]
  node   1: [mem 0x0000000100000000-0x000000107fffffff]
"""
NODE_RANGES = [
    NodeRange(0x1000, 0x9F000, 0),
    NodeRange(0x100000, 0x5D169000, 0),
    NodeRange(0x1_0000_0000, 0x10_8000_0000, 1),
]
SRAT = """\
ACPI: SRAT: Node 0 PXM 0 [mem 0x00000000-0x7fffffff]
ACPI: SRAT: Node 0 PXM 0 [mem 0x100000000-0x107fffffff]
ACPI: SRAT: Node 1 PXM 4 [mem 0x1080000000-0x207fffffff] hotplug
ACPI: SRAT: Node 2 PXM 8 [mem 0x2080000000-0x307fffffff] hotplug non-volatile
"""


def boot(text: str) -> BootMap:
    return read_boot_map(KernelLog(tuple(LogRecord(line) for line in text.splitlines())), "a log")


@pytest.mark.parametrize("table", [E820, E820_70], ids=["before 7.0", "7.0"])
def test_firmware_map(table: str) -> None:
    """Both print forms give the same map, with the types as sysfs names them; gaps are no entries."""
    found = boot(f"Linux version 6.8.0-1004-intel (x)\n{table}end\n")
    assert found.e820.value == FIRMWARE
    assert found.firmware.value == FIRMWARE
    assert found.e820.origin == "a log"


@pytest.mark.parametrize(
    ("printed", "kind"),
    [
        ("usable", "System RAM"),
        ("reserved", "Reserved"),
        ("device reserved", "Reserved"),
        ("unusable", "Unusable memory"),
        ("soft reserved", "Soft Reserved"),
        ("persistent (type 7)", "Persistent Memory"),
        ("persistent (type 12)", "Persistent Memory"),
        ("type 20", "type 20"),
    ],
)
def test_types(printed: str, kind: str) -> None:
    """Only usable memory is RAM; a type that nobody knows keeps its name."""
    found = boot(f"{E820}BIOS-e820: [mem 0x0000001080000000-0x00000010bfffffff] {printed}\nend")
    assert found.e820.value is not None
    assert found.e820.value[-1] == (0x10_8000_0000, 0x10_C000_0000, kind)


def test_user_defined_map_is_the_effective_one() -> None:
    """With memmap= on the command line the kernel uses the list that it prints as user:."""
    found = boot(f"{E820}other\n{USER}end\n")
    assert found.e820.value == [
        FirmwareRange(0, 0x9F000, "System RAM"),
        FirmwareRange(0x100000, 0x4000_0000, "System RAM"),
        FirmwareRange(0x4000_0000, 0x8000_0000, "Reserved"),
    ]
    assert found.firmware.value == FIRMWARE


def test_user_defined_map_that_is_cut() -> None:
    """When the effective list is not whole, the firmware's must not stand in for it."""
    lines = USER.splitlines()
    for user in (lines[2:], lines[:1], lines[:3]):
        found = boot(E820 + "other\n" + "\n".join(user) + ("\nend" if user == lines[2:] else ""))
        assert found.e820.value is None
        assert found.e820.error is not None
    assert "head of the list is missing" in str(boot(E820 + "\n".join([*lines[2:], "end"])).e820.error)


def test_setup_data_is_not_the_map() -> None:
    """The byte-granular list of setup data is left alone."""
    extended = """\
extended physical RAM map:
reserve setup_data: [mem 0x0000000000000000-0x000000003916f01f] usable
reserve setup_data: [mem 0x000000003916f020-0x000000003919e05f] usable
"""
    found = boot(f"{E820}{extended}end\n")
    assert found.e820.value == FIRMWARE
    assert boot(f"{extended}end").e820.value is None


def test_node_ranges() -> None:
    """The kernel's own list of memory has nodes and exclusive ends."""
    assert (
        boot(f"{NODES}Initmem setup node 0 [mem 0x0000000000001000-0x000000107fffffff]\n").node_ranges.value
        == NODE_RANGES
    )


def test_node_ranges_printed_twice() -> None:
    """In a text the first list counts, for no process can write before it; that there is another is told."""
    found = boot(f"{NODES}x\n{NODES.replace('node   1', 'node   3')}x\n")
    assert found.node_ranges.value is not None
    assert len(found.node_ranges.value) == 3
    assert found.node_ranges.value[-1].node == 1
    assert [c.kind for c in found.contradictions] == [ContradictionKind.MEMORY_MAP]
    assert boot(f"{NODES}x\n{NODES}x\n").contradictions == ()


BROUGHT_UP = "[    1.500000] smp: Brought up 2 nodes, 8 CPUs\n"


@pytest.mark.parametrize("stamp", ["[    9.000000] ", "[ 4000.000000] "])
@pytest.mark.parametrize("earlier", ["", BROUGHT_UP])
def test_map_that_comes_after_the_boot(stamp: str, earlier: str) -> None:
    """A map that a log shows when processes run is not the kernel's, with or without the real one."""
    forged = "".join(f"{stamp}{line}\n" for line in (*E820.splitlines(), *NODES.splitlines(), "x"))
    found = read_boot_map(parse_log_text(earlier + forged), "log")
    if earlier or stamp.startswith("[ 4000"):
        assert (found.e820.value, found.node_ranges.value) == (None, None)
        assert found.contradictions
    real = "".join(f"[    0.000000] {line}\n" for line in (*E820.splitlines(), "x"))
    both = read_boot_map(parse_log_text(real + earlier + forged.replace("usable", "reserved")), "log")
    assert both.e820.value == boot(E820 + "x\n").e820.value
    assert both.contradictions


def test_row_that_is_added_to_a_map() -> None:
    """A row that somebody puts below a list, to fill one of its holes, is no part of it."""
    row = "BIOS-e820: [mem 0x0000000000000000-0x000000ffffffffff] usable\n"
    found = boot(f"{E820}x\n{row}x\n")
    assert found.e820.value == boot(f"{E820}x\n").e820.value
    assert [c.line for c in found.contradictions] == [row.strip()]


def test_program_that_is_called_command_line() -> None:
    """A crash report that begins with `Command line: ` does not replace the kernel's arguments."""
    crash = "Command line: [271]: segfault at 0 ip 0000000000000000 sp 00007ffe error 14"
    for real in ("Command line: nohibernate", "Kernel command line: nohibernate"):
        assert boot(f"{real}\n{crash}\nx\n").command_line == "nohibernate"
    assert read_boot_map(parse_log_text(f"{BROUGHT_UP}[    9.0] {crash}\n"), "log").command_line is None


@pytest.mark.parametrize(("table", "part"), [(E820, "e820"), (E820_70, "e820"), (NODES, "node_ranges")])
def test_list_that_is_cut(table: str, part: str) -> None:
    """A list is used when it is whole: every cut at its end, and every cut below 4 KiB at its head, shows."""
    lines = table.splitlines()
    whole = getattr(boot(table + "end\n"), part).value
    for n in range(1, len(lines) + 1):
        found = getattr(boot("\n".join(lines[:n])), part)
        assert found.value is None
        assert n == 1 or str(found.error).endswith("the log ends in the list: it may be cut")
    for n in range(2, len(lines)):
        found = getattr(boot("\n".join([*lines[n:], "end"])), part)
        assert found.value is None
        assert str(found.error).endswith("the head of the list is missing in the log")
        assert not found.error.absent
    # Without the headline alone, the first row still shows that nothing is missing.
    assert getattr(boot("\n".join([*lines[1:], "end"])), part).value == whole


def test_last_gap_cut_off() -> None:
    """A map that ends in a gap may go on after it."""
    lines = E820_70.splitlines()
    assert boot("\n".join(lines[:7])).e820.value is None


def test_lists_that_are_not_there() -> None:
    """A log without the lists has no failure to report: they are absent."""
    found = boot("Linux version 6.8.0 (x)\nhello\n")
    for reading in (found.node_ranges, found.e820, found.firmware, found.srat):
        assert reading.value is None
        assert reading.error is not None
        assert reading.error.absent
    empty = boot("")
    assert empty.e820.error is not None
    assert empty.kernel_release is None
    assert empty.command_line is None


def test_headline_alone() -> None:
    """A list without rows is as good as none."""
    found = boot("Early memory node ranges\nBIOS-provided physical RAM map:\nend\n")
    assert found.node_ranges.value is None
    assert found.e820.value is None


@pytest.mark.parametrize(
    ("text", "part", "error"),
    [
        (
            NODES.replace("0x0000000000100000-0x000000005d168fff", "0x0000000000200000-0x00000000001fffff"),
            "node_ranges",
            "log-node-ranges: range ends before it starts: '0x200000-0x1fffff'",
        ),
        (
            NODES.replace("0x0000000000100000", "0x0000000000002000"),
            "node_ranges",
            "log-node-ranges: ranges overlap: '0x2000-0x5d168fff'",
        ),
        (
            E820.replace("0x000000000009f000", "0x0000000000200000"),
            "e820",
            "log-e820: range ends before it starts: '0x200000-0xfffff'",
        ),
    ],
    ids=["inverted-node", "overlapping-nodes", "inverted-e820"],
)
def test_lists_that_cannot_be(text: str, part: str, error: str) -> None:
    """Ranges that contradict themselves spoil their list."""
    assert str(getattr(boot(text + "end"), part).error) == error


def test_nodes_out_of_order() -> None:
    """A list whose rows come in another order is sorted by address."""
    lines = NODES.splitlines()
    assert boot("\n".join([lines[0], lines[2], lines[3], lines[1], "end"])).node_ranges.value == NODE_RANGES


def test_overlapping_firmware_entries_are_allowed() -> None:
    """Firmware may print overlapping entries: the kernel sorts that out later."""
    found = boot(E820.replace("0x000000000009f000", "0x000000000009e000") + "end")
    assert found.e820.value is not None
    assert found.e820.value[1] == (0x9E000, 0x100000, "Reserved")


def test_srat() -> None:
    """The affinity table gives nodes of possible memory as well, hot-pluggable memory included."""
    assert boot(f"{SRAT}end\n").srat.value == [
        NodeRange(0, 0x8000_0000, 0),
        NodeRange(0x1_0000_0000, 0x10_8000_0000, 0),
        NodeRange(0x10_8000_0000, 0x20_8000_0000, 1),
        NodeRange(0x20_8000_0000, 0x30_8000_0000, 2),
    ]
    assert str(boot(SRAT).srat.error) == "log-srat: the log ends in the list: it may be cut"


def test_host_without_numa() -> None:
    """A kernel that finds no NUMA table says which memory its one node has."""
    found = boot(
        "No NUMA configuration found\nFaking a node at [mem 0x0000000000000000-0x000000107fffffff]\nend\n"
    )
    assert found.srat.value == [NodeRange(0, 0x10_8000_0000, 0)]


@pytest.mark.parametrize(
    ("line", "release"),
    [
        ("Linux version 6.8.0-1004-intel (buildd@host) (gcc 13.2.0) #4-Ubuntu SMP", "6.8.0-1004-intel"),
        ("Linux version 6.2.16-mvp30v3+7-generic(gcc (Ubuntu 11.4.0) 11.4.0) #1", "6.2.16-mvp30v3+7-generic"),
        ("Linux version 7.1.0-rc3~next (x) #1", "7.1.0-rc3~next"),
        ("Linux version x (y)", None),
        ("a Linux version 6.8.0 (y)", None),
        ("Linux version 6[271]: segfault at 0 ip (0)", None),
    ],
)
def test_release(line: str, release: str | None) -> None:
    """The release comes from the kernel's first line."""
    assert boot(f"{line}\n").kernel_release == release


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ("Command line: BOOT_IMAGE=/boot/vmlinuz-6.8.0-1004-intel root=/dev/sda2", "6.8.0-1004-intel"),
        ("Command line: BOOT_IMAGE=(hd0,gpt2)/vmlinuz-6.14.0-1009-intel root=/dev/sda2", "6.14.0-1009-intel"),
        ("Linux version 6.9.0 (x)\nCommand line: BOOT_IMAGE=/vmlinuz-6.8.0 ro", "6.9.0"),
        ("Command line: BOOT_IMAGE=/vmlinuz-6.8.0 ro\nLinux version 6.9.0 (x)", "6.9.0"),
        ("Command line: BOOT_IMAGE=/vmlinuz ro", None),
        ("Command line: BOOT_IMAGE=/boot/vmlinuz-6.8", None),
        ("BOOT_IMAGE=/boot/vmlinuz-6.8.0 ro", None),
    ],
)
def test_release_from_the_boot_image(text: str, release: str | None) -> None:
    """Where the log lost the version, the image's name tells, unless the line may end inside it."""
    assert boot(f"{text}\n").kernel_release == release


LINES = [
    "Early memory node ranges",
    "node   0: [mem 0x0000000000001000-0x000000000008efff]",
    "BIOS-provided physical RAM map:",
    "user-defined physical RAM map:",
    "BIOS-e820: [mem 0x0000000000000000-0x000000000009efff] usable",
    "user: [mem 0x0000000000000000-0x000000000009efff] usable",
    "BIOS-e820: [gap 0x000000000009f000-0x00000000000fffff]",
    "user: [gap 0x000000000009f000-0x00000000000fffff]",
    "ACPI: SRAT: Node 0 PXM 0 [mem 0x00000000-0x7fffffff] hotplug",
    ".... node  #0, CPUs:        #1 #2",
    "Faking a node at [mem 0x0000000000000000-0x000000007fffffff]",
    "Zone ranges:",
    "DMA      [mem 0x0000000000001000-0x0000000000ffffff]",
    "Device   empty",
    "Movable zone start for each node",
    "Node 1: 0x0000004080000000",
    "crashkernel reserved: 0x0000000043000000 - 0x0000000053000000 (256 MB)",
    "crashkernel low reserved: 0x0000000043000000 - 0x0000000053000000 (256 MB)",
    "HugeTLB: registered 1.00 GiB page size, pre-allocated 4 pages",
    "Linux version 6.8.0-1004-intel (buildd@lcy02) #1",
    "Command line: nohibernate",
    "Command line:nohibernate",
    "Kernel command line: nohibernate",
    "smpboot: CPU0: Intel(R) Xeon(R) (family: 0x6, model: 0xcf, stepping: 0x2)",
    "x86/tme: not enabled by BIOS",
    "smp: Brought up 2 nodes, 256 CPUs",
]


@pytest.mark.parametrize("line", LINES)
def test_what_is_read_begins_like_it(line: str) -> None:
    """A message that begins otherwise is not looked at: each that is understood has to begin like one."""
    assert boot_lines.is_one(line)
    assert boot_lines.begins_like_one(line)


def test_every_pattern_has_its_line() -> None:
    """The lines above are of all patterns, but for parts of lines and what may begin as anything."""
    apart = {"E820_TYPES", "BOOT_IMAGE", "AMD", "BIOS", "ROW"}
    found = {name: value for name, value in vars(boot_lines).items() if isinstance(value, re.Pattern)}
    for name in found.keys() - apart:
        assert name.startswith("_") or any(found[name].fullmatch(line) for line in LINES), name


def test_command_line() -> None:
    """The kernel's own line of arguments, the last one printed, counts."""
    found = boot(
        "Command line: BOOT_IMAGE=/x kvm_intel.tdx=1\nKernel command line: BOOT_IMAGE=/x kvm_intel.tdx=0\n"
    )
    assert found.command_line == "BOOT_IMAGE=/x kvm_intel.tdx=0"
    assert boot("Command line:\n").command_line == ""


@pytest.mark.parametrize(
    "forged",
    [
        "  node   0: [mem[271]: segfault at 0",
        "BIOS-e820: [mem[271]: segfault at 0",
        "node   0: [mem 0x0000000100000000-0x00000001ffffffff] x",
        r"x\x0a  node   7: [mem 0x0000000000001000-0x000000000009efff]",
        "BIOS-e820: [mem 0x0000000000000000-0x000000000009efff]\x0busable",
        "Early memory no[271]: segfault at 0",
        "node 123456: [mem 0x0-0xfff]",
    ],
)
def test_forged_records_change_nothing(forged: str) -> None:
    """A record that only begins like a row of the map adds nothing and cuts nothing."""
    lines = [*E820.splitlines(), "x", *SRAT.splitlines(), *NODES.splitlines(), "x"]
    expected = boot("\n".join(lines))
    for i in range(len(lines) + 1):
        log = KernelLog(tuple(map(LogRecord, [*lines[:i], forged, *lines[i:]])))
        found = read_boot_map(log, "a log")
        assert found.e820.value == expected.e820.value
        assert found.node_ranges.value == expected.node_ranges.value
        assert found.srat.value == expected.srat.value


ZONES = """\
Zone ranges:
  DMA      [mem 0x0000000000001000-0x0000000000ffffff]
  DMA32    [mem 0x0000000001000000-0x00000000ffffffff]
  Normal   [mem 0x0000000100000000-0x000000107fffffff]
  Device   empty
Movable zone start for each node
  Node 1: 0x0000000c00000000
"""


def test_zones() -> None:
    """The boot messages tell each zone's range over all nodes, and where movable zones begin."""
    found = boot(f"{ZONES}{NODES}end\n")
    assert found.zones.value == [
        ("DMA", 0x1000, 0x100_0000),
        ("DMA32", 0x100_0000, 0x1_0000_0000),
        ("Normal", 0x1_0000_0000, 0x10_8000_0000),
    ]
    assert found.movable == ((1, 0xC_0000_0000),)
    assert found.node_ranges.value == NODE_RANGES


def test_movable_zones_printed_twice() -> None:
    """Only the first list of movable zones counts in a text."""
    again = "Movable zone start for each node\n  Node 0: 0x0000000800000000\n"
    assert boot(ZONES + again + "end\n").movable[:1] == boot(ZONES + "end\n").movable[:1]


def test_zones_that_are_cut() -> None:
    """A list of zones counts only when its head and end are there."""
    lines = ZONES.splitlines()
    assert boot("\n".join(lines[:4])).zones.value is None
    assert boot("\n".join([*lines[2:4], "end"])).zones.value is None
    absent = boot("hello\n").zones.error
    assert absent is not None
    assert absent.absent


def test_memory_for_a_crash_kernel() -> None:
    """Both reservations for a crash kernel are told; this line's end is not part of them."""
    found = boot(
        "crashkernel low reserved: 0x0000000050000000 - 0x0000000060000000 (256 MB)\n"
        "crashkernel reserved: 0x0000001040000000 - 0x0000001060000000 (512 MB)\n"
    )
    assert found.crash_kernel == ((0x5000_0000, 0x6000_0000), (0x10_4000_0000, 0x10_6000_0000))
