# SPDX-License-Identifier: Apache-2.0
"""Memory that is most likely not convertible, in all the forms in which hosts show it."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.tools.archives import unpack

from tdx_headroom.address import GIB
from tdx_headroom.capture.build import TOP, make_capture
from tdx_headroom.facts.observations import Origin
from tdx_headroom.host.choose import facts_from_log, read_facts
from tdx_headroom.hostfs.root import Root
from tdx_headroom.sources.kernel_log.reader import read_log_file
from tdx_headroom.verdict import State
from tdx_headroom.verdict.assessment import assess
from tdx_headroom.verdict.fleet import Fit, audit_host, targets_of
from tdx_headroom.verdict.what_if import WhatIf

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tdx_headroom.facts.host_facts import HostFacts

    HostTree = Callable[[Mapping[str, str | bytes]], Root]

BOOT = """\
00001000-0009ffff : System RAM
00100000-6fffffff : System RAM
100000000-206fffffff : System RAM
"""
KMEM = """\
2070000000-606fffffff : CXL Window 0
  2070000000-606fffffff : region0
    2070000000-606fffffff : dax0.0
      2070000000-606fffffff : System RAM (kmem)
"""
LOG = """\
[    0.000000] Linux version 6.17.0 (a@b) (gcc) #1
[    0.000000] Command line: BOOT_IMAGE=/vmlinuz-6.17.0 nohibernate kvm_intel.tdx=1
[    0.010000] ACPI: SRAT: Node 0 PXM 0 [mem 0x00000000-0x7fffffff]
[    0.010000] ACPI: SRAT: Node 0 PXM 0 [mem 0x100000000-0x206fffffff]
[    0.010000] ACPI: SRAT: Node 1 PXM 1 [mem 0x2070000000-0x606fffffff] hotplug
[    0.020000] Early memory node ranges
[    0.020000]   node   0: [mem 0x0000000000001000-0x000000000009ffff]
[    0.020000]   node   0: [mem 0x0000000000100000-0x000000006fffffff]
[    0.020000]   node   0: [mem 0x0000000100000000-0x000000206fffffff]
[    0.020000]   node   1: [mem 0x0000002070000000-0x000000606fffffff]
[    0.020000] Initmem setup node 0 [mem 0x0000000000001000-0x000000206fffffff]
[    0.200000] .... node  #0, CPUs:        #1   #2   #3
[    0.300000] smp: Brought up 2 nodes, 4 CPUs
[    0.400000] virt/tdx: BIOS enabled: private KeyID range [64, 128)
"""
NODE_1 = [(0x20_7000_0000, 0x60_7000_0000)]


def host(iomem: str, **files: str) -> dict[str, str | bytes]:
    return {
        "proc/iomem": iomem,
        "proc/cpuinfo": "processor\t: 0\nflags\t: tdx_host_platform\n",
        "proc/sys/kernel/osrelease": "6.17.0\n",
        **files,
    }


def memmap(kind: str) -> dict[str, str]:
    entries = (("0x0", "0x206fffffff", "System RAM"), ("0x2070000000", "0x606fffffff", kind))
    return {
        f"sys/firmware/memmap/{i}/{name}": text
        for i, entry in enumerate(entries)
        for name, text in zip(("start", "end", "type"), entry, strict=True)
    }


def origins(facts: HostFacts) -> list[tuple[Origin, str | None, bool]]:
    assert [(s.start, s.end) for s in facts.suspects] == NODE_1
    return [(s.origin, s.device, s.late) for s in facts.suspects]


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        (KMEM, (Origin.KMEM, "dax0.0 in CXL Window 0", True)),
        # Before kernel 5.10 kmem gave no name of its own.
        (KMEM.replace(" (kmem)", ""), (Origin.KMEM, "dax0.0 in CXL Window 0", True)),
        (
            KMEM.replace("CXL Window 0", "Soft Reserved").replace("dax0.0", "dax1.0"),
            (Origin.KMEM, "dax1.0", True),
        ),
        ("2070000000-606fffffff : System RAM (virtio_mem)\n", (Origin.VIRTIO_MEM, None, True)),
        (
            "2070000000-606fffffff : virtio0\n  2070000000-606fffffff : System RAM (virtio_mem)\n",
            (Origin.VIRTIO_MEM, None, True),
        ),
        ("2070000000-606fffffff : System RAM (hmem)\n", (Origin.DRIVER, "hmem", True)),
        (
            "2070000000-606fffffff : Soft Reserved\n  2070000000-606fffffff : System RAM\n",
            (Origin.SOFT_RESERVED, None, True),
        ),
        (
            "2070000000-606fffffff : Persistent Memory\n    2070000000-606fffffff : System RAM\n",
            (Origin.PERSISTENT, None, True),
        ),
    ],
)
def test_memory_by_its_name(
    host_tree: HostTree, tmp_path: Path, rows: str, found: tuple[Origin, str | None, bool]
) -> None:
    """Whatever the driver and however deep: no promise, but for a kernel that is done before it comes."""
    root = host_tree(host(BOOT + rows))
    facts = read_facts(root)
    assert origins(facts) == [found]
    verdict = assess(facts).verdict
    assert verdict.state is State.AT_RISK
    assert "256 GiB" in verdict.summary
    assert verdict.remedies
    assert verdict.warnings == ()
    later = assess(facts, WhatIf(kernel="7.2.0"))
    assert later.verdict.state is State.WILL_INITIALIZE
    assert later.facts.memory_regions is not None
    assert later.facts.memory_regions[-1].end == 0x20_7000_0000
    assert any(text.startswith("256 GiB of memory come after TDX") for text in later.verdict.warnings)
    fits = [result.fit for result in audit_host(facts, "x", None, targets_of(())).targets]
    assert fits == [Fit.AT_RISK, Fit.FITS]
    data = io.BytesIO(make_capture(root, 0, keep_host_name=False).data)
    with tarfile.open(fileobj=data) as tar:
        unpack(tar, tmp_path)
    assert origins(read_facts(Root(tmp_path / TOP))) == [found]


@pytest.mark.parametrize(
    ("kind", "origin"),
    [
        ("Soft Reserved", Origin.SOFT_RESERVED),
        ("Persistent Memory", Origin.PERSISTENT),
        ("Persistent Memory (legacy)", Origin.PERSISTENT),
    ],
)
def test_what_the_firmware_set_aside_is_in_use(host_tree: HostTree, kind: str, origin: Origin) -> None:
    """With memmap= it is there at boot, otherwise it comes later."""
    files = host(BOOT + "2070000000-606fffffff : System RAM\n", **memmap(kind))
    facts = read_facts(host_tree(files))
    assert origins(facts) == [(origin, None, True)]
    assert assess(facts).verdict.state is State.AT_RISK
    files["proc/cmdline"] = "memmap=256G%0x2070000000-7+1\n"
    facts = read_facts(host_tree(files))
    assert origins(facts) == [(origin, None, False)]
    assert assess(facts, WhatIf(kernel="7.2.0")).verdict.state is State.AT_RISK


@pytest.mark.parametrize(
    ("log", "found", "said"),
    [
        (LOG, (Origin.HOTPLUG, None, False), "where the firmware (SRAT) has memory hot-plugged"),
        (LOG.replace(" hotplug", ""), (Origin.NO_CPU, "1", False), "in a NUMA node that has no CPU (1)"),
        (
            LOG.replace(" hotplug", " hotplug non-volatile").replace("node  #0", "node   #0"),
            (Origin.HOTPLUG, None, False),
            "where the firmware (SRAT) has memory hot-plugged",
        ),
    ],
)
def test_signs_in_a_log(log: str, found: tuple[Origin, str | None, bool], said: str) -> None:
    """A log names hot-plugged memory, and the nodes that have processors."""
    facts = facts_from_log(read_log_file("x", log))
    assert origins(facts) == [found]
    verdict = assess(facts).verdict
    assert verdict.next_boot is State.AT_RISK
    assert said in verdict.summary
    # That memory is there at boot: a kernel that starts TDX then plans with it.
    assert assess(facts, WhatIf(kernel="7.2.0")).verdict.next_boot is State.AT_RISK


@pytest.mark.parametrize(
    "log",
    [
        LOG.replace(" hotplug", "").replace("CPUs", "cpus"),
        LOG.replace(" hotplug", "").replace("#3\n", "#3\n[    0.210000] .... node  #1, CPUs:        #4\n"),
        LOG.replace(" hotplug", "").replace("nohibernate", "nohibernate numa=fake=2"),
        "".join(LOG.replace(" hotplug", "").splitlines(keepends=True)[:-2]),
    ],
    ids=["no node is named", "both have some", "faked nodes", "log ends before"],
)
def test_no_sign_in_a_log(log: str) -> None:
    """Nothing is said of a node's processors where the log does not show all of them."""
    assert facts_from_log(read_log_file("x", log)).suspects == ()


