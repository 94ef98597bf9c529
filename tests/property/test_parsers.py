# SPDX-License-Identifier: Apache-2.0
"""Every parser with anything at all, and with what a kernel could have printed."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from tdx_headroom.address import Range, union
from tdx_headroom.errors import AgentError, SourceError, one_line
from tdx_headroom.facts.host_facts import (
    DEFAULT_LIMITS,
    FactsError,
    GivenBases,
    HostFacts,
    Limits,
    MemoryRegion,
    PamtEntrySize,
    Placement,
)
from tdx_headroom.facts.kernel_report import FailureReason, KernelReport, ModuleState, SeamcallFailure
from tdx_headroom.facts.observations import FirmwareRange, LogHealth, NodeRange, Platform
from tdx_headroom.facts.sources import CmrSource, MemorySource, PlacementSource, SourceStatus
from tdx_headroom.inputs.printed import files_in
from tdx_headroom.sources.firmware_memmap import parse_entries, parse_firmware_entry
from tdx_headroom.sources.iomem import IomemRow, parse_iomem, system_ram
from tdx_headroom.sources.kernel_log.boot_map import read_boot_map
from tdx_headroom.sources.kernel_log.kmsg import collect, parse_kmsg, parse_kmsg_record
from tdx_headroom.sources.kernel_log.records import KernelLog, LogRecord
from tdx_headroom.sources.kernel_log.report import read_report
from tdx_headroom.sources.kernel_log.steps import steps
from tdx_headroom.sources.kernel_log.text import parse_log_text
from tdx_headroom.sources.memblock import MemblockRegion, parse_memblock
from tdx_headroom.sources.nodes import node_ranges, parse_block_size, parse_blocks
from tdx_headroom.sources.platform import (
    parse_boot_time,
    parse_cpuinfo,
    parse_meminfo_total,
    parse_misc_capacity,
    parse_power_disk,
    relevant_arguments,
)
from tdx_headroom.sources.zoneinfo import parse_zoneinfo

if TYPE_CHECKING:
    from collections.abc import Callable

moderate = settings(max_examples=60)
LAST = (1 << 64) - 1


def whole_log(text: str) -> None:
    """All that is done with a log."""
    log = parse_log_text(text)
    read_report(log)
    read_boot_map(log, "test")


def whole_kmsg(text: str) -> None:
    """All that is done with a captured device."""
    log = parse_kmsg(text)
    read_report(log)
    read_boot_map(log, "test")


PARSERS: dict[str, Callable[[str], object]] = {
    "iomem": lambda text: system_ram(parse_iomem(text)),
    "memblock": parse_memblock,
    "memmap-start": lambda text: parse_firmware_entry("0", text, "0xfff", "System RAM"),
    "memmap-end": lambda text: parse_firmware_entry("0", "0x0", text, text),
    "memmap-entries": parse_entries,
    "block-size": parse_block_size,
    "blocks": parse_blocks,
    "zoneinfo": parse_zoneinfo,
    "log": whole_log,
    "kmsg": whole_kmsg,
    "cpuinfo": parse_cpuinfo,
    "misc": parse_misc_capacity,
    "power": parse_power_disk,
    "meminfo": parse_meminfo_total,
    "stat": parse_boot_time,
    "cmdline": relevant_arguments,
    "printed": lambda text: files_in(text, "x"),
}

# What each parser reads when all is well; parts of it are replaced by anything.
SAMPLES: dict[str, bytes] = {
    "iomem": b"""\
00001000-0009ffff : System RAM
  01000000-01ffffff : Kernel code
100000000-1ffffffff : System RAM (kmem)
""",
    "memblock": b"""\
   0: 0x0000000000001000..0x000000000009efff    0 HOTPLUG|MIRROR
   1: 0x0000000000100000..0x00000000001fffff    x NONE
""",
    "memmap-start": b"0x0\n",
    "memmap-end": b"0xfff\n",
    "memmap-entries": b"0 0x0 0x9efff System RAM\n1 0x9f000 0xfffff Reserved\n",
    "block-size": b"8000000\n",
    "blocks": b"0-127,256,300-511\n",
    "zoneinfo": b"Node 0, zone  Normal\n    spanned  4096\n    present  4096\n  start_pfn: 1048576\n",
    "log": b"""\
