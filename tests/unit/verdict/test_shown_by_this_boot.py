# SPDX-License-Identifier: Apache-2.0
"""What the running boot has shown counts for the same kernel on another line, and for nothing else."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from tests.unit.verdict.test_staged_boots import ASKED, HOST, KVM_TRAITS, LOW, UP, kinds, staged

from tdx_headroom.address import GIB, MIB, Range
from tdx_headroom.facts.boots import BootEntry, BootInventory, Change, KernelTraits, Role, Starts, TraitsFrom
from tdx_headroom.facts.host_facts import GivenBases, HostFacts, MemoryRegion
from tdx_headroom.facts.kernel_report import FailureReason, KernelReport, ModuleState
from tdx_headroom.facts.observations import Platform
from tdx_headroom.plan import Strategy
from tdx_headroom.verdict import State
from tdx_headroom.verdict.assessment import assess
from tdx_headroom.verdict.checks import run_checks, status_of
from tdx_headroom.verdict.what_if import WhatIf

SAME = "6.17.0-20-generic"


def running(release: str, *line: str, **platform: object) -> HostFacts:
    """A host on which TDX is up under some kernel and line."""
    known = Platform(tdx_host_platform=True, kvm_intel_tdx=True, hibernation=False, cpus=64)
    return replace(
        HOST,
        kernel_release=release,
        command_line=line,
        platform=replace(known, **platform),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(("line", "state"), [((ASKED,), State.WILL_FAIL), ((), State.WILL_INITIALIZE)])
def test_the_argument_is_taken_off(line: tuple[str, ...], state: State) -> None:
    """kvm_intel.tdx is on because the running line asks: without it there it will be off."""
    boot = staged("nohibernate", host=running(SAME, "nohibernate", *line))
    assert boot.state is state
    assert kinds(boot) == ({"kvm-tdx-off"} if line else set())


@pytest.mark.parametrize(
    ("now", "then", "traits", "state"),
    [
        ("6.14.0-1009-intel", "6.14.0-1010-intel", None, State.WILL_INITIALIZE),
        ("6.14.0-1009-intel", "6.17.0-20-generic", None, State.WILL_FAIL),
        ("6.17.0-20-generic", "6.14.0-1010-intel", KVM_TRAITS, State.WILL_INITIALIZE),
    ],
)
def test_a_vendors_default(now: str, then: str, traits: KernelTraits | None, state: State) -> None:
    """It holds for that vendor's kernels: what is on without being asked for may be off under another."""
    host = running(now, "nohibernate")
    boot = staged("nohibernate", release=then, traits=traits, host=host, modprobe_read=True)
    assert boot.state is state


def test_a_vendors_kernel_whose_image_is_read() -> None:
    """An image does not show the parameter's default: nobody says that it is off."""
    host = replace(HOST, platform=Platform(tdx_host_platform=True, hibernation=False))
    boot = staged("nohibernate", release="6.14.0-1010-intel", traits=KVM_TRAITS, host=host)
    assert (boot.state, kinds(boot)) == (State.AT_RISK, {"kvm-tdx-may-be-off"})


@pytest.mark.parametrize("release", ["6.12.0-211.el10.x86_64", "6.12.57+deb13-amd64", "6.8.0-45-generic"])
def test_a_kernel_that_has_brought_tdx_up(release: str) -> None:
    """It does again on another line, whatever the table has of it; a new build of it need not."""
    host = running(release, "nohibernate", ASKED)
    assert staged("nohibernate", ASKED, "intel_iommu=on", release=release, host=host).state is (
        State.WILL_INITIALIZE
    )
    entry = BootEntry(
        release=release, arguments=host.command_line, roles=(Role.NEXT,), differs=(Change.IMAGE,)
    )
    (boot,) = assess(replace(host, boots=BootInventory((entry,), configured=True))).boots or ()
    assert boot.state in (State.AT_RISK, State.WILL_FAIL)