@pytest.mark.parametrize(
    ("has_cpu", "device"), [("0\n", "1"), ("0,2-3\n", "1"), ("0-1\n", None), ("x\n", None), ("", None)]
)
def test_nodes_without_processors(host_tree: HostTree, has_cpu: str, device: str | None) -> None:
    """Sysfs lists the nodes that have processors."""
    block = GIB.bit_length() - 1
    files = host(BOOT + "2070000000-606fffffff : System RAM\n")
    files["sys/devices/system/memory/block_size_bytes"] = "10000000\n"
    files["sys/devices/system/node/has_cpu"] = has_cpu
    border = 0x20_7000_0000 >> (block - 2)
    files |= {
        f"sys/devices/system/node/node{int(n >= border)}/memory{n}/state": "online\n"
        for n in range(0x60_7000_0000 >> (block - 2))
    }
    facts = read_facts(host_tree(files))
    assert [(s.origin, s.device) for s in facts.suspects] == ([(Origin.NO_CPU, device)] if device else [])
    assert assess(facts).verdict.state is (State.AT_RISK if device else State.WILL_INITIALIZE)


def test_memory_added_by_acpi(host_tree: HostTree) -> None:
    """A DIMM that came after the boot has no name of its own; the log's list does not have it."""
    log = "".join(line for line in LOG.splitlines(keepends=True) if "node   1" not in line)
    log = log.replace(" hotplug", "").replace("#3\n", "#3\n[    0.210000] .... node  #1, CPUs:        #4\n")
    facts = read_facts(host_tree(host(BOOT + "2070000000-606fffffff : System RAM\n", dmesg=log)))
    assert origins(facts) == [(Origin.ADDED, None, True)]
    assert assess(facts).verdict.next_boot is State.AT_RISK
    assert assess(facts, WhatIf(kernel="7.1.0")).verdict.next_boot is State.WILL_INITIALIZE


