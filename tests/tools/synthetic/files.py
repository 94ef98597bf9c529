# SPDX-License-Identifier: Apache-2.0
"""The files of a synthetic host, from its description."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.tools.synthetic.log import dmesg, kmsg
from tests.tools.synthetic.model import PAGE, Kind, Resource

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.tools.synthetic.model import Entry, Host, Span, Zone

# Blocks of each order taken from those of order 10, so that /proc/buddyinfo looks used: 8 of them in all.
_SPLIT = (64, 96, 64, 64, 32, 16, 16, 8, 8, 4)
_MIN_FREE_PAGES = 22528
_RESERVE_RATIO = 256


def files_of(host: Host) -> dict[str, str]:
    """All files of the host, by path below its root."""
    files = {
        "proc/buddyinfo": buddyinfo(host),
        "proc/cmdline": f"{host.command_line}\n",
        "proc/cpuinfo": "".join(_processor(host, number) for number in range(host.cpus)),
        "proc/iomem": iomem(host),
        "proc/meminfo": meminfo(host),
        "proc/stat": _stat(host),
        "proc/sys/kernel/hostname": f"{host.name}\n",
        "proc/sys/kernel/osrelease": f"{host.release}\n",
        "proc/sys/kernel/random/boot_id": f"{host.boot_id}\n",
        "proc/zoneinfo": zoneinfo(host),
        "sys/class/dmi/id/bios_version": f"{host.bios_version}\n",
        "sys/devices/system/memory/block_size_bytes": f"{host.block_size:x}\n",
        "sys/fs/cgroup/misc.capacity": host.misc_capacity,
        "sys/power/disk": f"{host.power_disk}\n",
    }
    files["dev/kmsg" if host.kmsg else "dmesg"] = kmsg(host) if host.kmsg else dmesg(host)
    if host.kvm_intel_tdx is not None:
        files["sys/module/kvm_intel/parameters/tdx"] = f"{host.kvm_intel_tdx}\n"
    if host.memblock:
        files["sys/kernel/debug/memblock/memory"] = _memblock(host, host.regions())
        files["sys/kernel/debug/memblock/reserved"] = _memblock(host, host.reserved())
    return files | _firmware_memmap(host) | _nodes(host)


def iomem(host: Host) -> str:
    """``r_show()``: each resource below the smallest one that holds it; zeros for the unprivileged."""
    rows = [Resource(e.start, e.end, e.kind.iomem) for e in _resource_entries(host)]
    rows += host.resources
    lines = []
    above: list[Resource] = []
    for row in sorted(rows, key=lambda r: (r.start, -r.end)):
        while above and above[-1].end < row.end:
            above.pop()
        start, last = (row.start, row.end - 1) if host.privileged else (0, 0)
        lines.append(f"{'  ' * len(above)}{start:08x}-{last:08x} : {row.name}\n")
        above.append(row)
    return "".join(lines)


def _resource_entries(host: Host) -> Iterator[Entry]:
    """The kernel's own map: page 0 is reserved, and boot data splits RAM."""
    for entry in host.split_for_setup_data():
        if entry.start == 0 and entry.kind is Kind.RAM:
            yield entry._replace(end=PAGE, kind=Kind.RESERVED)
            yield entry._replace(start=PAGE)
        else:
            yield entry


def _memblock(host: Host, regions: list[Span]) -> str:
    """``memblock_debug_show()``: ends inclusive; node and flags where this kernel prints them."""
    return "".join(
        f"{i:4}: 0x{r.start:016x}..0x{r.end - 1:016x}{'' if host.plain_memblock else f' {r.node:4} NONE'}\n"
        for i, r in enumerate(regions)
    )


def _firmware_memmap(host: Host) -> dict[str, str]:
    files = {}
    for i, entry in enumerate(host.e820):
        folder = f"sys/firmware/memmap/{i}"
        files[f"{folder}/start"] = f"0x{entry.start:x}\n"
        files[f"{folder}/end"] = f"0x{entry.end - 1:x}\n"
        files[f"{folder}/type"] = f"{entry.kind.sysfs}\n"
    return files


