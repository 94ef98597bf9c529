# SPDX-License-Identifier: Apache-2.0
"""What becomes of TDX with a kernel and a command line that are staged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tdx_headroom.address import GIB, MIB
from tdx_headroom.facts.boots import BootEntry, BootInventory, KernelTraits, Role, Starts, TraitsFrom
from tdx_headroom.facts.host_facts import HostFacts, MemoryRegion
from tdx_headroom.facts.kernel_report import KernelReport, ModuleState
from tdx_headroom.facts.observations import FirmwareRange, Platform
from tdx_headroom.host.choose import read_facts
from tdx_headroom.hostfs.root import Root
from tdx_headroom.output.plan_json import to_json
from tdx_headroom.plan import Strategy
from tdx_headroom.verdict import State
from tdx_headroom.verdict.assessment import Assessment, assess
from tdx_headroom.verdict.fleet import NEXT, Fit, audit_host, targets_of
from tdx_headroom.verdict.staged import MapFrom
from tdx_headroom.verdict.what_if import WhatIf

if TYPE_CHECKING:
    from tdx_headroom.verdict.boots import Boot

HOSTS = Path(__file__).resolve().parents[2] / "hosts"
LOW = MemoryRegion(0x1000, 0x9F000, 0)
REGIONS = (LOW, MemoryRegion(MIB, 2 * GIB, 0), MemoryRegion(4 * GIB, 64 * GIB, 0))
UP = KernelReport(state=ModuleState.INITIALIZED, keyids=(32, 64), verified=True)
HOST = HostFacts(
    kernel_release="6.17.0-20-generic",
    memory_regions=REGIONS,
    firmware_map=(
        FirmwareRange(0, 0x9FC00, "System RAM"),
        FirmwareRange(MIB, 2 * GIB, "System RAM"),
        FirmwareRange(2 * GIB, 2 * GIB + MIB, "Reserved"),
        FirmwareRange(4 * GIB, 64 * GIB, "System RAM"),
    ),
    firmware_map_certain=True,
    command_line=("nohibernate", "kvm_intel.tdx=1"),
    kernel_log=UP,
    platform=Platform(tdx_host_platform=True, kvm_intel_tdx=True, hibernation=False, cpus=64),
)
ASKED = "kvm_intel.tdx=1"
KVM_TRAITS = KernelTraits(Starts.KVM_LOAD, TraitsFrom.IMAGE, reads_cmrs=False, hibernation=True)


def staged(
    *arguments: str,
    release: str | None = "6.17.0-23-generic",
    traits: KernelTraits | None = None,
    host: HostFacts = HOST,
    **inventory: Any,  # noqa: ANN401  fields of the inventory
) -> Boot:
    """The boot that comes next, judged."""
    entry = BootEntry(entry="x", release=release, arguments=arguments, roles=(Role.NEXT,), traits=traits)
    running = BootEntry(release=host.kernel_release, arguments=host.command_line, roles=(Role.RUNNING,))
    boots = BootInventory((running, entry), configured=True, modprobe_read=True)
    boots = replace(boots, **inventory)
    found = assess(replace(host, boots=boots)).boots
    assert found is not None
    assert Role.RUNNING in found[0].entry.roles
    (coming,) = [boot for boot in found if boot.is_next]
    return coming


def kinds(boot: Boot) -> set[str]:
    assert boot.verdict is not None
    return {finding.kind for finding in boot.verdict.findings if finding.severity != "note"}


def test_all_is_well() -> None:
    """A kernel of the table that is asked for TDX, on the map of this boot."""
    boot = staged("nohibernate", ASKED)
    assert (boot.state, kinds(boot), boot.staged.map_from) == (
        State.WILL_INITIALIZE,
        set(),
        MapFrom.THIS_BOOT,
    )
    assert boot.start == (Starts.KVM_LOAD, TraitsFrom.TABLE)


@pytest.mark.parametrize(
    ("release", "traits", "state", "kind"),
    [
        ("6.12.57+deb13-amd64", None, State.WILL_FAIL, "kernel-without-tdx"),
        ("6.8.0-45-generic", None, State.WILL_FAIL, "kernel-without-tdx"),
        ("6.12.0-211.el10.x86_64", None, State.AT_RISK, "kernel-may-lack-tdx"),
        ("5.15.0-30-generic", None, State.AT_RISK, "kernel-may-lack-tdx"),
        ("6.9.0-rc5+", None, State.AT_RISK, "kernel-may-lack-tdx"),
        (
            "6.17.1-lab",
            KernelTraits(Starts.NOT_BUILT, TraitsFrom.CONFIG),
            State.WILL_FAIL,
            "kernel-without-tdx",
        ),
        # Nothing tells whether somebody has built it with TDX, unless its configuration does.
        ("6.18.5-8.amzn2023.x86_64", None, State.AT_RISK, "kernel-may-lack-tdx"),
        ("7.1.3-flatcar", None, State.AT_RISK, "kernel-may-lack-tdx"),
        ("6.17.0-061700-generic", None, State.AT_RISK, "kernel-may-lack-tdx"),
        ("7.2.4-lab", KernelTraits(unread=("no configuration",)), State.AT_RISK, "kernel-may-lack-tdx"),
        ("7.2.4-lab", KernelTraits(tdx_host=True, unread=("no image",)), State.WILL_INITIALIZE, None),
        ("6.19.1-lab", KernelTraits(Starts.KVM_LOAD, TraitsFrom.IMAGE), State.WILL_INITIALIZE, None),
        ("7.3.0", KernelTraits(Starts.NEVER, TraitsFrom.IMAGE), State.WILL_FAIL, "kernel-without-tdx"),
        ("6.12.0-1-amd64", KernelTraits(Starts.BOOT, TraitsFrom.IMAGE), State.WILL_INITIALIZE, None),
        ("6.12.0-1-amd64", KernelTraits(unread=("x",)), State.WILL_FAIL, "kernel-without-tdx"),
    ],
)
def test_kernels(release: str, traits: KernelTraits | None, state: State, kind: str | None) -> None:
    """A kernel's own files come before the table, and one of which nothing is known is a risk."""
    boot = staged("nohibernate", ASKED, release=release, traits=traits)
    assert (boot.state, kinds(boot)) == (state, set() if kind is None else {kind})


