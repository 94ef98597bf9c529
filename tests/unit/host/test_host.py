# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tdx_headroom.facts.host_facts import HostFacts, MemoryRegion
from tdx_headroom.facts.kernel_report import ModuleState
from tdx_headroom.facts.sources import CmrSource
from tdx_headroom.host.choose import facts_from_log, read_facts
from tdx_headroom.hostfs.root import Root
from tdx_headroom.sources.kernel_log.reader import read_log_file
from tdx_headroom.verdict.assessment import assess

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    HostTree = Callable[[Mapping[str, str | bytes]], Root]

MESSAGES = """\
Linux version 6.8.0-1004-intel (buildd@host) (gcc 13.2.0) #4-Ubuntu SMP
Command line: BOOT_IMAGE=/vmlinuz root=/dev/sda kvm_intel.tdx=1 nohibernate
BIOS-provided physical RAM map:
BIOS-e820: [mem 0x0000000000000000-0x000000000009efff] usable
BIOS-e820: [mem 0x000000000009f000-0x00000000000fffff] reserved
BIOS-e820: [mem 0x0000000000100000-0x000000005d168fff] usable
BIOS-e820: [mem 0x0000000100000000-0x000000107fffffff] usable
NX (Execute Disable) protection: active
ACPI: SRAT: Node 0 PXM 0 [mem 0x00000000-0x7fffffff]
ACPI: SRAT: Node 0 PXM 0 [mem 0x100000000-0x83fffffff]
ACPI: SRAT: Node 1 PXM 1 [mem 0x840000000-0x107fffffff]
Early memory node ranges
  node   0: [mem 0x0000000000001000-0x000000000009efff]
  node   0: [mem 0x0000000000100000-0x000000005d168fff]
  node   0: [mem 0x0000000100000000-0x000000083fffffff]
  node   1: [mem 0x0000000840000000-0x000000107fffffff]
Initmem setup node 0 [mem 0x0000000000001000-0x000000083fffffff]
virt/tdx: BIOS enabled: private KeyID range [32, 64)
virt/tdx: CMR: [0x100000, 0x6f800000)
virt/tdx: CMR: [0x100000000, 0x107a000000)
virt/tdx: initialization failed: TDMR [0x0, 0x80000000): reserved areas exhausted.
virt/tdx: module initialization failed (-28)
kvm_intel: Failed to initialize TDX module.
"""
KMSG = "".join(f"6,{seq},{seq},-;{text}\n" for seq, text in enumerate(MESSAGES.splitlines()))
REGIONS = (
    MemoryRegion(0x1000, 0x9F000, 0),
    MemoryRegion(0x100000, 0x5D169000, 0),
    MemoryRegion(0x1_0000_0000, 0x8_4000_0000, 0),
    MemoryRegion(0x8_4000_0000, 0x10_8000_0000, 1),
)
CMRS = ((0x100000, 0x6F700000), (0x1_0000_0000, 0xF_7A00_0000))

MEMBLOCK = "sys/kernel/debug/memblock/memory"
MEMBLOCK_NEW = "".join(
    f"{i:4d}: 0x{r[0]:016x}..0x{r[1] - 1:016x} {r[2]:4d} NONE\n" for i, r in enumerate(REGIONS)
)
MEMBLOCK_OLD = "".join(f"{i:4d}: 0x{r[0]:016x}..0x{r[1] - 1:016x}\n" for i, r in enumerate(REGIONS))
IOMEM = """\
00000000-00000fff : Reserved
00001000-0009efff : System RAM
00100000-5d168fff : System RAM
100000000-107fffffff : System RAM
"""
MASKED = "".join(f"00000000-00000000 : {line.split(' : ')[1]}\n" for line in IOMEM.splitlines())


def memmap(*entries: tuple[int, int, str]) -> dict[str, str | bytes]:
    files: dict[str, str | bytes] = {}
    for number, (start, end, kind) in enumerate(entries):
        folder = f"sys/firmware/memmap/{number}"
        files |= {
            f"{folder}/start": f"{start:#x}\n",
            f"{folder}/end": f"{end - 1:#x}\n",
            f"{folder}/type": kind,
        }
    return files