<6>[    0.000000] Linux version 6.8.0-1004-intel (x) #1
kern  :info  : [    0.000000] BIOS-provided physical RAM map:
[    0.000000] BIOS-e820: [mem 0x0000000000000000-0x000000000009efff] usable
[    0.000000] BIOS-e820: [gap 0x000000000009f000-0x00000000000fffff]
[    0.4] ACPI: SRAT: Node 0 PXM 0 [mem 0x00000000-0x7fffffff] hotplug
Jul 10 20:50:19 host kernel: Early memory node ranges
[    0.4]   node   0: [mem 0x0000000000001000-0x000000000008efff]
[    1.6] virt/tdx: BIOS enabled: private KeyID range [32, 64)
[    1.6] virt/tdx: TDX module 2.0.08.00, build number 882, build date 0134fed5
[    1.6] virt/tdx: CMR: [0x100000, 0x6f800000)
[    1.6] virt/tdx: consumed TDMRs reaching limit: 61 used out of 64
[    1.6] virt/tdx: SEAMCALL (0x0000000000000022) failed: 0xc000050500000000
[    1.6] virt/tdx: 262659 pages allocated for PAMT.
[    1.6] virt/tdx: module initialization failed (-28)
""",
    "kmsg": b"6,425,1630945,-,caller=T1;virt/tdx: 5 KB allocated for PAMT\\x0a\n SUBSYSTEM=x\n",
    "cpuinfo": b"processor\t: 0\nmodel name\t: X\nflags\t: tdx_host_platform\n",
    "misc": b"tdx 31\n",
    "power": b"[disabled]\n",
    "meminfo": b"MemTotal:       527987284 kB\n",
    "stat": b"btime 1720637419\n",
    "cmdline": b"quiet memmap=1G$498G\n",
    "printed": b"""\
alice@rack7:~$ sudo cat /proc/iomem
00001000-0009ffff : System RAM
...
$ uname -r
6.17.0
# cat /proc/cpuinfo /sys/power/disk /sys/module/kvm_intel/parameters/tdx
processor\t: 0
[disabled]
Y
   0: 0x0000000000001000..0x000000000009efff
/sys/firmware/memmap/0/start:0x0
Node 0, zone  Normal
    spanned  4096