@pytest.mark.parametrize(
    ("log", "flag", "release", "risk"),
    [
        (KernelReport(state=ModuleState.NOT_ATTEMPTED, keyids=(32, 64)), None, "6.18.3-lab", False),
        (KernelReport(), True, "6.18.3-lab", False),
        (KernelReport(), None, "6.18.3-lab", True),
        (KernelReport(state=ModuleState.NOT_ATTEMPTED, keyids=(32, 64)), True, "6.18.4-lab", True),
    ],
)
def test_a_kernel_that_shows_tdx_is_built_with_it(
    log: KernelReport,
    flag: bool | None,  # noqa: FBT001
    release: str,
    risk: bool,  # noqa: FBT001
) -> None:
    """Somebody's own build that names the KeyIDs, or sets the flag, has TDX; another may not."""
    platform = Platform(tdx_host_platform=flag, hibernation=False, cpu_can_tdx=True)
    host = replace(HOST, kernel_release="6.18.3-lab", kernel_log=log, platform=platform)
    boot = staged("nohibernate", "mitigations=off", ASKED, release=release, host=host)
    assert ("kernel-may-lack-tdx" in kinds(boot)) is risk


def test_a_kernel_that_has_done_it_is_no_risk() -> None:
    """TDX is up under the running kernel: that no table knows it is no risk when it comes again."""
    host = replace(HOST, kernel_release="6.12.0-211.el10.x86_64")
    running = BootEntry(
        release=host.kernel_release, arguments=host.command_line, roles=(Role.RUNNING, Role.NEXT)
    )
    (boot,) = assess(replace(host, boots=BootInventory((running,)))).boots or ()
    assert (boot.state, kinds(boot)) == (State.WILL_INITIALIZE, set())