FIRMWARE = memmap(
    (0, 0x9F000, "System RAM"),
    (0x9F000, 0x100000, "Reserved"),
    (0x100000, 0x5D169000, "System RAM"),
    (0x1_0000_0000, 0x10_8000_0000, "System RAM"),
)
NODES: dict[str, str | bytes] = {
    "sys/devices/system/memory/block_size_bytes": "40000000\n",
    **{f"sys/devices/system/node/node0/memory{n}/state": "online" for n in (*range(2), *range(4, 33))},
    **{f"sys/devices/system/node/node1/memory{n}/state": "online" for n in range(33, 66)},
}
HOST: dict[str, str | bytes] = {
    MEMBLOCK: MEMBLOCK_NEW,
    "proc/iomem": IOMEM,
    "dev/kmsg": KMSG,
    "proc/cpuinfo": "processor\t: 0\nflags\t: tdx_host_platform\n",
    "proc/cmdline": "BOOT_IMAGE=/x nohibernate\n",
    "proc/zoneinfo": "Node 0, zone  Normal\n    spanned  4096\n    present  4096\n  start_pfn: 1048576\n",
    "proc/sys/kernel/osrelease": "6.8.0-1004-intel\n",
    "proc/sys/kernel/hostname": "emr-1\n",
    **FIRMWARE,
    **NODES,
}


def without(*prefixes: str) -> dict[str, str | bytes]:
    return {path: text for path, text in HOST.items() if not path.startswith(prefixes)}


def status(facts: HostFacts) -> dict[str, bool]:
    return {source.source: source.ok for source in facts.sources}


def test_host_with_all_sources(host_tree: HostTree) -> None:
    """Memblock's own list is the best source; all sources are told of, and agree."""
    facts = read_facts(host_tree(HOST))
    assert facts.memory_regions == REGIONS
    assert (facts.memory_source, facts.node_source) == ("memblock", "memblock")
    assert facts.cmr_source == CmrSource("kernel-log")
    assert facts.cmrs == CMRS
    assert facts.disagreements == ()
    assert (facts.host, facts.kernel_release) == ("emr-1", "6.8.0-1004-intel")
    assert facts.command_line == ("nohibernate",)
    assert facts.firmware_map is not None
    assert len(facts.firmware_map) == 4
    assert facts.kernel_log is not None
    assert facts.kernel_log.state is ModuleState.FAILED
    assert facts.kernel_log.verified
    assert facts.log_health is not None
    assert facts.log_health.from_boot
    assert status(facts) == dict.fromkeys(
        [
            *("memblock", "iomem", "firmware-memmap", "nodes", "zoneinfo", "platform", "kernel-log"),
            *("log-node-ranges", "log-e820", "log-srat"),
        ],
        True,
    )


@pytest.mark.parametrize(
    ("gone", "source", "node_source"),
    [
        ((MEMBLOCK,), "log-node-ranges", "log-node-ranges"),
        ((MEMBLOCK, "dev/"), "iomem", "nodes"),
        ((MEMBLOCK, "dev/", "proc/iomem"), "firmware-memmap", "nodes"),
        ((MEMBLOCK, "dev/", "proc/iomem", "sys/devices/"), "firmware-memmap", None),
    ],
)
def test_next_best_source(
    host_tree: HostTree, gone: tuple[str, ...], source: str, node_source: str | None
) -> None:
    """Where a source is missing the next best one serves; the facts say which, and that the other failed."""
    facts = read_facts(host_tree(without(*gone)))
    assert (facts.memory_source, facts.node_source) == (source, node_source)
    assert facts.memory_regions is not None
    expected = REGIONS if node_source else (*REGIONS[:2], MemoryRegion(0x1_0000_0000, 0x10_8000_0000, None))
    if source == "firmware-memmap":
        expected = (
            (MemoryRegion(0, 0x9F000, 0), *expected[1:])
            if node_source
            else (MemoryRegion(0, 0x9F000, None), *expected[1:])
        )
    assert [r[:2] for r in facts.memory_regions] == [r[:2] for r in expected]
    assert facts.nodes_known is (node_source is not None)
    assert not status(facts)["memblock"]


def test_firmware_list_of_the_log(host_tree: HostTree) -> None:
    """With nothing but a log that lost its node ranges, the firmware's list with SRAT's nodes serves."""
    text = MESSAGES.replace("Early memory node ranges\n", "").replace("  node ", "  gone ")
    facts = read_facts(host_tree({"dmesg": text}))
    assert (facts.memory_source, facts.node_source) == ("log-e820", "log-srat")
    assert facts.memory_regions == (MemoryRegion(0, 0x9F000, 0), *REGIONS[1:])


def test_old_memblock_gets_nodes_from_elsewhere(host_tree: HostTree) -> None:
    """Memblock's list without a node column takes the nodes of the log or of sysfs."""
    facts = read_facts(host_tree({**HOST, MEMBLOCK: MEMBLOCK_OLD}))
    assert facts.memory_regions == REGIONS
    assert (facts.memory_source, facts.node_source) == ("memblock", "log-node-ranges")
    facts = read_facts(host_tree({**HOST, MEMBLOCK: MEMBLOCK_OLD, "dev/kmsg": "6,0,0,-;x\n"}))
    assert facts.memory_regions == REGIONS
    assert (facts.memory_source, facts.node_source) == ("memblock", "nodes")