def test_the_strategy_that_this_boot_has_shown() -> None:
    """A kernel that came up although memory-regions cannot does so again after a new initrd."""
    holes = [(4 * GIB + i * 32 * MIB, 4 * GIB + i * 32 * MIB + 4096) for i in range(20)]
    pieces = [
        MemoryRegion(before[1], after[0], 0) for before, after in pairwise([*holes, (64 * GIB, 64 * GIB)])
    ]
    host = replace(
        running("6.11.0-1001-intel", "nohibernate", ASKED),
        memory_regions=(LOW, MemoryRegion(MIB, 2 * GIB, 0), *pieces),
        cmrs=((0, 2 * GIB), (4 * GIB, 60 * GIB)),
    )
    assert assess(host).verdict.strategy is not Strategy.MEMORY_REGIONS
    entry = BootEntry(
        release=host.kernel_release,
        arguments=host.command_line,
        roles=(Role.NEXT,),
        differs=(Change.INITRD,),
    )
    (boot,) = assess(replace(host, boots=BootInventory((entry,), configured=True))).boots or ()
    assert boot.verdict is not None
    assert (boot.state, str(boot.verdict.finding.basis)) == (State.WILL_INITIALIZE, "several")
    asked = assess(host, WhatIf(command_line=("nohibernate", ASKED, "intel_iommu=on")))
    assert asked.verdict.next_boot is State.WILL_INITIALIZE


@pytest.mark.parametrize(
    ("now", "then", "state"),
    [
        ("6.8.0-1007-intel", "6.8.0-1007-intel", State.WILL_INITIALIZE),
        ("6.8.0-1007-intel", "6.8.0-1008-intel", State.WILL_INITIALIZE),
        ("6.8.0-1007-intel", "6.17.0-20-generic", State.WILL_FAIL),
    ],
)
def test_a_vendors_kernel_that_does_not_look_at_hibernation(now: str, then: str, state: State) -> None:
    """It came up on a kernel that can hibernate, and so do its kin."""
    host = replace(running(now, ASKED, hibernation=True), cmrs=((0, 2 * GIB), (4 * GIB, 60 * GIB)))
    boot = staged(ASKED, "intel_iommu=on", release=then, host=host)
    assert (boot.state, "hibernation" in kinds(boot)) == (state, state is State.WILL_FAIL)


def test_hibernation_that_may_come_back() -> None:
    """It is off by this line, or this kernel's build; of a kernel whose build is unknown it is a risk."""
    boot = staged(ASKED, host=running(SAME, "nohibernate", ASKED))
    assert (boot.state, kinds(boot)) == (State.AT_RISK, {"hibernation"})
    without = replace(KVM_TRAITS, hibernation=False)
    host = replace(running(SAME, ASKED), traits=without)
    boot = staged(ASKED, host=host, traits=KVM_TRAITS)
    assert (boot.state, kinds(boot)) == (State.AT_RISK, {"hibernation"})
    assert staged(ASKED, release="6.12.57+deb13-amd64", host=host).state is State.WILL_FAIL


@pytest.mark.parametrize(
    ("now", "then"),
    [
        ("hugepages=1", "hugepages=30000"),
        ("crashkernel=256M", "crashkernel=512M"),
        ("kernelcore=60G", "kernelcore=1G"),
    ],
)
def test_more_than_now_is_not_the_same(now: str, then: str) -> None:
    """What is set aside counts by how much it is."""
    host = running(SAME, "nohibernate", ASKED, now)
    assert staged("nohibernate", ASKED, now, host=host).staged.risks == ()
    assert staged("nohibernate", ASKED, then, host=host).staged.risks