@pytest.mark.parametrize(
    ("arguments", "inventory", "state", "kind"),
    [
        ((ASKED,), {}, State.WILL_INITIALIZE, None),
        (("kvm-intel.tdx=Y",), {}, State.WILL_INITIALIZE, None),
        (("kvm_intel.tdx=1", "kvm_intel.tdx=0"), {}, State.WILL_FAIL, "kvm-tdx-off"),
        ((), {}, State.WILL_FAIL, "kvm-tdx-off"),
        ((), {"modprobe_read": False}, State.AT_RISK, "kvm-tdx-may-be-off"),
        ((), {"kvm_intel_tdx": True}, State.WILL_INITIALIZE, None),
        ((), {"kvm_intel_tdx": False}, State.WILL_FAIL, "kvm-tdx-off"),
        ((ASKED,), {"kvm_intel_tdx": False}, State.AT_RISK, "kvm-tdx-may-be-off"),
        ((ASKED, "kvm.enable_virt_at_load=0"), {}, State.WILL_FAIL, "kvm-virtualization-off"),
        ((ASKED, "kvm.enable_virt_at_load=0", "kvm.enable_virt_at_load"), {}, State.WILL_INITIALIZE, None),
    ],
)
def test_kvm(arguments: tuple[str, ...], inventory: dict[str, Any], state: State, kind: str | None) -> None:
    """A kernel that starts TDX with KVM needs to be told, by its line or by modprobe's configuration."""
    host = replace(HOST, platform=Platform(tdx_host_platform=True, hibernation=False, cpus=64))
    boot = staged("nohibernate", *arguments, host=host, **inventory)
    assert (boot.state, kinds(boot)) == (state, set() if kind is None else {kind})


@pytest.mark.parametrize(
    ("arguments", "built_in", "state", "kind"),
    [
        ((ASKED, "--", "kvm_intel.tdx=0"), False, State.WILL_FAIL, "kvm-tdx-off"),
        ((ASKED, "--", "kvm_intel.tdx=0"), True, State.WILL_INITIALIZE, None),
        ((ASKED, "--", "kvm_intel.tdx=0"), None, State.AT_RISK, "kvm-tdx-may-be-off"),
        (("--", ASKED), False, State.WILL_INITIALIZE, None),
        (("--", ASKED), True, State.WILL_FAIL, "kvm-tdx-off"),
        (("--", ASKED), None, State.AT_RISK, "kvm-tdx-may-be-off"),
        ((ASKED, "--", "kvm_intel.ept=1"), None, State.WILL_INITIALIZE, None),
        ((ASKED, "--", "kvm.enable_virt_at_load=0"), False, State.WILL_FAIL, "kvm-virtualization-off"),
        ((ASKED, "--", "kvm.tdp_mmu=0"), False, State.WILL_FAIL, "kvm-option-off"),
        ((ASKED, "--", "kvm.tdp_mmu=0"), True, State.WILL_INITIALIZE, None),
        ((ASKED, "--", "kvm.tdp_mmu=0"), None, State.AT_RISK, "kvm-tdx-may-be-off"),
    ],
)
def test_kvm_behind_dashes(
    arguments: tuple[str, ...],
    built_in: bool | None,  # noqa: FBT001
    state: State,
    kind: str | None,
) -> None:
    """What stands behind `--` counts for a module, and for nothing that is built in."""
    boot = staged("nohibernate", *arguments, traits=replace(KVM_TRAITS, kvm_built_in=built_in))
    assert (boot.state, kinds(boot)) == (state, set() if kind is None else {kind})


def test_kvm_is_no_matter_for_a_kernel_that_starts_tdx_at_boot() -> None:
    """Without the parameter, guests lack TDX; its initialization does not."""
    assert staged("nohibernate", release="7.3.0").state is State.WILL_INITIALIZE


def test_somebody_else_loads_kvm_with_tdx() -> None:
    """It is on in this boot, and neither line nor configuration ask for it: whatever did will do again."""
    host = replace(HOST, command_line=("nohibernate",))
    assert staged("nohibernate", host=host).state is State.WILL_INITIALIZE
    # That which asks for it now is taken away.
    assert staged("nohibernate").state is State.WILL_FAIL