""",
}
JOURNAL = (
    b'{"MESSAGE":"virt/tdx: module initialized","_BOOT_ID":"1","_TRANSPORT":"kernel","SYSLOG_FACILITY":"0"}\n'
    b'{"MESSAGE":[118,105],"_BOOT_ID":"1","_TRANSPORT":"kernel"}\n'
)
DMESG = (
    b'{"dmesg": [{"fac": "kern", "pri": "info", "msg": "virt/tdx: CMR: [0x0, 0x0)"}, {"pri": 6, "msg": "x"}]}'
)


def decoded(data: bytes) -> str:
    """As the agent decodes what it reads."""
    return data.decode("utf-8", "backslashreplace")


def survives(parser: Callable[[str], object], text: str) -> None:
    """The parser gives a value, or says why not in one printable line."""
    shown = ""
    try:
        parser(text)
    except (AgentError, SourceError) as error:
        shown = str(error)
    assert shown.isprintable()
    assert len(shown) < 1000


@pytest.mark.parametrize("name", PARSERS)
@given(data=st.binary(max_size=200))
@moderate
def test_anything(name: str, data: bytes) -> None:
    """No parser fails other than by saying why."""
    survives(PARSERS[name], decoded(data))


@pytest.mark.parametrize("name", PARSERS)
@given(data=st.data())
@moderate
def test_anything_in_the_middle(name: str, data: st.DataObject) -> None:
    """No parser fails on a text that is almost right."""
    sample = SAMPLES[name]
    if name == "log":
        sample = data.draw(st.sampled_from([sample, JOURNAL, DMESG]))
    start = data.draw(st.integers(0, len(sample)))
    end = data.draw(st.integers(start, min(len(sample), start + 20)))
    repeat = data.draw(st.sampled_from([1, 1, 1, 40]))
    middle = data.draw(
        st.binary(max_size=12) | st.text('0123456789abcdefx-:;, []()|\n{}"', max_size=12).map(str.encode)
    )
    survives(PARSERS[name], decoded(sample[:start] + middle * repeat + sample[end:]))


def long_numbers(text: str) -> list[str]:
    """The text with each of its numbers in turn replaced by one of five thousand digits."""
    found = []
    for i, c in enumerate(text):
        if c.isdigit() and not (i and (text[i - 1].isalnum() or text[i - 1] == ".")):
            j = i
            while j < len(text) and text[j].isdigit():
                j += 1
            found.append(text[:i] + "9" * 5000 + text[j:])
    return found


@pytest.mark.parametrize("name", PARSERS)
def test_number_of_any_length(name: str) -> None:
    """A number of five thousand digits, which Python refuses to convert, makes no parser fail."""
    for text in long_numbers(decoded(SAMPLES[name])):
        survives(PARSERS[name], text)


@pytest.mark.parametrize(
    "message",
    [
        "TDX module 2.0.08.00, build number 882, build date " + "f" * 5000,
        "TDX module 2.0.08.00, build number " + "8" * 5000 + ", build date 0134fed5",
        "TDX module: attributes 0x0, vendor_id 0x8086, major_version " + "1" * 5000 + ", minor_version 5,"
        " build_date 20240129, build_num 698",
        "SEAMCALL (0x" + "1" * 5000 + ") failed: 0x0",
        "CMR: [0x" + "1" * 5000 + ", 0x0)",
        "CMR[" + "1" * 5000 + "]: [0x0, 0x1000)",
    ],
)
def test_number_of_any_length_in_a_tdx_line(message: str) -> None:
    """No number in a TDX line is too long to be read or passed over."""
    survives(whole_log, f"virt/tdx: {message}\n")


@pytest.mark.parametrize("text", ['{"a":' * 50_000, '{"MESSAGE":' + "[" * 50_000, '{"dmesg":[' * 50_000])
def test_nesting_of_any_depth(text: str) -> None:
    """JSON that is nested deeper than Python can follow is refused like any other."""
    survives(parse_log_text, text)


@given(st.text(max_size=400))
@moderate
def test_shown_text_is_one_line(text: str) -> None:
    """Whatever text is shown becomes one printable line."""
    assert one_line(text).isprintable()
    assert len(one_line(text)) <= 300


@st.composite
def disjoint(draw: st.DrawFn, *, unit: int = 1, at_least: int = 0, touching: bool = True) -> list[Range]:
    """Ranges in address order without overlap; they may touch and may be of any size up to 64 bits."""
    limit = LAST // unit
    bounds = sorted(draw(st.sets(st.integers(0, limit), min_size=2 * at_least, max_size=16)))
    if touching and draw(st.booleans()):
        pairs = list(pairwise(bounds))
    else:
        pairs = list(zip(bounds[::2], bounds[1::2], strict=False))
    return [Range(start * unit, end * unit) for start, end in pairs]


FLAGS = st.lists(st.sampled_from(["HOTPLUG", "MIRROR", "NOMAP", "DRV_MNG", "RSV_NIT", "UNKNOWN"]), max_size=3)


@given(disjoint(), st.data())
@moderate
def test_memblock_round_trip(found: list[Range], data: st.DataObject) -> None:
    """What memblock prints, with or without the node column, is read back."""
    regions = [
        MemblockRegion(start, end, data.draw(st.none() | st.integers(0, 1023)), tuple(data.draw(FLAGS)))
        for start, end in found
    ]
    text = ""
    for i, r in enumerate(regions):
        node, flags = "x" if r.node is None else r.node, "|".join(r.flags) or "NONE"
        text += f"{i:4d}: 0x{r.start:016x}..0x{r.end - 1:016x} {node:>4} {flags}\n"
    assert parse_memblock(text) == regions
    old = "".join(f"{i:4d}: 0x{r.start:016x}..0x{r.end - 1:016x}\n" for i, r in enumerate(regions))
    assert parse_memblock(old) == [r._replace(node=None, flags=()) for r in regions]


NAMES = st.sampled_from(
    ["System RAM", "System RAM (kmem)", "Reserved", "PCI Bus 0000:00", "Soft Reserved", "ACPI Tables"]
)


@given(disjoint(at_least=1), st.data())
@example([Range(0, 1 << 64)], None)
@moderate
def test_iomem_round_trip(found: list[Range], data: st.DataObject | None) -> None:
    """What the resource tree prints is read back: rows, depths, and all the RAM."""
    rows = [
        IomemRow(start, end, data.draw(NAMES) if data else "x", data.draw(st.integers(0, 4)) if data else 0)
        for start, end in found
    ]
    rows.append(IomemRow(1, 2, "System RAM", 0))
    text = "".join(f"{'  ' * r.depth}{r.start:08x}-{r.end - 1:08x} : {r.name}\n" for r in rows)
    assert parse_iomem(text) == rows
    assert system_ram(rows) == union(r[:2] for r in rows if r.name.startswith("System RAM"))


@given(disjoint(at_least=1), NAMES)
@moderate
def test_memmap_round_trip(found: list[Range], kind: str) -> None:
    """What the firmware's map holds in sysfs is read back."""
    for start, end in found:
        entry = parse_firmware_entry("0", f"{start:#x}\n", f"{end - 1:#x}\n", f"{kind}\n")
        assert entry == FirmwareRange(start, end, kind)