@pytest.mark.parametrize(
    ("now", "then", "risk"),
    [
        (("nr_cpus=64",), "nr_cpus=64", False),
        (("nosmt",), "nosmt", False),
        (("maxcpus=64",), "nr_cpus=64", True),
        (("nr_cpus=8192",), "nr_cpus=64", False),
    ],
)
def test_cpus_that_are_left_out_now(now: tuple[str, ...], then: str, risk: bool) -> None:  # noqa: FBT001
    """A limit with which TDX is up is none; the CPUs that another one leaves are not all that there are."""
    boot = staged("nohibernate", ASKED, then, host=running(SAME, "nohibernate", ASKED, *now))
    assert ("cpus-left-out" in kinds(boot)) is risk


def test_dynamic_pamt_is_the_running_kernels() -> None:
    """Another kernel has it only where its image shows it."""
    log = replace(UP, dynamic_pamt=True)
    limits = HOST.limits._replace(pamt_page_bitmap_entry_bits=1)
    host = replace(HOST, kernel_log=log, limits=limits)
    small = staged("nohibernate", ASKED, release=SAME, host=host)
    large = staged("nohibernate", ASKED, host=host)
    own = staged("nohibernate", ASKED, host=host, traits=replace(KVM_TRAITS, dynamic_pamt=True))
    sizes = [boot.plan.pamt_bytes for boot in (small, large, own) if boot.plan is not None]
    assert sizes[0] == sizes[2] < sizes[1]


def test_pamt_bases_are_of_the_map_that_they_were_given_for() -> None:
    """An entry with another map, and other TDMRs, has PAMTs of its own."""
    host = replace(HOST, pamt_placement=GivenBases(tuple(GIB + i * 256 * MIB for i in range(2))))
    boot = staged("nohibernate", ASKED, "mem=1500M", host=host)
    assert boot.plan is not None
    assert len(boot.plan.tdmrs) == 1


def test_each_has_its_own_reason() -> None:
    """Two entries of which nothing is known are not known for different reasons."""
    entries = tuple(BootEntry(unknown=why) for why in ("one", "two"))
    found = assess(replace(HOST, boots=BootInventory(entries))).boots or ()
    assert ["one" in boot.why for boot in found] == [True, False]


@pytest.mark.parametrize(
    ("line", "release", "state"),
    [
        (("nohibernate", ASKED), SAME, State.WILL_INITIALIZE),
        ((ASKED, "intel_iommu=on"), SAME, State.WILL_FAIL),
        (("hibernate=no", ASKED), "6.17.0-23-generic", State.WILL_INITIALIZE),
        ((ASKED,), "6.17.0-23-generic", State.WILL_FAIL),
    ],
)
@pytest.mark.parametrize("can", [True, None])
def test_nohibernate_mends_it(
    line: tuple[str, ...],
    release: str,
    state: State,
    can: bool | None,  # noqa: FBT001
) -> None:
    """That TDX failed in this boot because of hibernation says nothing of a line that bars it."""
    log = KernelReport(state=ModuleState.FAILED, reason=FailureReason.HIBERNATION, keyids=(32, 64))
    host = replace(running(SAME, ASKED, hibernation=can), kernel_log=log)
    boot = staged(*line, release=release, host=host)
    assert (boot.state, "hibernation" in kinds(boot)) == (state, state is State.WILL_FAIL)


@pytest.mark.parametrize(("extra", "state"), [((), State.AT_RISK), (("mem=62G",), State.WILL_INITIALIZE)])
def test_what_failed_will_fail_again(extra: tuple[str, ...], state: State) -> None:
    """A new initrd, or an argument that nobody looks at, mends nothing that the plan does not foresee."""
    log = KernelReport(state=ModuleState.FAILED, reason=FailureReason.NOT_LOADED, keyids=(32, 64))
    tdmr = KernelReport(state=ModuleState.FAILED, reason=FailureReason.RESERVED_AREAS, keyids=(32, 64))
    host = running(SAME, "nohibernate", ASKED)
    for report in (log, tdmr):
        boot = staged("nohibernate", ASKED, *extra, release=SAME, host=replace(host, kernel_log=report))
        assert boot.state is (state if report is tdmr else State.WILL_FAIL)