@pytest.mark.parametrize(
    ("running", "arguments", "can", "traits", "state"),
    [
        (("nohibernate", ASKED), (ASKED,), False, KVM_TRAITS, State.WILL_FAIL),
        (("nohibernate", ASKED), ("hibernate=no", ASKED), False, KVM_TRAITS, State.WILL_INITIALIZE),
        (("nohibernate", ASKED), ("nohibernate=1", ASKED), False, KVM_TRAITS, State.WILL_INITIALIZE),
        (("nohibernate", ASKED), ("hibernate=nope", ASKED), False, KVM_TRAITS, State.WILL_INITIALIZE),
        (("nohibernate", ASKED), ("lockdown=integrity", ASKED), False, KVM_TRAITS, State.WILL_INITIALIZE),
        (("nohibernate", ASKED), ("noresume", ASKED), False, KVM_TRAITS, State.WILL_FAIL),
        # Secure Boot has locked this one down, in which TDX is up, and locks its vendor's next one down.
        ((ASKED,), (ASKED,), False, KVM_TRAITS, State.WILL_INITIALIZE),
        ((ASKED,), (ASKED,), True, replace(KVM_TRAITS, hibernation=False), State.WILL_INITIALIZE),
        ((ASKED,), (ASKED,), None, KVM_TRAITS, State.WILL_FAIL),
    ],
)
def test_hibernation(
    running: tuple[str, ...],
    arguments: tuple[str, ...],
    can: bool | None,  # noqa: FBT001
    traits: KernelTraits,
    state: State,
) -> None:
    """It goes by the staged kernel's build and line, not by what the running one can do."""
    platform = Platform(tdx_host_platform=True, kvm_intel_tdx=True, hibernation=can)
    host = replace(HOST, command_line=running, platform=platform)
    boot = staged(*arguments, host=host, traits=traits)
    assert (boot.state, "hibernation" in kinds(boot)) == (state, state is State.WILL_FAIL)


@pytest.mark.parametrize(
    ("argument", "risk"),
    [
        ("nosmt", True),
        ("nosmt=force", True),
        ("maxcpus=32", True),
        ("nr_cpus=64", False),
        ("maxcpus=x", False),
    ],
)
def test_cpus(argument: str, risk: bool) -> None:  # noqa: FBT001
    """CPUs that are left out are a risk; a limit that the host does not reach is none."""
    boot = staged("nohibernate", ASKED, argument)
    assert (boot.state is State.AT_RISK, kinds(boot)) == (risk, {"cpus-left-out"} if risk else set())


def test_memmap_makes_another_map() -> None:
    """Areas are counted on the map under the staged line; without memmap= again on this boot's."""
    holes = tuple(f"memmap=4K$0x{8 * GIB + i * 32 * MIB:x}" for i in range(17))
    boot = staged("nohibernate", ASKED, *holes)
    assert (boot.state, kinds(boot), boot.staged.map_from) == (
        State.WILL_FAIL,
        {"reserved-areas"},
        MapFrom.SIMULATED,
    )
    assert boot.plan is not None
    again = HOST.memory_regions or ()
    punched = assess(
        replace(HOST, memory_regions=again),
        WhatIf(command_line=("nohibernate", ASKED, *holes)),
    )
    plan = punched.plans[boot.plan.strategy]
    assert plan is not None
    assert [t.needed for t in plan.tdmrs] == [t.needed for t in boot.plan.tdmrs]


def test_back_to_the_firmwares_map() -> None:
    """Taking memmap= off brings back what the firmware has there."""
    line = ("nohibernate", ASKED, "memmap=4K$0x240000000")
    regions = (
        LOW,
        MemoryRegion(MIB, 2 * GIB, 0),
        MemoryRegion(4 * GIB, 9 * GIB, 0),
        MemoryRegion(9 * GIB + 4096, 64 * GIB, 0),
    )
    boot = staged("nohibernate", ASKED, host=replace(HOST, command_line=line, memory_regions=regions))
    assert (boot.state, boot.staged.map_from) == (State.WILL_INITIALIZE, MapFrom.SIMULATED)
    plan = assess(HOST).plans[Strategy.MEMORY_REGIONS]
    assert plan is not None
    assert boot.plan is not None
    assert [t.needed_holes for t in boot.plan.tdmrs] == [t.needed_holes for t in plan.tdmrs]