def test_flags_of_memblock(host_tree: HostTree) -> None:
    """Memblock says that a driver manages memory, where iomem cannot be read."""
    rows = (
        "   0: 0x0000000000001000..0x000000000009ffff    0 NONE\n"
        "   1: 0x0000000000100000..0x000000206fffffff    0 NONE\n"
        "   2: 0x0000002070000000..0x000000606fffffff    1 DRV_MNG\n"
    )
    files = host("")
    files["sys/kernel/debug/memblock/memory"] = rows
    facts = read_facts(host_tree(files))
    assert origins(facts) == [(Origin.DRIVER, None, True)]
    assert assess(facts).verdict.state is State.AT_RISK


@pytest.mark.parametrize("size", [0x60_6FF0_0000, 0x10_0000_0000])
def test_known_cmrs_decide(host_tree: HostTree, size: int) -> None:
    """The name is no reason where the CMRs tell: they hold that memory, or the module rejects it."""
    facts = replace(read_facts(host_tree(host(BOOT + KMEM))), cmrs=((0x100000, size),))
    verdict = assess(facts).verdict
    inside = size > 0x60_0000_0000
    assert verdict.state is (State.WILL_INITIALIZE if inside else State.WILL_FAIL)
    assert "unlikely-convertible" not in {finding.kind for finding in verdict.findings}


def test_tdx_that_is_up_decides(host_tree: HostTree) -> None:
    """It has come up with that very memory."""
    up = f"{LOG}[    9.000000] virt/tdx: module initialized\n"
    facts = read_facts(host_tree(host(BOOT + KMEM, dmesg=up)))
    assert facts.suspects
    assert assess(facts).verdict.next_boot is State.WILL_INITIALIZE


@pytest.mark.parametrize("option", ["efi=nosoftreserve", "efi=debug,nosoftreserve"])
def test_special_purpose_memory_as_ram(host_tree: HostTree, option: str) -> None:
    """Nobody sees how much it is; the option is to be taken away, and is said so beside what is seen."""
    files = host(BOOT, **{"proc/cmdline": f"root=/dev/sda {option} quiet\n"})
    verdict = assess(read_facts(host_tree(files))).verdict
    assert verdict.state is State.AT_RISK
    assert "an unknown amount, by efi=nosoftreserve" in verdict.summary
    assert verdict.remedies[0].startswith("Take efi=nosoftreserve off")
    files["proc/iomem"] = BOOT + KMEM
    assert len(assess(read_facts(host_tree(files))).verdict.remedies) == 2


def test_a_host_of_ordinary_memory(host_tree: HostTree) -> None:
    """Boot memory, and devices that are not in use as RAM, raise no suspicion."""
    rows = "2070000000-606fffffff : CXL Window 0\n  2070000000-606fffffff : dax0.0\n"
    facts = read_facts(host_tree(host(BOOT + rows, **memmap("Soft Reserved"))))
    assert facts.suspects == ()
    assert assess(facts).verdict.state is State.WILL_INITIALIZE
