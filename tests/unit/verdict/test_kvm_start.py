# SPDX-License-Identifier: Apache-2.0
"""What keeps KVM from starting TDX on a kernel on which KVM does: switches, modules, features of the CPU."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.verdict.test_staged_boots import ASKED, HOST, KVM_TRAITS, kinds, staged

from tdx_headroom.address import GIB
from tdx_headroom.facts.boots import (
    BootEntry,
    BootInventory,
    KernelTraits,
    KvmLoading,
    Role,
    Starts,
    TraitsFrom,
)
from tdx_headroom.facts.kernel_report import KernelReport, ModuleState
from tdx_headroom.verdict import State
from tdx_headroom.verdict.assessment import assess
from tdx_headroom.verdict.what_if import WhatIf

if TYPE_CHECKING:
    from tdx_headroom.verdict.boots import Boot

CMRS = replace(HOST, cmrs=((0, 2 * GIB), (4 * GIB, 60 * GIB)))
"""The same with what some vendors' kernels need for their plan."""
BUILT = KernelTraits(tdx_host=True)
"""By its configuration, which a kernel of one's own needs."""
FAILS, RISK, WELL = State.WILL_FAIL, State.AT_RISK, State.WILL_INITIALIZE
NEEDED = ("kvm_intel.ept", "kvm_intel.eptad", "kvm_intel.enable_apicv", "kvm.tdp_mmu", "kvm.mmio_caching")
SURE = ("6.16", "6.16.3", "6.17.0-23-generic", "6.18.2", "6.19.0", "7.0.1", "6.16.3-lab")
VENDORS = ("6.8.0-1007-intel", "6.14.0-1009-intel", "6.4.0-150600.23.7-default", "5.14.0-611.el9.x86_64")
AT_BOOT = ("7.1.0", "7.3.4")


def found(*arguments: str, **more: Any) -> tuple[State, set[str]]:  # noqa: ANN401  those of staged()
    boot = staged("nohibernate", ASKED, *arguments, **{"traits": BUILT, **more})
    return boot.state, kinds(boot)


def running(*arguments: str, **inventory: Any) -> Boot:  # noqa: ANN401  fields of the inventory
    """The very boot that runs, TDX up in it, judged as the one that comes next."""
    host = replace(HOST, command_line=("nohibernate", ASKED, *arguments))
    entry = BootEntry(
        release=host.kernel_release, arguments=host.command_line, roles=(Role.RUNNING, Role.NEXT)
    )
    boots = BootInventory((entry,), modprobe_read=True, **inventory)
    (boot,) = assess(replace(host, boots=boots)).boots or ()
    return boot


@pytest.mark.parametrize("name", NEEDED)
@pytest.mark.parametrize("release", SURE)
def test_a_switch_that_is_off(name: str, release: str) -> None:
    """From 6.16 to 7.0 KVM looks at each, and so does a build of one's own."""
    assert found(f"{name}=0", release=release) == (FAILS, {"kvm-option-off"})
    assert found(f"{name}=0".replace("_intel", "-intel"), release=release)[0] is FAILS
    loading = KvmLoading(options=(f"{name}=N",))
    assert found(release=release, kvm_loading=loading) == (FAILS, {"kvm-option-off"})


@pytest.mark.parametrize("name", NEEDED)
@pytest.mark.parametrize("release", AT_BOOT)
def test_a_kernel_that_starts_tdx_itself(name: str, release: str) -> None:
    """From 7.1 on KVM has no part in it."""
    loading = KvmLoading((f"{name}=0",), ("kvm_intel",), ("kvm_intel",))
    arguments = (f"{name}=0", "module_blacklist=kvm_intel", "modprobe.blacklist=kvm_intel", "nomodule")
    assert found(*arguments, release=release, kvm_loading=loading) == (WELL, set())


@pytest.mark.parametrize("release", VENDORS)
def test_vendors(release: str) -> None:
    """All of them look at EPT; whether they look at the rest is not known of each."""
    assert found("kvm_intel.ept=0", release=release, host=CMRS) == (FAILS, {"kvm-option-off"})
    for name in NEEDED[1:]:
        assert found(f"{name}=0", release=release, host=CMRS) == (RISK, {"kvm-option-may-be-off"})