@given(disjoint(at_least=1), st.data())
@moderate
def test_node_ranges_round_trip(found: list[Range], data: st.DataObject) -> None:
    """The boot's list of node ranges is read back, whatever is printed around it."""
    nodes = [NodeRange(r.start, r.end, data.draw(st.integers(0, 99))) for r in found]
    rows = [f"  node {n.node:3d}: [mem 0x{n.start:016x}-0x{n.end - 1:016x}]" for n in nodes]
    log = KernelLog(tuple(map(LogRecord, ["x", "Early memory node ranges", *rows, "y"])))
    assert read_boot_map(log, "test").node_ranges.value == nodes


TYPES = {
    "usable": "System RAM",
    "reserved": "Reserved",
    "ACPI data": "ACPI Tables",
    "ACPI NVS": "ACPI Non-volatile Storage",
    "unusable": "Unusable memory",
    "soft reserved": "Soft Reserved",
    "persistent (type 7)": "Persistent Memory",
}


@given(disjoint(at_least=1), st.sampled_from(["BIOS-e820", "user"]), st.sampled_from([" ", "  "]), st.data())
@moderate
def test_e820_round_trip(found: list[Range], who: str, blanks: str, data: st.DataObject) -> None:
    """The E820 list is read back in both print forms, with gaps and other records in between."""
    head = "BIOS-provided" if who == "BIOS-e820" else "user-defined"
    types = [data.draw(st.sampled_from(sorted(TYPES))) for _ in found]
    rows = [
        f"{who}: [mem 0x{s:016x}-0x{e - 1:016x}]{blanks}{t}" for (s, e), t in zip(found, types, strict=True)
    ]
    extra = data.draw(st.sampled_from([f"{who}: [gap 0x0-0x0]", "other"]))
    rows.insert(data.draw(st.integers(0, len(rows))), extra)
    log = KernelLog(tuple(map(LogRecord, [f"{head} physical RAM map:", *rows, "end"])))
    expected = [FirmwareRange(s, e, TYPES[t]) for (s, e), t in zip(found, types, strict=True)]
    assert read_boot_map(log, "test").e820.value == expected


