# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tdx_headroom.facts.observations import Platform
from tdx_headroom.hostfs.root import Root
from tdx_headroom.sources import reduce
from tdx_headroom.sources.platform import (
    parse_boot_time,
    parse_cpu_can_tdx,
    parse_cpuinfo,
    parse_lockdown,
    parse_meminfo_total,
    parse_misc_capacity,
    parse_power_disk,
    read_hostname,
    read_platform,
    read_release,
    relevant_arguments,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    HostTree = Callable[[Mapping[str, str | bytes]], Root]

CPUINFO = """\
processor\t: 0
vendor_id\t: GenuineIntel
model name\t: INTEL(R)  XEON(R) PLATINUM 8592+
flags\t\t: fpu vme sse2 tdx_host_platform tme
bugs\t\t: spectre_v1 tdx_pw_mce
bogomips\t: 3800.00

processor\t: 1
vendor_id\t: GenuineIntel
model name\t: INTEL(R)  XEON(R) PLATINUM 8592+
flags\t\t: fpu vme
bugs\t\t:
"""
HOST: dict[str, str | bytes] = {
    "proc/cpuinfo": CPUINFO,
    "proc/cmdline": "BOOT_IMAGE=/vmlinuz root=UUID=1 kvm_intel.tdx=1 nohibernate memmap=1G$498G quiet\n",
    "sys/fs/cgroup/misc.capacity": "res_a 4\ntdx 31\n",
    "sys/power/disk": "[disabled]\n",
    "sys/kernel/security/lockdown": "[none] integrity confidentiality\n",
    "sys/module/kvm_intel/parameters/tdx": "Y\n",
    "sys/devices/faux/tdx_host/version": "1.5.24\n",
    "proc/meminfo": "MemTotal:       527987284 kB\nMemFree:         1024 kB\n",
    "proc/stat": "cpu  1 2 3\nbtime 1720637419\nprocesses 5\n",
    "proc/sys/kernel/random/boot_id": "0f8d1f2e-0000-0000-0000-000000000000\n",
    "proc/sys/kernel/osrelease": "6.16.0\n",
    "proc/sys/kernel/hostname": "emr-1\n",
    "sys/class/dmi/id/bios_version": "01.02.0001\n",
    "sys/class/dmi/id/product_name": "PowerEdge R760\n",
}


@pytest.mark.parametrize(
    "argument",
    [
        "nohibernate",
        "hibernate=no",
        "kvm_intel.tdx=1",
        "kvm.enable_virt_at_load=0",
        "tdx=on",
        "tdx_host.dynamic_pamt=1",
        "memmap=1G$498G",
        "mem=64G",
        "memhp_default_state=online",
        "memory_hotplug.memmap_on_memory=1",
        "movable_node",
        "hugepagesz=1G",
        "hugepages=64",
        "crashkernel=512M",
        "numa=off",
        "efi_fake_mem=1G@4G:0x40000",
        "intel_iommu=on",
        "noresume",
        "lockdown=confidentiality",
        "hugetlb_cma=0:4G,1:4G",
        "hugetlb-cma=4G",
        "numa_cma=0:1G",
        "cma_pernuma",
        "cma=0",
        "reserve_mem=64M:2M:trace",
        "add_efi_memmap",
        "efi=nosoftreserve",
        "acpi=off",
        "possible_cpus=4",
        "nosmt",
        "nosmt=force",
        "kho=on",
        "liveupdate",
        "movable-node",
        "kvm-intel.tdx=1",
        "nohibernate=1",
        "nohibernate2",
        "hibernate=nohibernate",
        'hibernate="no more"',
        "nosmp=1",
        "movable_node=0",
        "add_efi_memmap=y",
        "disable_mtrr_trim=1",
        "kvm_intel.ept=0",
        "kvm.tdp_mmu",
        "module_blacklist=nouveau,kvm_intel",
        "modprobe.blacklist=kvm-intel",
        "nomodule",
        "noxsave",
        "clearcpuid=540",
    ],
)
def test_arguments_about_memory_are_kept(argument: str) -> None:
    """Arguments that change memory, TDX or hibernation are facts of the host."""
    line = f"BOOT_IMAGE=/boot/vmlinuz root=/dev/sda2 {argument} quiet"
    assert relevant_arguments(line) == (argument,)


@pytest.mark.parametrize(
    "argument",
    [
        "root=UUID=00000000-0000-0000-0000-000000000000",
        "ip=10.0.0.7",
        "rd.luks.key=secret",
        "memtest=4",
        "systemd.hostname=tdx-7",
        "xmem=1G",
        "kvmx.ept=0",
        "nomodules",
        "resume=/dev/sda3",
        "resume=nohibernate",
        "xnohibernate",
        "no_hibernate",
        "acpi_osi=Linux",
        "efivar_ssdt=x",
        "mem=1G\u202e",
        "",
    ],
)
def test_other_arguments_are_dropped(argument: str) -> None:
    """Whatever else is on the command line may name private things and goes."""
    assert relevant_arguments(f"quiet {argument} ro") == ()


def test_arguments_are_what_the_kernel_takes_for_one() -> None:
    """What stands inside quotes or behind `--` is no argument; one may itself be quoted."""
    line = 'dyndbg="file x nohibernate +p" memmap="4K$1G" "mem=1G" -- mem=2G nohibernate\n'
    assert relevant_arguments(line) == ('memmap="4K$1G"', '"mem=1G"')


def test_kvm_behind_dashes() -> None:
    """Behind `--` only what modprobe may take for KVM is kept, and the line stays what it was."""
    line = "nohibernate kvm_intel.tdx=1 -- single kvm_intel.tdx=0 memmap=1G nohibernate"
    found = relevant_arguments(f"{line} -- kvm.enable_virt_at_load=0")
    behind = ("kvm_intel.tdx=0", "kvm.enable_virt_at_load=0")
    assert found == ("nohibernate", "kvm_intel.tdx=1", "--", *behind)
    assert relevant_arguments(" ".join(found)) == found
    assert relevant_arguments("mem=1G -- quiet kvm_amd.sev=1 kvmx.tdx") == ("mem=1G",)


def test_cpuinfo() -> None:
    """Model and flags are the first processor's, blanks in the model are single, processors are counted."""
    model, cpus, flags, bugs = parse_cpuinfo(CPUINFO)
    assert model == "INTEL(R) XEON(R) PLATINUM 8592+"
    assert cpus == 2
    assert flags == {"fpu", "vme", "sse2", "tdx_host_platform", "tme"}
    assert bugs == {"spectre_v1", "tdx_pw_mce"}


def test_cpuinfo_that_says_nothing() -> None:
    """Lines that are none of cpuinfo's give nothing."""
    assert parse_cpuinfo("no colon\n: x\n\n") == (None, 0, frozenset(), frozenset())


@pytest.mark.parametrize(
    ("text", "can"),
    [
        ("vendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 207\nmodel name\t: X\n\nmodel\t: 1\n", True),
        ("vendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 106\n", False),
        ("model name\t: AMD EPYC 7763\n", False),
        ("model name\t: INTEL(R) XEON(R) PLATINUM 8592+\n", None),
        ("vendor_id\t: GenuineIntel\ncpu family\t: x\nmodel\t\t: 207\n", None),
        (CPUINFO, None),
        ("", None),
    ],
)
def test_a_model_that_can_have_tdx(text: str, *, can: bool | None) -> None:
    """The first processor's vendor, family and model tell; a capture of an older agent has only the name."""
    assert parse_cpu_can_tdx(text) is can


@pytest.mark.parametrize(
    ("text", "keyids"),
    [
        ("tdx 31\n", 31),
        ("res_a 4\ntdx 0\n", 0),
        ("tdx max\n", None),
        ("tdxx 31\n", None),
        ("sev 99\n", None),
        ("tdx -1\n", None),
        ("tdx \u0663\n", None),
        ("tdx\n", None),
        ("", None),
    ],
)
def test_guest_keyids(text: str, keyids: int | None) -> None:
    """The row of TDX gives a number, or nothing is known."""
    assert parse_misc_capacity(text) == keyids


@pytest.mark.parametrize(
    ("text", "can"),
    [
        ("[disabled]\n", False),
        ("[platform] shutdown reboot suspend test_resume\n", True),
        ("platform [shutdown]", True),
    ],
)
def test_hibernation(text: str, can: bool) -> None:  # noqa: FBT001
    """A kernel that cannot hibernate says so in place of the modes."""
    assert parse_power_disk(text) is can


@pytest.mark.parametrize(
    ("text", "locked"),
    [
        ("[none] integrity confidentiality\n", False),
        ("none [integrity] confidentiality\n", True),
        ("none integrity [confidentiality]\n", True),
        ("none integrity\n", None),
    ],
)
def test_lockdown(text: str, locked: bool | None) -> None:  # noqa: FBT001
    """The level in brackets is the one that holds."""
    assert parse_lockdown(text) is locked


@pytest.mark.parametrize(
    ("text", "total"),
    [
        ("MemTotal:       527987284 kB\n", 527987284 * 1024),
        ("MemFree: 1 kB\n", None),
        ("MemTotal: x kB", None),
    ],
)
def test_memory_total(text: str, total: int | None) -> None:
    """The total is in bytes."""
    assert parse_meminfo_total(text) == total


@pytest.mark.parametrize(
    ("text", "time"), [("cpu 1\nbtime 1720637419\n", 1720637419.0), ("xbtime 1\n", None)]
)
def test_boot_time(text: str, time: float | None) -> None:
    """The boot time is a line of its own."""
    assert parse_boot_time(text) == time


def test_whole_platform(host_tree: HostTree) -> None:
    """Every file adds its fact."""
    assert read_platform(host_tree(HOST)).value == Platform(
        tdx_host_platform=True,
        tdx_guest=False,
        virtual_machine=False,
        sgx=False,
        tdx_pw_mce=True,
        kvm_intel_tdx=True,
        tdx_module_version="1.5.24",
        guest_keyids=31,
        hibernation=False,
        lockdown=False,
        command_line=("kvm_intel.tdx=1", "nohibernate", "memmap=1G$498G"),
        cpu_model="INTEL(R) XEON(R) PLATINUM 8592+",
        cpus=2,
        memory_total=527987284 * 1024,
        boot_time=1720637419.0,
        boot_id="0f8d1f2e-0000-0000-0000-000000000000",
        bios_version="01.02.0001",
        product="PowerEdge R760",
    )


def test_cpuinfo_alone(host_tree: HostTree) -> None:
    """What no file tells is unknown; flags that are there say no."""
    reading = read_platform(
        host_tree({"proc/cpuinfo": CPUINFO.replace("tdx_host_platform ", "").replace("tdx_pw_mce", "")})
    )
    assert reading.value == Platform(
        tdx_host_platform=False,
        tdx_guest=False,
        virtual_machine=False,
        sgx=False,
        tdx_pw_mce=False,
        cpu_model="INTEL(R) XEON(R) PLATINUM 8592+",
        cpus=2,
    )


def test_cpuinfo_without_flags(host_tree: HostTree) -> None:
    """Without a line of flags it is unknown, not false, whether the platform is one for TDX."""
    value = read_platform(host_tree({"proc/cpuinfo": "processor\t: 0\n"})).value
    assert value is not None
    assert value.tdx_host_platform is None
    assert value.tdx_pw_mce is None


FLAGS = next(
    line
    for line in (Path(__file__).parents[2] / "hosts/good-2-node/proc/cpuinfo").read_text().splitlines()
    if line.startswith("flags")
)
WITHOUT = FLAGS.replace(" tdx_host_platform", "").replace(" sgx ", " ")
BUGS = "\nbugs\t\t: bhi\n"
CUT: dict[str, tuple[str, bool | None]] = {
    "whole": (WITHOUT + BUGS, False),
    "whole, other rows behind it": (WITHOUT + "\nvmx flags\t: vnmi\nbogomips\t: 4200.00\n", False),
    "the last row": (WITHOUT + "\n", None),
    "the last row of a processor": (WITHOUT + f"\n\nprocessor\t: 1\n{WITHOUT}{BUGS}", None),
    "the last row without a blank line": (WITHOUT + f"\nprocessor\t: 1\n{WITHOUT}{BUGS}", None),
    "at the width of a terminal": (WITHOUT[:80] + BUGS, None),
    "at the width of a wide one": (WITHOUT[:250] + BUGS, None),
    "of a capture": ("flags\t\t: fpu sse2 vmx" + BUGS, False),
    "of an old capture": ("flags\t\t: fpu vmx" + BUGS, False),
    "of a capture without any": ("flags\t\t: other" + BUGS, False),
    "flag in its last row": (FLAGS + "\n", True),
}


@pytest.mark.parametrize("what", CUT)
def test_flags_that_were_cut(what: str, host_tree: HostTree) -> None:
    """A flag that is not there says something only where the list is whole; a capture of it says the same."""
    row, there = CUT[what]
    text = f"processor\t: 0\nvendor_id\t: GenuineIntel\n{row}"
    for kept in (text, reduce.cpuinfo(text)):
        value = read_platform(host_tree({"proc/cpuinfo": kept})).value
        assert value is not None
        assert value.tdx_host_platform is there
        assert value.virtual_machine is (False if there is False else None)


FOLDS: dict[str, Callable[[str], str]] = {
    "by a terminal": lambda row: "\n".join(row[i : i + 79] for i in range(0, len(row), 79)),
    "inside a word": lambda row: row.replace("tdx_host", "tdx\n_host").replace("sse2", "ss\ne2"),
    "by a mailer": lambda row: "\n".join(textwrap.wrap(row, 72)),
    "indented": lambda row: "\n    ".join(textwrap.wrap(row, 60)),
}


@pytest.mark.parametrize("how", FOLDS)
@pytest.mark.parametrize("row", [FLAGS, WITHOUT], ids=["with", "without"])
def test_flags_that_were_folded(how: str, row: str, host_tree: HostTree) -> None:
    """Rows that were folded are one, and those behind them are read."""
    bits = "address sizes\t: 52 bits physical, 57 bits virtual\n"
    text = f"processor\t: 0\n{FOLDS[how](row)}{BUGS}{bits}"
    value = read_platform(host_tree({"proc/cpuinfo": text})).value
    assert value is not None
    assert value.tdx_host_platform is (row == FLAGS)
    assert value.virtual_machine is False
    assert value.sgx is (row == FLAGS and " sgx " in FLAGS)
    assert value.physical_address_bits == 52


def test_no_cpuinfo(host_tree: HostTree) -> None:
    """Without /proc/cpuinfo nothing is known, and the error says so."""
    root = host_tree({})
    reading = read_platform(root)
    assert reading.value is None
    assert str(reading.error) == f"platform: {root.path}/proc/cpuinfo: No such file or directory"


@pytest.mark.parametrize(("text", "value"), [("Y\n", True), ("N\n", False), ("1\n", None), ("", None)])
def test_kvm_parameter(host_tree: HostTree, text: str, value: bool | None) -> None:  # noqa: FBT001
    """The module parameter is Y or N, anything else is unknown."""
    platform = read_platform(
        host_tree({"proc/cpuinfo": CPUINFO, "sys/module/kvm_intel/parameters/tdx": text})
    ).value
    assert platform is not None
    assert platform.kvm_intel_tdx is value


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("sys/class/dmi/id/bios_version", "bios_version"),
        ("sys/class/dmi/id/product_name", "product"),
        ("sys/devices/faux/tdx_host/version", "tdx_module_version"),
        ("proc/sys/kernel/random/boot_id", "boot_id"),
        ("sys/power/disk", "hibernation"),
        ("sys/kernel/security/lockdown", "lockdown"),
        ("sys/fs/cgroup/misc.capacity", "guest_keyids"),
    ],
)
def test_blank_file_is_unknown(host_tree: HostTree, path: str, field: str) -> None:
    """A file with nothing in it tells nothing: virtual machines have blank BIOS versions."""
    platform = read_platform(host_tree({"proc/cpuinfo": CPUINFO, path: " \n"})).value
    assert platform is not None
    assert getattr(platform, field) is None


def test_empty_command_line_is_known(host_tree: HostTree) -> None:
    """A kernel without arguments has none, which is not the same as unknown."""
    platform = read_platform(host_tree({"proc/cpuinfo": CPUINFO, "proc/cmdline": "\n"})).value
    assert platform is not None
    assert platform.command_line == ()


def test_release_and_name(host_tree: HostTree) -> None:
    """Release and host name come without their line breaks; blank ones are unknown."""
    root = host_tree(HOST)
    assert (read_release(root), read_hostname(root)) == ("6.16.0", "emr-1")
    root = host_tree({"proc/sys/kernel/osrelease": "\n", "proc/sys/kernel/hostname": ""})
    assert (read_release(root), read_hostname(root)) == (None, None)
    root = Root(root.locate("proc"))
    assert (read_release(root), read_hostname(root)) == (None, None)


def test_this_machine() -> None:
    """The running host has processors, memory and a boot time."""
    value = read_platform(Root("/")).value
    assert value is not None
    assert value.cpus
    assert value.memory_total
    assert value.boot_time