@pytest.mark.parametrize(
    ("arguments", "options", "expected"),
    [
        (("kvm.tdp_mmu=0", "kvm.tdp_mmu=1"), (), (WELL, set())),
        (("kvm.tdp_mmu=0", "kvm.tdp_mmu"), (), (WELL, set())),
        (("kvm.tdp_mmu=1", "kvm.tdp_mmu=off"), (), (FAILS, {"kvm-option-off"})),
        (("kvm.tdp_mmu=what",), (), (WELL, set())),
        (("kvm.tdp_mmu=0",), ("kvm.tdp_mmu=0",), (FAILS, {"kvm-option-off"})),
        (("kvm.tdp_mmu=1",), ("kvm.tdp_mmu=0",), (RISK, {"kvm-option-may-be-off"})),
        (("kvm.tdp_mmu=0",), ("kvm.tdp_mmu=1",), (RISK, {"kvm-option-may-be-off"})),
        ((), ("kvm.tdp_mmu=0", "kvm.tdp_mmu=1"), (WELL, set())),
        (("kvm_intel.nested=0", "kvm_intel.vpid=0"), (), (WELL, set())),
        ((), ("kvm.enable_virt_at_load=0",), (FAILS, {"kvm-virtualization-off"})),
        (("kvm.enable_virt_at_load=1",), ("kvm.enable_virt_at_load=0",), (WELL, set())),
    ],
)
def test_what_is_said_twice(
    arguments: tuple[str, ...], options: tuple[str, ...], expected: tuple[State, set[str]]
) -> None:
    """The last one that makes sense counts; line and configuration that differ leave it open."""
    assert found(*arguments, kvm_loading=KvmLoading(options=options)) == expected


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("module_blacklist=kvm_intel", (FAILS, {"kvm-not-loaded"})),
        ("module_blacklist=nouveau,kvm", (FAILS, {"kvm-not-loaded"})),
        # the kernel compares a module's own name, which has no dash, and the last such argument counts
        ("module_blacklist=kvm-intel", (WELL, set())),
        ("module_blacklist=kvm_amd,xkvm", (WELL, set())),
        ("module_blacklist=kvm_intel module_blacklist=nouveau", (WELL, set())),
        ("nomodule", (FAILS, {"kvm-not-loaded"})),
        ("nomodule=1", (FAILS, {"kvm-not-loaded"})),
        ("nomodule=0", (WELL, set())),
        ("modprobe.blacklist=kvm-intel", (RISK, {"kvm-may-not-be-loaded"})),
        ("modprobe.blacklist=nouveau,kvm", (RISK, {"kvm-may-not-be-loaded"})),
        ("modprobe.blacklist=kvm_intel modprobe.blacklist=nouveau", (RISK, {"kvm-may-not-be-loaded"})),
        ("modprobe.blacklist=kvm_amd", (WELL, set())),
    ],
)
def test_a_module_that_is_kept_out(argument: str, expected: tuple[State, set[str]]) -> None:
    """Sure where the kernel refuses it, a risk where it may come by its name; of no matter once built in."""
    arguments = argument.split()
    host = replace(HOST, platform=None)
    assert found(*arguments, host=host) == expected
    traits = replace(KVM_TRAITS, hibernation=False, kvm_built_in=True)
    assert found(*arguments, host=host, traits=traits) == (WELL, set())
    assert found(*arguments, host=host, traits=replace(traits, kvm_built_in=False)) == expected


@pytest.mark.parametrize(
    ("loading", "expected"),
    [
        (KvmLoading(never=("kvm_intel",)), (FAILS, {"kvm-not-loaded"})),
        (KvmLoading(never=("kvm",)), (FAILS, {"kvm-not-loaded"})),
        (KvmLoading(passed_over=("kvm_intel",)), (RISK, {"kvm-may-not-be-loaded"})),
    ],
)
def test_modprobe(loading: KvmLoading, expected: tuple[State, set[str]]) -> None:
    """A command in place of loading it, and a blacklist."""
    assert found(kvm_loading=loading) == expected
    traits = replace(KVM_TRAITS, hibernation=False, kvm_built_in=True)
    options = replace(loading, options=("kvm_intel.ept=0",))
    assert found(kvm_loading=options, traits=traits, kvm_intel_tdx=False) == (WELL, set())