def test_a_log_that_is_lost() -> None:
    """TDX is up by sysfs: the running kernel has tried it, whatever the table has of it."""
    platform = replace(HOST.platform or Platform(), tdx_module_version="2.0.1")
    release = "6.12.0-211.el10.x86_64"
    host = replace(HOST, kernel_release=release, kernel_log=KernelReport(), platform=platform)
    entry = BootEntry(release=release, arguments=host.command_line, roles=(Role.RUNNING, Role.NEXT))
    assert assess(replace(host, boots=BootInventory((entry,)))).next_boot is State.WILL_INITIALIZE


@pytest.mark.parametrize("release", ["6.8.0-45-generic", "6.12.0-211.el10.x86_64", SAME])
@pytest.mark.parametrize("configured", [False, True])
def test_where_nothing_is_staged_checks_end_as_before(release: str, configured: bool) -> None:  # noqa: FBT001
    """The running boot comes again, and the other checks have told of it; staged firmware is news."""
    host = running(release, "nohibernate", kvm_intel_tdx=False)
    host = replace(host, kernel_log=KernelReport(state=ModuleState.NOT_ATTEMPTED, keyids=(32, 64)))
    entry = BootEntry(release=release, arguments=host.command_line, roles=(Role.RUNNING, Role.NEXT))
    boots = BootInventory((entry,), configured=configured, modprobe_read=True)
    before, after = assess(host), assess(replace(host, boots=boots))
    assert after.next_boot in (State.AT_RISK, State.WILL_FAIL)
    assert status_of(after, run_checks(after)) is status_of(before, run_checks(before))
    update = assess(replace(host, boots=replace(boots, firmware_update="a capsule")))
    assert ("next boot", "tdx", "WARN") in [c[:3] for c in run_checks(update)]


class TestWhatIf:
    def test_a_hole_is_a_hole_of_every_boot(self) -> None:
        """On the simulated map of another line as well as on this boot's."""
        holes = tuple(Range(8 * GIB + i * 32 * MIB, 8 * GIB + i * 32 * MIB + 4096) for i in range(17))
        entries = (
            BootEntry(release=SAME, arguments=HOST.command_line, roles=(Role.RUNNING,)),
            BootEntry(release="7.3.0", arguments=("nohibernate", "mem=62G"), roles=(Role.NEXT,)),
        )
        host = replace(HOST, boots=BootInventory(entries, configured=True))
        assert [b.state for b in assess(host).boots or ()] == [State.WILL_INITIALIZE] * 2
        found = assess(host, WhatIf(holes=holes))
        assert [b.state for b in found.boots or ()] == [State.WILL_FAIL] * 2
        line = ("nohibernate", ASKED, "mem=62G")
        both = assess(host, WhatIf(command_line=line, holes=holes))
        assert (both.verdict.next_boot, both.next_boot) == (State.WILL_FAIL, State.WILL_FAIL)

    def test_without_memmap(self) -> None:
        """It takes those of each entry away."""
        line = ("nohibernate", ASKED, "mem=62G")
        entry = BootEntry(release="7.3.0", arguments=line, roles=(Role.NEXT,))
        host = replace(HOST, command_line=line, boots=BootInventory((entry,), configured=True))
        (boot,) = assess(host, WhatIf(without_memmap=True)).boots or ()
        assert boot.plan is not None
        assert boot.plan.tdmrs[-1].end == 64 * GIB

    def test_a_kernel_that_is_there(self) -> None:
        """Its own files come before the table, as where it is staged."""
        traits = KernelTraits(Starts.NOT_BUILT, TraitsFrom.CONFIG)
        entry = BootEntry(release="7.3.0", arguments=(), roles=(Role.INSTALLED,), traits=traits)
        host = replace(HOST, boots=BootInventory((entry,), configured=True))
        assert assess(host, WhatIf(kernel="7.3.0")).next_boot is State.WILL_FAIL
