# SPDX-License-Identifier: Apache-2.0
"""The metrics about the boot that comes next, of whole hosts."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tdx_headroom.boots.inventory import BootReader
from tdx_headroom.facts.boots import BootEntry, BootInventory, Change, Loader, Role
from tdx_headroom.facts.kernel_report import KernelReport
from tdx_headroom.host.choose import read_facts
from tdx_headroom.hostfs.root import Root
from tdx_headroom.output.metrics import collect
from tdx_headroom.output.next_boot_metrics import MAX_KERNELS
from tdx_headroom.verdict.assessment import assess

if TYPE_CHECKING:
    from tdx_headroom.facts.host_facts import HostFacts

TESTS = Path(__file__).resolve().parents[2]
RUNNING = "6.8.0-1007-intel"
Samples = dict[str, list[tuple[dict[str, str], float]]]


def host(folder: Path, layout: str | None = None) -> HostFacts:
    shutil.copytree(TESTS / "hosts/good-2-node", folder, symlinks=True)
    if layout is not None:
        shutil.copytree(TESTS / "boots" / layout, folder, symlinks=True, dirs_exist_ok=True)
    return read_facts(Root(folder), boots=BootReader())


def samples(facts: HostFacts) -> Samples:
    found: Samples = {}
    for family in collect(assess(facts), None):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def true(found: Samples, name: str) -> list[str]:
    """Values of the label ``verdict`` that are 1."""
    return [labels["verdict"] for labels, value in found.get(name, []) if value]


def staged(facts: HostFacts, *entries: BootEntry, unknown: str | None = None) -> HostFacts:
    running = BootEntry(
        release=RUNNING, arguments=facts.command_line, roles=(Role.RUNNING,), known_from="x", differs=()
    )
    return replace(facts, boots=BootInventory((running, *entries), unknown, configured=True))


def entry(release: str, *roles: Role, differs: tuple[Change, ...] | None = (Change.KERNEL,)) -> BootEntry:
    return BootEntry(
        entry=release,
        release=release,
        arguments=("kvm_intel.tdx=1", "nohibernate"),
        loader=Loader.GRUB,
        roles=roles or (Role.INSTALLED,),
        known_from="boot/grub/grub.cfg",
        differs=differs,
    )


def test_a_kernel_is_staged_that_has_no_tdx(tmp_path: Path) -> None:
    """The next boot is told apart from the running one, and every kernel has its verdict and its headroom."""
    found = samples(host(tmp_path / "host", "debian-one"))
    assert true(found, "tdx_next_init") == ["will-initialize"]
    assert true(found, "tdx_next_boot") == true(found, "tdx_staged_boot") == ["will-fail"]
    assert found["tdx_next_boot_pending"] == [({}, 1)]
    ((info, _),) = found["tdx_next_boot_info"]
    assert info == {
        "kernel_release": "6.12.0-1-amd64",
        "loader": "grub",
        "role": "next",
        "known_from": "boot/grub/grub.cfg, boot/grub/grubenv",
        "verdict": "will-fail",
    }
    assert found["tdx_host_info"][0][0]["verdict"] == "will-fail"
    verdicts = {labels["kernel_release"]: labels["verdict"] for labels, _ in found["tdx_boot_verdict"]}
    assert verdicts == {"6.12.0-1-amd64": "will-fail", RUNNING: "will-initialize"}
    left = {labels["kernel_release"]: n for labels, n in found["tdx_boot_reserved_areas_headroom_min"]}
    assert left == {"6.12.0-1-amd64": 10, RUNNING: 13}
    assert ({"kind": "kernel-without-tdx", "severity": "fails"}, 1) in found["tdx_finding"]


def test_nobody_has_looked(tmp_path: Path) -> None:
    """The running kernel is taken to come again, known from itself; what is staged is absent, not zero."""
    facts = replace(host(tmp_path / "host"), boots=None)
    found = samples(facts)
    assert true(found, "tdx_next_boot") == ["will-initialize"]
    ((info, _),) = found["tdx_next_boot_info"]
    assert (info["kernel_release"], info["known_from"]) == (RUNNING, "the running kernel")
    for name in ("tdx_next_boot_pending", "tdx_staged_boot", "tdx_boot_verdict"):
        assert name not in found


def test_the_running_boot_comes_again(tmp_path: Path) -> None:
    """Nothing is pending, and no staged boot has a verdict."""
    facts = host(tmp_path / "host")
    running = BootEntry(
        release=RUNNING, arguments=facts.command_line, roles=(Role.RUNNING, Role.NEXT), differs=()
    )
    found = samples(replace(facts, boots=BootInventory((running,), configured=True)))
    assert true(found, "tdx_next_boot") == ["will-initialize"]
    assert found["tdx_next_boot_pending"] == [({}, 0)]
    assert true(found, "tdx_staged_boot") == []
    assert len(found["tdx_staged_boot"]) == 4


def test_what_boots_next_cannot_be_told(tmp_path: Path) -> None:
    """It is told as that, and neither pending nor a kernel is named; the running boot's own verdict stays."""
    found = samples(staged(host(tmp_path / "host"), unknown="boot/grub/grub.cfg: Permission denied"))
    assert true(found, "tdx_next_init") == ["will-initialize"]
    assert true(found, "tdx_next_boot") == true(found, "tdx_staged_boot") == ["cannot-tell"]
    assert "tdx_next_boot_pending" not in found
    assert "tdx_next_boot_info" not in found