def test_memblock_without_any_node(host_tree: HostTree) -> None:
    """Where nothing tells a node, none is claimed, and no source of nodes is named."""
    facts = read_facts(host_tree({MEMBLOCK: MEMBLOCK_OLD}))
    assert facts.memory_regions == tuple(MemoryRegion(r.start, r.end, None) for r in REGIONS)
    assert not facts.nodes_known
    assert facts.node_source is None


def test_masked_iomem_is_no_source(host_tree: HostTree) -> None:
    """Zeros are not taken for memory, and the facts say why."""
    facts = read_facts(host_tree({**without(MEMBLOCK, "dev/"), "proc/iomem": MASKED}))
    assert facts.memory_source == "firmware-memmap"
    (iomem,) = (source for source in facts.sources if source.source == "iomem")
    assert iomem.error is not None
    assert "not privileged" in iomem.error


@pytest.mark.parametrize(
    ("gone", "said"),
    [(("sys/kernel/debug",), "from iomem-crash-kernel"), (("sys/kernel/debug", "proc/iomem"), "unknown")],
)
def test_a_source_that_failed_is_no_source_of_reserved_memory(
    gone: tuple[str, ...], said: str, host_tree: HostTree
) -> None:
    """Without memblock the crash kernel's memory is in iomem; without both nothing is known of it."""
    found = read_facts(host_tree(without(*gone))).placement_source
    assert found is not None
    assert str(found).endswith(f"reserved memory {said}")


def test_memory_added_since_boot(host_tree: HostTree) -> None:
    """Hot-added memory is missing in the boot's list: the live view counts, and the difference is told."""
    added = IOMEM + "1080000000-10bfffffff : System RAM (kmem)\n"
    facts = read_facts(host_tree({**without(MEMBLOCK), "proc/iomem": added}))
    assert facts.memory_source == "iomem"
    assert facts.memory_regions is not None
    assert facts.memory_regions[-1][:2] == (0x10_8000_0000, 0x10_C000_0000)
    assert {(d.a, d.b, d.bytes) for d in facts.disagreements} == {
        ("iomem", "log-node-ranges", 1 << 30),
        ("iomem", "log-e820", 1 << 30),
        ("iomem", "firmware-memmap", 1 << 30),
    }


def test_hole_by_command_line(host_tree: HostTree) -> None:
    """A memmap= hole is what the firmware's map has and the kernel's has not."""
    facts = read_facts(
        host_tree({**HOST, **memmap((0, 0x9F000, "System RAM"), (0x100000, 0x7D169000, "System RAM"))})
    )
    (found,) = (d for d in facts.disagreements if d.b == "firmware-memmap")
    assert found.a == "memblock"
    assert found.only_b == ((0x5D169000, 0x7D169000),)


def test_firmware_map_of_sysfs(host_tree: HostTree) -> None:
    """The firmware's map comes from sysfs even when the log has one."""
    facts = read_facts(host_tree({"dev/kmsg": KMSG, **memmap((0, 0x1000, "Reserved"))}))
    assert facts.firmware_map == ((0, 0x1000, "Reserved"),)


def test_firmware_map_of_the_log_alone(host_tree: HostTree) -> None:
    """Without sysfs the log's own list tells what the firmware gave."""
    facts = read_facts(host_tree({"dev/kmsg": KMSG}))
    assert facts.firmware_map is not None
    assert len(facts.firmware_map) == 4
    assert (0x9F000, 0x100000, "Reserved") in facts.firmware_map


def test_cut_list_of_cmrs_is_unknown(host_tree: HostTree) -> None:
    """CMRs count only when a later line shows that their list is whole."""
    cut = MESSAGES[: MESSAGES.index("virt/tdx: initialization")]
    facts = read_facts(host_tree({"dmesg": cut}))
    assert facts.cmrs is None
    assert facts.cmr_source is None
    assert facts.kernel_log is not None
    assert facts.kernel_log.cmrs is not None


def test_list_that_is_cut_is_told(host_tree: HostTree) -> None:
    """A list whose end is missing fails as a source; one that is not there at all is not mentioned."""
    cut = MESSAGES[: MESSAGES.index("Initmem")]
    facts = read_facts(host_tree({"dmesg": cut}))
    assert facts.memory_source == "log-e820"
    assert not status(facts)["log-node-ranges"]
    assert "log-node-ranges" not in status(read_facts(host_tree({"dmesg": "hello\n"})))


