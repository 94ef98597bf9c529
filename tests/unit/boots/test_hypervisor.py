# SPDX-License-Identifier: Apache-2.0
"""Entries that start a hypervisor below their kernel, where no TDX can be used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.tools.staged import RUNNING, staged_host

from tdx_headroom.boots.inventory import BootReader
from tdx_headroom.boots.kernels.scanner import Scanner
from tdx_headroom.facts.boots import Change, Role
from tdx_headroom.host.choose import read_facts
from tdx_headroom.hostfs.root import Root
from tdx_headroom.output.boots_brief import brief
from tdx_headroom.verdict.assessment import Assessment, assess
from tdx_headroom.verdict.model import State
from tdx_headroom.verdict.obstacles.hypervisor import KIND

if TYPE_CHECKING:
    from pathlib import Path

GOOD = "6.14.0-1009-intel"
LINE = "root=/dev/vda ro quiet kvm_intel.tdx=1 nohibernate"


def assessed(folder: Path) -> Assessment:
    return assess(read_facts(Root(folder), boots=BootReader(Scanner(None))))


def entry(name: str, *commands: str) -> str:
    return f"menuentry '{name}' --id {name} {{\n" + "".join(f"  {one}\n" for one in commands) + "}\n"


def hosted(folder: Path, commands: list[str], release: str = GOOD) -> Path:
    """A host whose next entry runs these commands; the bare kernel is the second one."""
    staged_host(folder, GOOD)
    plain = entry("plain", f"linux /boot/vmlinuz-{release} {LINE}")
    (folder / "boot/grub/grub.cfg").write_text(entry("first", *commands) + plain)
    for name in ("xen-4.17-amd64.gz", "tboot.gz", "acrn.bin"):
        (folder / "boot" / name).write_bytes(b"x")
    return folder


@pytest.mark.parametrize(
    ("commands", "hypervisor"),
    [
        (["multiboot2 /boot/xen-4.17-amd64.gz no-real-mode", "module2 {image}"], "xen-4.17-amd64.gz"),
        (["multiboot /boot/xen-4.17-amd64.gz", "module {image}"], "xen-4.17-amd64.gz"),
        (["xen_hypervisor /boot/xen-4.17-amd64.gz", "xen_module {image}"], "xen-4.17-amd64.gz"),
        (["multiboot2 /boot/acrn.bin", "module2 {image}"], "acrn.bin"),
        (
            ["multiboot2 /boot/tboot.gz", "module2 /boot/xen-4.17-amd64.gz", "module2 {image}"],
            "xen-4.17-amd64.gz",
        ),
        (["multiboot2 /boot/tboot.gz logging=serial", "module2 {image}"], None),
        (["linux {image}"], None),
    ],
)
def test_what_runs_below(commands: list[str], hypervisor: str | None, tmp_path: Path) -> None:
    """A hypervisor stops TDX whatever the kernel and the line; tboot is gone when the kernel runs."""
    image = f"/boot/vmlinuz-{GOOD} {LINE}"
    folder = hosted(tmp_path / "host", [command.format(image=image) for command in commands])
    assessment = assessed(folder)
    coming = assessment.coming
    assert coming is not None
    assert (coming.entry.entry, coming.entry.hypervisor) == ("first", hypervisor)
    assert assessment.next_boot is (State.WILL_INITIALIZE if hypervisor is None else State.WILL_FAIL)
    assert any(finding.kind == KIND for finding in assessment.deciding.findings) is (hypervisor is not None)


def test_the_running_kernel_above_xen(tmp_path: Path) -> None:
    """With the same kernel and line it is not the running boot, and the one without Xen is the way out."""
    image = f"/boot/vmlinuz-{RUNNING} {LINE}"
    commands = ["multiboot2 /boot/xen-4.17-amd64.gz", f"module2 {image}"]
    assessment = assessed(hosted(tmp_path / "host", commands, release=RUNNING))
    coming = assessment.coming
    assert coming is not None
    assert (coming.entry.differs, coming.state) == ((Change.HYPERVISOR,), State.WILL_FAIL)
    (running,) = [b for b in assessment.boots or () if Role.RUNNING in b.entry.roles]
    assert (running.entry.entry, running.state) == ("plain", State.WILL_INITIALIZE)
    said = " ".join(brief(assessment).split())
    assert "above a hypervisor, which boots next" in said
    assert "Boot 'plain' instead" in said


@pytest.mark.parametrize(("kind", "same"), [("PV", True), ("PVH", True), ("HVM", False)])
def test_a_running_dom0(kind: str, same: bool, tmp_path: Path) -> None:  # noqa: FBT001
    """Its entry is the one with Xen; a virtual machine of Xen's own firmware boots plain kernels."""
    image = f"/boot/vmlinuz-{RUNNING} {LINE}"
    commands = ["multiboot2 /boot/xen-4.17-amd64.gz", f"module2 {image}"]
    folder = hosted(tmp_path / "host", commands, release=RUNNING)
    (folder / "sys/hypervisor").mkdir(parents=True)
    (folder / "sys/hypervisor/type").write_text("xen\n")
    (folder / "sys/hypervisor/guest_type").write_text(f"{kind}\n")
    found = BootReader(Scanner(None)).read(Root(folder)).value
    assert found is not None
    (running,) = [entry for entry in found.entries if Role.RUNNING in entry.roles]
    assert running.entry == ("first" if same else "plain")