@given(disjoint(at_least=1))
@moderate
def test_cmrs_round_trip(found: list[Range]) -> None:
    """CMRs are read back in order, up to the last address that the kernel can print."""
    lines = [f"virt/tdx: CMR: [{r.start:#x}, {r.end:#x})" for r in found]
    report = read_report(KernelLog(tuple(map(LogRecord, ["x", *lines, "y"]))))
    assert report.cmrs == tuple(found)
    assert report.cmrs_complete


# What the kernel leaves as it is: printable ASCII, without the backslash of its escapes.
PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="\\"), max_size=60)
RECORDS = st.lists(
    st.tuples(
        st.integers(0, 200),
        st.integers(0, 1 << 63),
        PRINTABLE,
        st.booleans(),
        st.sampled_from(["", ",caller=T1"]),
    ),
    max_size=12,
)


@given(RECORDS)
@moderate
def test_kmsg_round_trip(records: list[tuple[int, int, str, bool, str]]) -> None:
    """Records of /dev/kmsg are read back, the kernel's apart from all others, the oldest first."""
    assume(not steps(seq for _, seq, *_ in records).fall_throughout)
    text = "".join(
        f"{priority},{seq},17,-{more};{message}\n" + (" SUBSYSTEM=pci\n" if continued else "")
        for priority, seq, message, continued, more in records
    )
    log = parse_kmsg(text)
    assert log.records == tuple(LogRecord(m, seq, 17) for priority, seq, m, _, _ in records if priority < 8)
    assert log.untrusted == tuple(m for priority, _, m, _, _ in records if priority >= 8)


@given(st.binary(max_size=40))
@moderate
def test_kmsg_escapes(raw: bytes) -> None:
    """However the kernel escapes a message, its text is one line, and printable letters come back."""
    escaped = "".join(chr(b) if 32 <= b < 127 and b != 0x5C else f"\\x{b:02x}" for b in raw)
    message = parse_kmsg_record(f"6,1,2,-;{escaped}")[3]
    assert message.isprintable()
    decoded_raw = raw.decode("utf-8", "replace")
    if decoded_raw.isprintable() and "\ufffd" not in decoded_raw and "\\" not in decoded_raw:
        assert message == decoded_raw


@given(st.lists(st.integers(0, 60), max_size=30, unique=True))
@moderate
def test_losses(numbers: list[int]) -> None:
    """As many records are lost as sequence numbers are missing between the first and the last."""
    seen = sorted(numbers)
    lost = collect([(6, seq, 0, "x") for seq in seen], 0).lost
    assert lost == (seen[-1] - seen[0] + 1 - len(seen) if seen else 0)


FORMS: dict[str, Callable[[str], str]] = {
    "bare": lambda m: m,
    "time": lambda m: f"[    1.630945] {m}",
    "decoded": lambda m: f"kern  :info  : [    1.630945] {m}",
    "date": lambda m: f"[Wed Jul 10 20:50:19 2024] {m}",
    "journal": lambda m: f"Jul 10 20:50:19 host kernel: {m}",
    "json": lambda m: json.dumps({"MESSAGE": m, "_TRANSPORT": "kernel", "_BOOT_ID": "1"}),
}
WORDS = st.text(st.characters(min_codepoint=97, max_codepoint=122), min_size=1, max_size=8)
MESSAGES = st.lists(st.lists(WORDS, min_size=1, max_size=6).map(" ".join), min_size=1, max_size=8)


@pytest.mark.parametrize("form", FORMS)
@given(messages=MESSAGES)
@moderate
def test_log_text_round_trip(form: str, messages: list[str]) -> None:
    """Messages come back from each printed form in their order."""
    text = "".join(FORMS[form](message) + "\n" for message in messages)
    assert [record.text for record in parse_log_text(text).records] == messages


@given(st.dictionaries(st.integers(0, 4), st.lists(st.integers(0, 30), unique=True), max_size=4))
@moderate
def test_nodes_of_blocks(blocks: dict[int, list[int]]) -> None:
    """A block belongs to the node that alone has it, and to none when two have it."""
    size = 1 << 27
    found = node_ranges(blocks, size)
    for number in range(31):
        owners = [node for node, numbers in blocks.items() if number in numbers]
        holding = [r.node for r in found if r.start <= number * size < r.end]
        assert holding == (owners if len(owners) == 1 else [])
    assert all(a.end < b.start or a.node != b.node for a, b in pairwise(found))