def test_a_kernel_that_kexec_has_loaded(tmp_path: Path) -> None:
    """It is named as far as it is known: that it is there."""
    kexec = BootEntry(loader=Loader.KEXEC, roles=(Role.KEXEC,), known_from="sys/kernel/kexec_loaded")
    found = samples(staged(host(tmp_path / "host"), kexec, unknown="a kernel is loaded by kexec"))
    ((info, _),) = found["tdx_next_boot_info"]
    assert info == {
        "kernel_release": "",
        "loader": "kexec",
        "role": "kexec",
        "known_from": "sys/kernel/kexec_loaded",
        "verdict": "cannot-tell",
    }
    assert true(found, "tdx_next_boot") == ["cannot-tell"]


def test_once_only(tmp_path: Path) -> None:
    """A one-shot entry is told as one."""
    found = samples(staged(host(tmp_path / "host"), entry("6.8.0-1006-intel", Role.NEXT, Role.ONE_SHOT)))
    ((info, _),) = found["tdx_next_boot_info"]
    assert (info["kernel_release"], info["role"]) == ("6.8.0-1006-intel", "one-shot")


def test_one_cause_is_told_once(tmp_path: Path) -> None:
    """Where the host itself cannot be judged, a staged kernel that cannot be either is no news."""
    facts = replace(
        host(tmp_path / "host"), memory_regions=None, cmrs=None, kernel_log=None, firmware_map=None
    )
    found = samples(staged(facts, entry("6.8.0-1006-intel", Role.NEXT)))
    assert true(found, "tdx_verdict") == true(found, "tdx_next_boot") == ["cannot-tell"]
    assert true(found, "tdx_staged_boot") == []


@pytest.mark.parametrize(
    ("line", "changed", "state"),
    [
        ("kvm_intel.tdx=1", {"firmware_update": "fwupd"}, "at-risk"),
        ("", {"kvm_intel_tdx": False, "modprobe_read": True}, "will-fail"),
    ],
)
def test_the_same_kernel_meets_something_else(
    tmp_path: Path, line: str, changed: dict[str, Any], state: str
) -> None:
    """Staged firmware and modprobe's options are told as a staged boot: no other alert is about them."""
    arguments = (*line.split(), "nohibernate")
    facts = replace(host(tmp_path / "host"), command_line=arguments)
    running = BootEntry(release=RUNNING, arguments=arguments, roles=(Role.RUNNING, Role.NEXT), differs=())
    found = samples(replace(facts, boots=BootInventory((running,), configured=True, **changed)))
    assert true(found, "tdx_next_init") == ["will-initialize"]
    assert true(found, "tdx_next_boot") == true(found, "tdx_staged_boot") == [state]
    assert found["tdx_next_boot_pending"] == [({}, 0)]