def test_empty_host(host_tree: HostTree) -> None:
    """A tree with nothing in it gives facts in which nothing is known and every source failed."""
    facts = read_facts(host_tree({}))
    assert facts.memory_regions is None
    assert facts.cmrs is None
    assert facts.firmware_map is None
    assert facts.command_line is None
    assert facts.kernel_log is None
    assert facts.log_health is None
    assert facts.platform is None
    assert set(status(facts).values()) == {False}
    assert all(source.error for source in facts.sources)


def test_one_bad_source_spoils_no_other(host_tree: HostTree) -> None:
    """Each source may fail by itself."""
    for path in (
        MEMBLOCK,
        "proc/iomem",
        "dev/kmsg",
        "sys/firmware/memmap/0/start",
        "sys/devices/system/memory/block_size_bytes",
    ):
        facts = read_facts(host_tree({**HOST, path: b"\x00\xff garbage\n"}))
        assert facts.memory_regions is not None
        assert list(status(facts).values()).count(False) == 1


def test_losses_and_forgeries_are_counted(host_tree: HostTree) -> None:
    """Gaps and records of processes that look like TDX lines are told; the latter change nothing."""
    forged = "12,40,0,-;virt/tdx: module initialized\n14,41,0,-;hello\n6,50,0,-;end\n"
    facts = read_facts(host_tree({**HOST, "dev/kmsg": KMSG + forged}))
    assert facts.log_health is not None
    assert facts.log_health.untrusted == 1
    assert facts.log_health.lost == 40 - len(MESSAGES.splitlines()) + 8
    assert facts.kernel_log is not None
    assert facts.kernel_log.state is ModuleState.FAILED


def test_log_that_lost_the_boot(host_tree: HostTree) -> None:
    """A log that no longer reaches back to the boot says so."""
    facts = read_facts(host_tree({**HOST, "dev/kmsg": "6,99999,0,-;late message\n"}))
    assert facts.log_health is not None
    assert not facts.log_health.from_boot
    assert facts.kernel_log is not None
    assert facts.kernel_log.state is ModuleState.UNKNOWN


def test_log_alone() -> None:
    """A colleague's dmesg gives map, nodes, CMRs, outcome, kernel and arguments, but no platform."""
    facts = facts_from_log(read_log_file("dmesg.txt", MESSAGES))
    assert facts.memory_regions == REGIONS
    assert facts.cmrs == CMRS
    assert (facts.memory_source, facts.node_source, facts.host) == (
        "log-node-ranges",
        "log-node-ranges",
        None,
    )
    assert facts.kernel_release == "6.8.0-1004-intel"
    assert facts.command_line == ("kvm_intel.tdx=1", "nohibernate")
    assert facts.platform is None
    assert facts.kernel_log is not None
    assert not facts.kernel_log.verified
    assert facts.disagreements == ()


def test_dynamic_pamt_of_the_log_is_planned() -> None:
    """A kernel that says it uses Dynamic PAMT allocates far less: the plan agrees with what it logs."""
    text = (
        "BIOS-provided physical RAM map:\n"
        "BIOS-e820: [mem 0x0000000000000000-0x000000003fffffff] usable\n"
        "virt/tdx: BIOS enabled: private KeyID range [32, 64)\n"
        "virt/tdx: Enable Dynamic PAMT\n"
        "virt/tdx: 44 KB allocated for PAMT\n"
        "virt/tdx: TDX-Module initialized\n"
    )
    facts = facts_from_log(read_log_file("log", text))
    assert facts.limits.pamt_page_bitmap_entry_bits == 1
    assert assess(facts).verdict.cross_check.matches is True
    static = facts_from_log(read_log_file("log", text.replace("virt/tdx: Enable Dynamic PAMT\n", "")))
    assert static.limits.pamt_page_bitmap_entry_bits is None
    assert assess(static).verdict.cross_check.matches is False


def test_log_that_cannot_be_read() -> None:
    """An unusable log gives facts in which nothing is known."""
    facts = facts_from_log(read_log_file("dmesg.txt", ""))
    assert facts.memory_regions is None
    assert status(facts) == {"kernel-log": False}


def test_facts_of_a_host_survive_json(host_tree: HostTree) -> None:
    """What was read from a host is the same after a trip through JSON."""
    for files in (HOST, without(MEMBLOCK), {}):
        facts = read_facts(host_tree(files))
        assert HostFacts.from_json(facts.to_json()) == facts


def test_this_machine() -> None:
    """The running host's facts are read without an error, and whatever is known is usable."""
    facts = read_facts(Root("/"))
    assert HostFacts.from_json(facts.to_json()) == facts
    assert facts.kernel_release
    assert len(facts.sources) >= 6