def _nodes(host: Host) -> dict[str, str]:
    """Memory blocks are links on a host; here they are empty files, since only their names are read.

    A host with one node goes without: small machines have hundreds of small blocks.
    """
    root = "sys/devices/system/node"
    files = {f"{root}/{name}": f"{_list(host.nodes)}\n" for name in ("has_memory", "online", "possible")}
    for node in host.nodes:
        folder = f"{root}/node{node}"
        distances = ("10" if other == node else "21" for other in host.nodes)
        files[f"{folder}/cpulist"] = f"{_list(host.cpus_of(node))}\n"
        files[f"{folder}/distance"] = f"{' '.join(distances)}\n"
        if len(host.nodes) > 1:
            files |= {f"{folder}/memory{number}": "" for number in host.blocks(node)}
    return files


def _list(numbers: list[int]) -> str:
    """A list of consecutive numbers as the kernel prints it."""
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}"


def _processor(host: Host, number: int) -> str:
    cpu = host.cpu
    node = next(i for i, node in enumerate(host.nodes) if number in host.cpus_of(node))
    share = host.cpus // len(host.nodes)
    rows = (
        ("processor\t", number),
        ("vendor_id\t", cpu.vendor),
        ("cpu family\t", cpu.family),
        ("model\t\t", cpu.model),
        ("model name\t", cpu.name),
        ("stepping\t", cpu.stepping),
        ("cpu MHz\t\t", f"{cpu.mhz}.000"),
        ("cache size\t", f"{cpu.cache_kib} KB"),
        ("physical id\t", node),
        ("siblings\t", share),
        ("core id\t\t", number % share),
        ("cpu cores\t", share),
        ("fpu\t\t", "yes"),
        ("wp\t\t", "yes"),
        ("flags\t\t", cpu.flags),
        ("bugs\t\t", cpu.bugs),
        ("bogomips\t", f"{2 * cpu.mhz}.00"),
        ("clflush size\t", 64),
        ("address sizes\t", cpu.sizes),
        ("power management", ""),
    )
    return (
        "".join(f"{key}: {value}\n" for key, value in rows).replace("management: \n", "management:\n") + "\n"
    )


def _stat(host: Host) -> str:
    each = [
        f"cpu{n} {52310 + 417 * n} 0 {18804 + 93 * n} {9120455 - 611 * n} 1203 0 88 0 0 0"
        for n in range(host.cpus)
    ]
    columns = zip(*(map(int, line.split()[1:]) for line in each), strict=True)
    whole = " ".join(str(sum(column)) for column in columns)
    rows = [
        f"cpu  {whole}",
        *each,
        "ctxt 48211930",
        f"btime {host.boot_time}",
        "processes 6128",
        "procs_running 1",
    ]
    return "\n".join(rows) + "\nprocs_blocked 0\n"


def _free(host: Host, node: int, zone: Zone) -> int:
    """Free pages: most of what the page allocator got, without the PAMTs, which it gave away."""
    if zone.name == "DMA":
        return zone.managed
    taken = host.pamt[node] // PAGE if host.pamt and zone.name == "Normal" else 0
    return zone.managed - zone.managed // 37 - taken


def _all_zones(host: Host) -> list[tuple[int, Zone]]:
    return [(node, zone) for node in host.nodes for zone in host.zones(node)]


def buddyinfo(host: Host) -> str:
    """``frag_show_print()``: free blocks by order, of the zones that have memory."""
    lines = []
    for node, zone in _all_zones(host):
        if not zone.present:
            continue
        free = _free(host, node, zone)
        counts = [(free >> order) & 1 for order in range(10)] + [free >> 10]
        if counts[10] > len(_SPLIT):
            counts = [n + more for n, more in zip(counts, (*_SPLIT, -8), strict=True)]
        lines.append(f"Node {node}, zone {zone.name:>8} " + "".join(f"{n:6} " for n in counts) + "\n")
    return "".join(lines)