def test_a_map_that_cannot_be_simulated() -> None:
    """Without the firmware's map another memmap= leaves the verdict unknown, and says why."""
    boot = staged("nohibernate", ASKED, "mem=32G", host=replace(HOST, firmware_map=None))
    assert (boot.state, boot.plan) == (State.CANNOT_TELL, None)
    assert boot.verdict is not None
    assert "map-not-simulated" in {finding.kind for finding in boot.verdict.findings}


def test_a_map_that_is_not_reproduced() -> None:
    """Where the firmware's map under this boot's line is not this boot's memory, another line is a risk."""
    regions = (LOW, MemoryRegion(MIB, 2 * GIB, 0), MemoryRegion(4 * GIB, 63 * GIB, 0))
    facts = read_facts(Root(HOSTS / "good-2-node"))
    host = replace(HOST, memory_regions=regions, memory_source=facts.memory_source)
    boot = staged("nohibernate", ASKED, "mem=32G", host=host)
    assert (boot.state, kinds(boot)) == (State.AT_RISK, {"map-uncertain"})


@pytest.mark.parametrize(
    "argument", ["hugepages=2600", "kernelcore=1G", "movablecore=90%", "hugetlb_cma=4G", "movable_node"]
)
def test_what_moves_pamts(argument: str) -> None:
    """It is a risk where the staged line asks for it and the running one does not, and none where both do."""
    assert staged("nohibernate", ASKED, argument).state in (State.AT_RISK, State.WILL_FAIL)
    host = replace(HOST, command_line=("nohibernate", ASKED, argument))
    assert staged("nohibernate", ASKED, argument, host=host).state is State.WILL_INITIALIZE


def test_a_staged_firmware_update() -> None:
    """Its memory map is another one: a risk, for the running kernel as well."""
    boot = staged("nohibernate", ASKED, firmware_update="a capsule on the ESP")
    assert (boot.state, kinds(boot)) == (State.AT_RISK, {"firmware-update"})


@pytest.mark.parametrize(("overrides", "state"), [(False, State.WILL_INITIALIZE), (True, State.WILL_FAIL)])
def test_arguments_that_a_kernel_is_built_with(overrides: bool, state: State) -> None:  # noqa: FBT001
    """They come before those of the loader, or in their place."""
    traits = replace(KVM_TRAITS, built_in=("nohibernate",), overrides=overrides)
    host = replace(HOST, platform=Platform(tdx_host_platform=True, hibernation=False, cpus=64))
    assert staged(ASKED, host=host, traits=traits).state is state


@pytest.mark.parametrize("lacking", ["release", "arguments"])
def test_an_entry_of_which_something_is_unknown(lacking: str) -> None:
    """Without its kernel or its line nothing can be told, and the reason is passed on."""
    entry = BootEntry(release="7.3.0", arguments=(), roles=(Role.NEXT,), unknown="boot/x: Permission denied")
    entry = replace(entry, **{lacking: None})  # type: ignore[arg-type]
    assessment = assess(replace(HOST, boots=BootInventory((entry,), configured=True)))
    (boot,) = assessment.boots or ()
    assert (boot.state, assessment.next_boot) == (State.CANNOT_TELL, None)
    assert "boot/x: Permission denied" in boot.why


def no_tdx() -> HostFacts:
    return read_facts(Root(HOSTS / "no-tdx"))


def test_a_host_without_tdx() -> None:
    """Whatever kernel is staged, it has no TDX, and no obstacle is told of."""
    entry = BootEntry(release="6.12.57+deb13-amd64", arguments=(), roles=(Role.NEXT,))
    assessment = assess(replace(no_tdx(), boots=BootInventory((entry,), configured=True)))
    assert [boot.state for boot in assessment.boots or ()] == [State.NOT_TDX]
    assert assessment.next_boot is None