ADDRESS = st.integers(0, 1 << 64)
NUMBER = st.integers(1, 1 << 64)
RANGE = st.tuples(ADDRESS, ADDRESS).map(lambda r: Range(min(r), max(r)))
TEXT = st.text(max_size=20)
REPORTS = st.builds(
    KernelReport,
    state=st.sampled_from(ModuleState),
    reason=st.none() | st.sampled_from(FailureReason),
    errno=st.none() | st.integers(-4095, -1),
    message=st.none() | TEXT,
    keyids=st.none() | st.tuples(st.integers(0, 65535), st.integers(0, 65536)),
    cmrs=st.none() | st.lists(RANGE, max_size=4).map(tuple),
    cmrs_complete=st.booleans(),
    pamt_kib=st.none() | NUMBER,
    dynamic_pamt=st.none() | st.booleans(),
    failed_tdmr=st.none() | RANGE,
    seamcall=st.none() | st.builds(SeamcallFailure, leaf=ADDRESS, status=ADDRESS, rdx=st.none() | ADDRESS),
    verified=st.booleans(),
)
PLATFORMS = st.builds(
    Platform,
    tdx_host_platform=st.none() | st.booleans(),
    guest_keyids=st.none() | NUMBER,
    command_line=st.none() | st.lists(TEXT, max_size=3).map(tuple),
    cpu_model=st.none() | TEXT,
    boot_time=st.none() | st.floats(0, 1e12),
)
FACTS = st.builds(
    HostFacts,
    host=st.none() | TEXT,
    limits=st.just(DEFAULT_LIMITS)
    | st.builds(
        Limits,
        max_tdmrs=NUMBER,
        max_reserved_per_tdmr=NUMBER,
        pamt_entry_size=st.builds(PamtEntrySize, NUMBER, NUMBER, NUMBER),
        pamt_page_bitmap_entry_bits=st.none() | NUMBER,
    ),
    memory_regions=st.none()
    | disjoint().map(lambda found: tuple(MemoryRegion(r.start, r.end, r.start % 3 or None) for r in found)),
    cmrs=st.none() | st.lists(st.tuples(ADDRESS, ADDRESS), max_size=40).map(tuple),
    pamt_placement=st.sampled_from([Placement.PREDICTED, Placement.NONE])
    | st.lists(st.none() | ADDRESS, max_size=4).map(lambda bases: GivenBases(tuple(bases))),
    memory_source=st.none() | TEXT.map(MemorySource) | st.sampled_from(MemorySource),
    cmr_source=st.none() | TEXT.map(CmrSource) | st.builds(CmrSource, st.just("kernel-log"), TEXT, TEXT),
    placement_source=st.none() | st.builds(PlacementSource, TEXT, st.none() | TEXT),
    sources=st.lists(
        st.builds(SourceStatus, source=TEXT, origin=TEXT, ok=st.booleans(), error=st.none() | TEXT),
        max_size=2,
    ).map(tuple),
    kernel_log=st.none() | REPORTS,
    log_health=st.none() | st.builds(LogHealth, lost=NUMBER, verified=st.booleans()),
    platform=st.none() | PLATFORMS,
)


@given(FACTS)
@moderate
def test_facts_round_trip(facts: HostFacts) -> None:
    """Any facts survive a trip through JSON text."""
    assert HostFacts.from_json(json.loads(json.dumps(facts.to_json(), allow_nan=False))) == facts


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=8,
)


@given(st.sampled_from(sorted(HostFacts().to_json())), JSON)
@settings(max_examples=200)
def test_facts_with_anything_in_a_part(key: str, value: object) -> None:
    """Anything in place of a part is read or refused in one line that names the part."""
    table = {**HostFacts().to_json(), key: value}
    shown = key
    try:
        HostFacts.from_json(table)
    except FactsError as error:
        shown = str(error)
    assert shown.isprintable()
    assert key in shown