def test_something_loads_it_by_name() -> None:
    """In the running boot KVM is there although its line blacklists it: so it comes with the next kernel."""
    argument = "modprobe.blacklist=kvm_intel"
    host = replace(HOST, command_line=(*(HOST.command_line or ()), argument))
    assert found(argument, host=host) == (WELL, set())
    assert found(argument)[0] is RISK


@pytest.mark.parametrize("argument", ["kvm_intel.ept=0", "module_blacklist=kvm_intel", "clearcpuid=27"])
def test_what_is_up_proves_its_line(argument: str) -> None:
    """Of the running boot nothing on the line keeps TDX off; with another kernel it is a question again."""
    assert running(argument).state is WELL
    host = replace(HOST, command_line=(*(HOST.command_line or ()), argument))
    assert found(argument, host=host)[0] is FAILS


def test_what_is_up_does_not_prove_its_configuration() -> None:
    """Files of modprobe may have changed since the boot."""
    assert running(kvm_loading=KvmLoading(options=("kvm_intel.ept=0",))).state is FAILS
    assert running(kvm_loading=KvmLoading(never=("kvm_intel",))).state is FAILS


@pytest.mark.parametrize("argument", ["clearcpuid=movdir64b", "clearcpuid=540", "clearcpuid=smap,16:28"])
@pytest.mark.parametrize("release", [*SURE, *VENDORS, *AT_BOOT])
def test_movdir64b(argument: str, release: str) -> None:
    """Every kernel that initializes TDX looks at it, whoever starts it."""
    assert found(argument, release=release) == (FAILS, {"cpu-feature-off"})


@pytest.mark.parametrize("argument", ["clearcpuid=ss", "clearcpuid=27", "noxsave", "clearcpuid=xsave"])
def test_other_features(argument: str) -> None:
    """Mainline looks at them; vendors' kernels may not."""
    for release in (*SURE, *AT_BOOT):
        assert found(argument, release=release) == (FAILS, {"cpu-feature-off"})
    for release in VENDORS:
        assert found(argument, release=release, host=CMRS) == (RISK, {"cpu-feature-off"})


@pytest.mark.parametrize(
    "argument", ["clearcpuid=smap", "clearcpuid=270", "clearcpuid=", "noxsaves", "noxsave=1"]
)
def test_features_that_tdx_does_not_need(argument: str) -> None:
    """Nothing is said of any other."""
    assert found(argument) == (WELL, set())


def test_a_kernel_that_does_not_try() -> None:
    """Where TDX is never initialized, no switch of KVM is to blame."""
    traits = KernelTraits(Starts.NEVER, TraitsFrom.IMAGE)
    assert found("kvm_intel.ept=0", "nomodule", "noxsave", traits=traits) == (FAILS, {"kernel-without-tdx"})


def test_remedies() -> None:
    """Every argument that turns it off goes, and the file that does so is named."""
    loading = KvmLoading(options=("kvm_intel.ept=0",))
    boot = staged("nohibernate", ASKED, "kvm-intel.ept=0", "kvm_intel.ept=N", kvm_loading=loading)
    assert boot.verdict is not None
    (finding,) = [one for one in boot.verdict.findings if one.kind == "kvm-option-off"]
    line, files = finding.remedies
    assert line.arguments == ("kvm-intel.ept=0", "kvm_intel.ept=N")
    assert "ept off the options of kvm_intel" in files.text


def test_the_running_kernel_itself() -> None:
    """Where nobody looked for boots, the command line of this boot tells all the same."""
    line = (*(HOST.command_line or ()), "kvm_intel.ept=0")
    log = KernelReport(state=ModuleState.NOT_ATTEMPTED, keyids=(32, 64))
    host = replace(HOST, command_line=line, kernel_log=log)
    assert assess(host).verdict.next_boot is FAILS
    # a host that shows no TDX may be any, such as a small virtual machine with this on its line
    assert assess(replace(host, kernel_log=KernelReport(), platform=None)).verdict.next_boot is None
    # this asks what the memory map does under the kernel
    assert assess(host, WhatIf(kernel="6.18.0")).verdict.next_boot is WELL