class TestFleet:
    def test_what_is_staged_is_audited(self) -> None:
        """Beside the own kernel stands the own next boot."""
        entry = BootEntry(release="6.12.57+deb13-amd64", arguments=(ASKED,), roles=(Role.NEXT,))
        host = replace(HOST, boots=BootInventory((entry,), configured=True))
        audit = audit_host(host, "x", None, targets_of(()))
        fits = {result.target.label: result.fit for result in audit.targets}
        assert fits == {"own kernel": Fit.FITS, "own next boot": Fit.WILL_FAIL, "mainline": Fit.FITS}
        (result,) = [result for result in audit.targets if result.target is NEXT]
        assert result.release == "6.12.57+deb13-amd64"
        assert result.why.startswith("Kernel 6.12.57+deb13-amd64 is built without TDX")

    @pytest.mark.parametrize("boots", [None, BootInventory((BootEntry(release="x", roles=(Role.NEXT,)),))])
    def test_a_host_of_which_nothing_is_known(self, boots: BootInventory | None) -> None:
        """Where nobody has looked, or nothing is configured, there is no such row."""
        audit = audit_host(replace(HOST, boots=boots), "x", None, targets_of(()))
        assert NEXT not in [result.target for result in audit.targets]

    def test_another_line(self) -> None:
        """A command line to try is tried with every kernel, the staged one included."""
        entry = BootEntry(release="7.3.0", arguments=(ASKED,), roles=(Role.NEXT,))
        host = replace(HOST, boots=BootInventory((entry,), configured=True))
        holes = tuple(f"memmap=4K$0x{8 * GIB + i * 32 * MIB:x}" for i in range(17))
        for more, fit in ((holes, Fit.WILL_FAIL), ((), Fit.FITS)):
            line = ("nohibernate", ASKED, *more)
            audit = audit_host(host, "x", None, targets_of(()), line)
            assert [result.fit for result in audit.targets] == [fit] * 3

    def test_unknown_and_without_tdx(self) -> None:
        """Why it cannot be told is told; a host without TDX has none under any kernel."""
        unknown = BootInventory((), unknown="boot/grub/grub.cfg: Permission denied", configured=True)
        audit = audit_host(replace(HOST, boots=unknown), "x", None, (NEXT,))
        assert [(r.fit, "Permission denied" in r.why) for r in audit.targets] == [(Fit.CANNOT_TELL, True)]
        audit = audit_host(replace(no_tdx(), boots=unknown), "x", None, (NEXT,))
        assert [r.fit for r in audit.targets] == [Fit.NO_TDX]


class TestWhatIf:
    def test_another_line(self) -> None:
        """Strategies and the next boot are about the changed map, and gates of the line count."""
        line = ("nohibernate", ASKED, "mem=32G")
        assessment = assess(HOST, WhatIf(command_line=line))
        plan = assessment.plans[assessment.verdict.strategy]
        assert plan is not None
        assert plan.tdmrs[-1].end == 32 * GIB
        assert assessment.verdict.next_boot is State.WILL_INITIALIZE
        off = assess(HOST, WhatIf(command_line=("nohibernate", "kvm_intel.tdx=0")))
        assert off.verdict.next_boot is State.WILL_FAIL

    @pytest.mark.parametrize("what_if", [WhatIf(kernel="7.3.0"), WhatIf(command_line=("nohibernate", ASKED))])
    def test_it_takes_the_place_of_what_is_staged(self, what_if: WhatIf) -> None:
        """The one boot that is told of is the one that is asked about."""
        entry = BootEntry(release="6.12.57+deb13-amd64", arguments=(ASKED,), roles=(Role.NEXT,))
        host = replace(HOST, boots=BootInventory((entry,), configured=True))
        assessment = assess(host, what_if)
        (boot,) = assessment.boots or ()
        assert (boot.state, boot.entry.release) == (
            State.WILL_INITIALIZE,
            what_if.kernel or HOST.kernel_release,
        )
        assert to_json(assessment)["verdict"]["next_boot"] == "will-initialize"

    def test_limits_are_for_every_boot(self) -> None:
        """Fewer areas a TDMR make every staged boot fail."""
        entry = BootEntry(release="7.3.0", arguments=HOST.command_line, roles=(Role.NEXT,))
        host = replace(HOST, boots=BootInventory((entry,), configured=True))
        assessment: Assessment = assess(host, WhatIf(max_reserved=1))
        assert [boot.state for boot in assessment.boots or ()] == [State.WILL_FAIL]