@pytest.mark.parametrize("unknown", [None, "boot/grub/grub.cfg: Permission denied"])
def test_a_server_that_nobody_wants_tdx_on(tmp_path: Path, unknown: str | None) -> None:
    """Where nothing speaks for TDX a kernel without it is no news, and neither is that nobody can tell."""
    facts = host(tmp_path / "host")
    assert facts.platform is not None
    platform = replace(facts.platform, tdx_host_platform=None, tdx_module_version=None, guest_keyids=None)
    facts = replace(facts, platform=platform, kernel_log=KernelReport(), command_line=(), cmrs=None)
    without = replace(entry("6.12.0-1-amd64", *([] if unknown else [Role.NEXT])), arguments=())
    found = samples(staged(facts, without, unknown=unknown))
    assert true(found, "tdx_verdict") == ["cannot-tell"]
    assert true(found, "tdx_next_boot") == ["cannot-tell" if unknown else "will-fail"]
    assert true(found, "tdx_staged_boot") == []
    assert "no-sign-of-tdx" in [labels["kind"] for labels, _ in found["tdx_finding"]]


def test_a_host_without_tdx_has_none_of_them(tmp_path: Path) -> None:
    """Nothing about a next boot, whatever is staged."""
    shutil.copytree(TESTS / "hosts/no-tdx", tmp_path / "host", symlinks=True)
    found = samples(staged(read_facts(Root(tmp_path / "host")), entry("6.12.0-1-amd64", Role.NEXT)))
    assert true(found, "tdx_verdict") == ["not-tdx"]
    assert not [name for name in found if "boot" in name and name != "tdx_boot_time_seconds"]


def test_the_worst_entry_of_a_kernel_counts_but_not_recovery(tmp_path: Path) -> None:
    """Of the same release the worst default entry gives the verdict; of recovery entries none does."""
    bad = replace(entry(RUNNING, differs=(Change.COMMAND_LINE,)), arguments=("kvm_intel.tdx=0",))
    only_recovery = replace(bad, recovery=True)
    facts = host(tmp_path / "host")

    def verdict(*entries: BootEntry) -> list[str]:
        return true(samples(staged(facts, *entries)), "tdx_boot_verdict")

    assert verdict(only_recovery) == ["will-initialize"]
    assert verdict(bad) == ["will-fail"]


@pytest.mark.parametrize("following", ["6.8.0-9-intel", "6.8.0-20-intel"])
def test_many_kernels(tmp_path: Path, following: str) -> None:
    """The one that comes next is there, and the newest; numbers count as numbers."""
    names = [f"6.8.0-{number}-intel" for number in range(9, 24)]
    entries = [entry(name, *([Role.NEXT] if name == following else [])) for name in names]
    found = samples(staged(host(tmp_path / "host"), *entries))
    told = [labels["kernel_release"] for labels, _ in found["tdx_boot_verdict"]]
    assert len(told) == MAX_KERNELS
    newest = [RUNNING, *(name for name in reversed(names) if name != following)]
    assert told == [following, *newest[: MAX_KERNELS - 1]]


def test_releases_that_are_cut_to_the_same_text(tmp_path: Path) -> None:
    """They are one series: two of the same labels would fail the scrape."""
    long = "6.8.0-" + "x" * 200
    found = samples(staged(host(tmp_path / "host"), entry(f"{long}1"), entry(f"{long}2")))
    told = [labels["kernel_release"] for labels, _ in found["tdx_boot_verdict"]]
    assert len(told) == len(set(told)) == 2


def test_external_text_is_escaped(tmp_path: Path) -> None:
    """Line breaks in a release or a path are shown, not passed on; ids of machines are left out."""
    hostile = replace(
        entry("6.8.0\n-evil", Role.NEXT),
        known_from="boot/loader/entries/0123456789abcdef0123456789abcdef-6.8.conf",
    )
    found = samples(staged(host(tmp_path / "host"), hostile))
    ((info, _),) = found["tdx_next_boot_info"]
    assert info["kernel_release"] == r"6.8.0\x0a-evil"
    assert info["known_from"] == "boot/loader/entries/…-6.8.conf"
