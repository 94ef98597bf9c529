# SPDX-License-Identifier: Apache-2.0
"""The boot log of a synthetic host, as /dev/kmsg records or as dmesg(1) prints it."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from tests.tools.synthetic.common import NO_UUID
from tests.tools.synthetic.model import GIB, MIB, PAGE, SECTION, ZONES, Line, Span

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.tools.synthetic.model import Entry, Host

NOTICE, INFO, DEBUG = 5, 6, 7
DAEMON, SYSLOG = 30, 46
"""Priorities of records that user space wrote: facility daemon or syslog, level info."""


def records(host: Host) -> list[Line]:
    """All records, in the order of their times."""
    early = _at_zero(host)
    memory = [
        Line(host.command_line_time // 5 + 3 * i + len(line[1]) % 3, *line)
        for i, line in enumerate(_memory(host))
    ]
    kernel = NOTICE, f"Kernel command line: {host.command_line}"
    # The first TDX line comes from an early initcall: the CPU is set up, the devices are not.
    first_tdx = host.tdx[0].time
    middle = [
        *_spread(_setup(host), host.command_line_time // 4, host.command_line_time - 2_000),
        Line(host.command_line_time, *kernel),
        *_spread(_core(host), host.command_line_time + 1_500, first_tdx - 2_000),
        *_spread(_initcalls(host), first_tdx + 2_000, host.start_time - 50_000),
        *_spread(_start(host), host.start_time, host.end_time),
        *host.tdx,
    ]
    # sorted() is stable: at the same microsecond the order above stays.
    devices = _devices(host)
    return [*early, *memory, *sorted([*middle, *devices], key=lambda line: line.time)]


def kmsg(host: Host) -> str:
    """As /dev/kmsg gives them; properties follow on lines that begin with a blank."""
    rows = []
    for seq, line in enumerate(records(host)):
        rows.append(f"{line.priority},{seq},{line.time},-;{line.text}")
        rows += [f" {text}" for text in line.properties]
    return "\n".join(rows) + "\n"


def dmesg(host: Host) -> str:
    """As dmesg(1) prints them."""
    return "".join(
        f"[{line.time // 1_000_000:5}.{line.time % 1_000_000:06}] {line.text}\n" for line in records(host)
    )


def _spread(lines: Sequence[tuple[int, str]], first: int, last: int) -> list[Line]:
    """Times between two, unevenly, the same at every run."""
    weights = [3 + (7 * i + 5 * len(text)) % 23 for i, (_, text) in enumerate(lines)]
    whole = sum(weights)
    at = 0
    found = []
    for (priority, text), weight in zip(lines, weights, strict=True):
        found.append(Line(first + (last - first) * at // whole, priority, text))
        at += weight
    return found


def _at_zero(host: Host) -> list[Line]:
    """What is printed before there is a clock."""
    lines = [
        (NOTICE, f"Linux version {host.release} {host.version}"),
        (INFO, f"Command line: {host.command_line}"),
        (INFO, "BIOS-provided physical RAM map:"),
        *((INFO, row) for row in _e820_rows(host, "BIOS-e820", host.e820)),
        (INFO, "NX (Execute Disable) protection: active"),
        (INFO, "APIC: Static calls initialized"),
    ]
    if host.setup_data:
        lines.append((INFO, "extended physical RAM map:"))
        lines += [(INFO, row) for row in _e820_rows(host, "reserve setup_data", host.split_for_setup_data())]
    ram, reserved = ("System RAM", "device reserved") if host.new_e820_print else ("usable", "reserved")
    last_page = host.ram()[-1][1] // PAGE
    low_page = max(end for _, end in host.ram() if end <= 4 * GIB) // PAGE
    lines += [
        (INFO, "efi: EFI v2.8 by American Megatrends"),
        (INFO, "secureboot: Secure boot disabled"),
        (INFO, "SMBIOS 3.6.0 present."),
        (INFO, f"DMI: {host.machine}, BIOS {host.bios_version} {host.bios_date}"),
        (INFO, f"tsc: Detected {host.cpu.mhz}.000 MHz processor"),
        (DEBUG, f"e820: update [mem 0x00000000-0x00000fff] {ram} ==> {reserved}"),
        (DEBUG, f"e820: remove [mem 0x000a0000-0x000fffff] {ram}"),
        (INFO, f"last_pfn = 0x{last_page:x} max_arch_pfn = 0x10000000000"),
        (INFO, "x86/PAT: Configuration [0-7]: WB  WC  UC- UC  WB  WP  UC- WT  "),
        (INFO, f"last_pfn = 0x{low_page:x} max_arch_pfn = 0x10000000000"),
        (INFO, "Using GB pages for direct mapping"),
    ]
    return [Line(0, *line) for line in lines]


def _e820_rows(host: Host, who: str, entries: Iterable[Entry]) -> list[str]:
    """``e820__print_table()``: from v7.0 with gaps, two blanks, and other names."""
    rows = []
    last_end = 0
    for start, end, kind in entries:
        if host.new_e820_print and start > last_end:
            rows.append(f"{who}: [gap 0x{last_end:016x}-0x{start - 1:016x}]")
        kind_name = f" {kind.new_log}" if host.new_e820_print else kind.old_log
        rows.append(f"{who}: [mem 0x{start:016x}-0x{end - 1:016x}] {kind_name}")
        last_end = end
    return rows


def _memory(host: Host) -> list[tuple[int, str]]:
    """ACPI tables, nodes and zones: ``acpi_numa_init()``, ``free_area_init()``."""
    lines = ["ACPI: Early table checksum verification disabled"]
    if host.srat:
        lines += [
            f"ACPI: SRAT: Node {span.node} PXM {span.node} [mem 0x{span.start:08x}-0x{span.end - 1:08x}]"
            for span in host.spans
        ]
        lines += _joined_nodes(host)
    else:
        low, high = host.spans[0].start, host.spans[0].end - 1
        lines += ["No NUMA configuration found", f"Faking a node at [mem 0x{low:016x}-0x{high:016x}]"]
    for node in host.nodes:
        start, end = host.node_data(node)
        lines.append(f"NODE_DATA({node}) allocated [mem 0x{start:x}-0x{end - 1:x}]")
    lines.append("Zone ranges:")
    top = host.regions()[-1].end
    for name, low, high in ZONES:
        lines.append(f"  {name:<8} [mem 0x{low:016x}-0x{min(high, top) - 1:016x}]")
    lines += ["  Device   empty", "Movable zone start for each node", "Early memory node ranges"]
    lines += [f"  node {r.node:3}: [mem 0x{r.start:016x}-0x{r.end - 1:016x}]" for r in host.regions()]
    for node in host.nodes:
        of_node = host.of_node(node)
        lines.append(
            f"Initmem setup node {node} [mem 0x{of_node[0].start:016x}-0x{of_node[-1].end - 1:016x}]"
        )
    lines += _unavailable(host)
    return [(INFO, line) for line in lines]


def _joined_nodes(host: Host) -> list[str]:
    """``numa_cleanup_meminfo()`` says when it joins two spans of a node."""
    lines = []
    for node in host.nodes:
        of_node = [span for span in host.spans if span.node == node]
        if len(of_node) == 2:
            texts = [f"[mem 0x{span.start:08x}-0x{span.end - 1:08x}]" for span in of_node]
            whole = f"[mem 0x{of_node[0].start:08x}-0x{of_node[1].end - 1:08x}]"
            lines.append(f"NUMA: Node {node} {texts[0]} + {texts[1]} -> {whole}")
    return lines


def _unavailable(host: Host) -> list[str]:
    """``init_unavailable_range()``: pages of holes in sections that hold memory, by the zone after them."""
    sections = {
        s for r in host.regions() for s in range(r.start // SECTION, (r.end + SECTION - 1) // SECTION)
    }
    regions = host.regions()
    # Below each region, and after the last one the rest of its section.
    end = regions[-1].end
    holes = [(before.end, after) for before, after in pairwise([Span(0, 0, 0), *regions])]
    holes.append((end, Span(-(-end // SECTION) * SECTION, end, regions[-1].node)))
    lines = []
    for low, (high, _, node) in holes:
        pages = sum(
            (min(high, (s + 1) * SECTION) - max(low, s * SECTION)) // PAGE
            for s in range(low // SECTION, -(-high // SECTION))
            if s in sections
        )
        zone = next(name for name, first, last in ZONES if first <= max(high - 1, PAGE) < last)
        if pages > 0:
            lines.append(f"On node {node}, zone {zone}: {pages} pages in unavailable ranges")
    return lines


def _setup(host: Host) -> list[tuple[int, str]]:
    # e820__setup_pci_gap(): the largest gap below 4 GiB.
    entries = [entry for entry in host.e820 if entry.start < 4 * GIB]
    gaps = [(before.end, after.start - 1) for before, after in pairwise(entries)]
    gaps.append((entries[-1].end, 4 * GIB - 1))
    low, last = max(gaps, key=lambda gap: gap[1] - gap[0])
    hpet = "8086a701" if host.cpu.vendor == "GenuineIntel" else "10228201"
    lines = [
        (INFO, "ACPI: PM-Timer IO Port: 0x508"),
        (INFO, "IOAPIC[0]: apic_id 8, version 32, address 0xfec00000, GSI 0-119"),
        (INFO, "ACPI: INT_SRC_OVR (bus 0 bus_irq 0 global_irq 2 dfl dfl)"),
        (INFO, "ACPI: Using ACPI (MADT) for SMP configuration information"),
        (INFO, f"ACPI: HPET id: 0x{hpet} base: 0xfed00000"),
        (INFO, "PM: hibernation: Registered nosave memory: [mem 0x00000000-0x00000fff]"),
        (INFO, f"[mem 0x{low:08x}-0x{last:08x}] available for PCI devices"),
        (INFO, "Booting paravirtualized kernel on bare hardware"),
        (INFO, f"Fallback order for Node 0: {' '.join(map(str, host.nodes))} "),
    ]
    return lines if "nohibernate" not in host.command_line else [x for x in lines if "nosave" not in x[1]]


def _core(host: Host) -> list[tuple[int, str]]:
    zones = [zone for node in host.nodes for zone in host.zones(node)]
    present = sum(zone.present for zone in zones) * 4
    managed = sum(zone.managed for zone in zones) * 4
    lost = present - managed + 151232
    sizes = (
        "(22528K kernel code, 4441K rwdata, 14400K rodata, 4988K init, 4724K bss,"
        f" {lost}K reserved, 0K cma-reserved)"
    )
    family = f"family: 0x{host.cpu.family:x}, model: 0x{host.cpu.model:x}, stepping: 0x{host.cpu.stepping:x}"
    return [
        (INFO, f"Built {len(host.nodes)} zonelists, mobility grouping on.  Total pages: {present // 4}"),
        (INFO, "Policy zone: Normal"),
        (INFO, "mem auto-init: stack:all(zero), heap alloc:on, heap free:off"),
        (
            INFO,
            f"Memory: {managed - 151232}K/{present}K available {sizes}",
        ),
        (INFO, "Dynamic Preempt: voluntary"),
        (INFO, "rcu: Preemptible hierarchical RCU implementation."),
        (INFO, "Console: colour dummy device 80x25"),
        (INFO, "printk: legacy console [tty0] enabled"),
        (INFO, "x2apic: IRQ remapping doesn't support X2APIC mode"),
        (INFO, "pid_max: default: 131072 minimum: 1024"),
        (INFO, "LSM: initializing lsm=lockdown,capability,landlock,yama,integrity,apparmor"),
        (INFO, f"smpboot: CPU0: {host.cpu.name} ({family})"),
        (INFO, "rcu: Hierarchical SRCU implementation."),
        (INFO, "smp: Bringing up secondary CPUs ..."),
    ]


def _initcalls(host: Host) -> list[tuple[int, str]]:
    return [
        (INFO, "devtmpfs: initialized"),
        (INFO, f"x86/mm: Memory block size: {host.block_size // MIB}MB"),
        (INFO, "NET: Registered PF_NETLINK/PF_ROUTE protocol family"),
        (INFO, "audit: initializing netlink subsys (disabled)"),
        (INFO, "PCI: Using configuration type 1 for base access"),
        (INFO, "HugeTLB: registered 1.00 GiB page size, pre-allocated 0 pages"),
        (INFO, "HugeTLB: registered 2.00 MiB page size, pre-allocated 0 pages"),
        (INFO, "ACPI: Added _OSI(Module Device)"),
        (INFO, "ACPI: Interpreter enabled"),
        (INFO, "iommu: Default domain type: Translated"),
        (INFO, "SCSI subsystem initialized"),
        (INFO, "ACPI: bus type USB registered"),
        (INFO, "clocksource: Switched to clocksource tsc-early"),
        (INFO, "NET: Registered PF_INET protocol family"),
        (INFO, "Trying to unpack rootfs image as initramfs..."),
        (INFO, "Freeing initrd memory: 98304K"),
        (NOTICE, "Initialise system trusted keyrings"),
        (INFO, "Block layer SCSI generic (bsg) driver version 0.4 loaded (major 243)"),
        (INFO, "Serial: 8250/16550 driver, 32 ports, IRQ sharing enabled"),
        (INFO, "NET: Registered PF_INET6 protocol family"),
        (INFO, "Freeing unused kernel image (initmem) memory: 4988K"),
        (INFO, "Write protecting the kernel read-only data: 38912k"),
    ]


def _devices(host: Host) -> list[Line]:
    """Records of devices name the device in lines of their own."""
    found = []
    first = (host.command_line_time + host.start_time) // 2
    for i, text in enumerate(host.devices):
        slot = text.split()[1].rstrip(":")
        properties = ("SUBSYSTEM=pci", f"DEVICE=+pci:{slot}") if slot.count(":") == 2 else ()
        found.append(Line(first + 1_731 * i, INFO, text, properties))
    return found


def _start(host: Host) -> list[tuple[int, str]]:
    """User space comes up: the kernel's records, and those that systemd writes."""
    return [
        (INFO, "Run /init as init process"),
        (
            INFO,
            f"EXT4-fs (nvme0n1p2): mounted filesystem {NO_UUID} ro with ordered data mode.",
        ),
        (DAEMON, "systemd[1]: Inserted module 'autofs4'"),
        (DAEMON, "systemd[1]: systemd 255.4 running in system mode"),
        (DAEMON, "systemd[1]: Detected architecture x86-64."),
        (DAEMON, f"systemd[1]: Hostname set to <{host.name}>."),
        (DAEMON, "systemd[1]: Queued start job for default target graphical.target."),
        (DAEMON, "systemd[1]: Mounting sys-kernel-debug.mount - Kernel Debug File System..."),
        (DAEMON, "systemd[1]: Starting systemd-journald.service - Journal Service..."),
        (SYSLOG, "systemd-journald[611]: Received client request to flush runtime journal."),
        (INFO, f"EXT4-fs (nvme0n1p2): re-mounted {NO_UUID} r/w."),
        (INFO, "input: Power Button as /devices/LNXSYSTM:00/LNXPWRBN:00/input/input0"),
        (
            INFO,
            'audit: type=1400 audit({host.boot_time + 9}.123:2): apparmor="STATUS" operation="profile_load"',
        ),
        *((INFO, text) for text in host.late),
        (INFO, "bridge: filtering via arp/ip/ip6tables is no longer available by default."),
        (DAEMON, "systemd[1]: Started ssh.service - OpenBSD Secure Shell server."),
        (INFO, "loop0: detected capacity change from 0 to 8"),
    ]