def meminfo(host: Host) -> str:
    """The rows that depend on the memory map; others are zero or of a plausible size."""
    total = sum(zone.managed for _, zone in _all_zones(host)) * 4
    free = sum(_free(host, node, zone) for node, zone in _all_zones(host)) * 4
    used = total - free - sum(host.pamt) // 1024
    rows = {
        "MemTotal": total,
        "MemFree": free,
        "MemAvailable": free + used // 2,
        "Buffers": used // 19,
        "Cached": used // 2,
        "SwapCached": 0,
        "Active": used // 5,
        "Inactive": used // 3,
        "Mlocked": 0,
        "SwapTotal": 0,
        "SwapFree": 0,
        "AnonPages": used // 11,
        "Mapped": used // 29,
        "Slab": used // 9,
        "HugePages_Total": None,
        "HugePages_Free": None,
        "HugePages_Rsvd": None,
        "HugePages_Surp": None,
        "Hugepagesize": 2048,
        "Hugetlb": 0,
    }
    return "".join(
        f"{name + ':':<15} {value:8} kB\n" if value is not None else f"{name + ':':<15} {0:8}\n"
        for name, value in rows.items()
    )


def zoneinfo(host: Host) -> str:
    """``zoneinfo_show_print()``, with a few of its counters."""
    whole = sum(zone.managed for _, zone in _all_zones(host))
    lines = []
    for node in host.nodes:
        zones = host.zones(node)
        first = next(i for i, zone in enumerate(zones) if zone.present)
        for i, zone in enumerate(zones):
            lines.append(f"Node {node}, zone {zone.name:>8}")
            if i == first:
                lines += ["  per-node stats", *_node_counters(zones)]
            lines += _zone_numbers(host, node, i, whole)
            if zone.present:
                lines += _zone_counters(host, node, zone)
    return "\n".join(lines) + "\n"


def _node_counters(zones: list[Zone]) -> list[str]:
    managed = sum(zone.managed for zone in zones)
    counters = {
        "nr_inactive_anon": managed // 901,
        "nr_active_anon": managed // 4007,
        "nr_inactive_file": managed // 203,
        "nr_active_file": managed // 307,
        "nr_unevictable": managed // 9001,
        "nr_slab_reclaimable": managed // 2003,
        "nr_slab_unreclaimable": managed // 1009,
    }
    return [f"      {name:<12} {value}" for name, value in counters.items()]


def _zone_numbers(host: Host, node: int, i: int, whole: int) -> list[str]:
    zones = host.zones(node)
    zone = zones[i]
    low = _MIN_FREE_PAGES * zone.managed // whole
    # lowmem_reserve[]: what allocations that could use a higher zone must leave in this one.
    protection = [
        sum(z.managed for z in zones[i + 1 : j + 1]) // _RESERVE_RATIO if zone.managed else 0
        for j in range(len(zones))
    ]
    numbers = {
        "boost": 0,
        "min": low,
        "low": low * 5 // 4,
        "high": low * 6 // 4,
        "spanned": zone.spanned,
        "present": zone.present,
        "managed": zone.managed,
        "cma": 0,
    }
    free = f"  pages free     {_free(host, node, zone) if zone.present else 0}"
    rows = [free, *(f"        {name:<8} {n}" for name, n in numbers.items())]
    return [*rows, f"        protection: ({', '.join(map(str, protection))})"]


def _zone_counters(host: Host, node: int, zone: Zone) -> list[str]:
    counters = {"nr_free_pages": _free(host, node, zone), "nr_mlock": 0, "nr_free_cma": 0, "numa_miss": 0}
    rows = [f"      {name:<12} {value}" for name, value in counters.items()]
    rows.append("  pagesets")
    batch = 1 if zone.name == "DMA" else 63
    for cpu in range(host.cpus):
        rows += [f"    cpu: {cpu}", "              count:    0", "              high:     0"]
        rows += [f"              batch:    {batch}", "  vm stats threshold: 125"]
    return [*rows, "  node_unreclaimable:  0", f"  start_pfn:           {zone.start}"]
