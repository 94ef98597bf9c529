# SPDX-License-Identifier: Apache-2.0
"""A running host that is mounted into a container, with or without what tells its next boot."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.tools.efi import boot_option, merged, numbers, variable

from tdx_headroom.boots.inventory import BootReader
from tdx_headroom.boots.mounted import boot_folder_unseen
from tdx_headroom.facts.boots import BootInventory, Role
from tdx_headroom.host.choose import read_facts
from tdx_headroom.hostfs.root import Root
from tdx_headroom.output.boots_report import boots_text
from tdx_headroom.output.terminal import Style
from tdx_headroom.sources.platform import BOOT_ID_PATH as BOOT_ID
from tdx_headroom.verdict.assessment import assess

TESTS = Path(__file__).resolve().parents[2]


@pytest.fixture
def mounted(tmp_path: Path) -> Path:
    """What the base's mounts show of a running host: ``/proc`` and ``/sys``, and nothing else."""
    for name in ("proc", "sys"):
        shutil.copytree(TESTS / "hosts/good-2-node" / name, tmp_path / name)
    (tmp_path / BOOT_ID).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(f"/{BOOT_ID}", tmp_path / BOOT_ID)
    return tmp_path


def inventory(tree: Path) -> BootInventory:
    found = BootReader().read(Root(tree)).value
    assert found is not None
    return found


def roles(found: BootInventory) -> list[tuple[Role, ...]]:
    return [entry.roles for entry in found.entries]


def test_nothing_of_boot_is_mounted(mounted: Path) -> None:
    """It cannot be told what boots next, since /boot is not mounted: not the running kernel again."""
    found = inventory(mounted)
    assert found.unknown == f"{mounted}/boot is not mounted"
    assert roles(found) == [(Role.RUNNING,)]
    text = boots_text(assess(read_facts(Root(mounted), boots=BootReader())), Style())
    assert "boot is not mounted" in " ".join(text.split())


def test_the_folder_that_a_mount_has_made(mounted: Path) -> None:
    """An empty /boot, as an engine makes one for a mount that fails, says no more than none."""
    (mounted / "boot").mkdir()
    assert inventory(mounted).unknown == f"{mounted}/boot is empty: nothing is mounted there"


def test_the_firmware_is_seen_without_the_boot_loader(mounted: Path) -> None:
    """Where EFI variables are visible, as they are below /sys, the mount that is missing is named first."""
    files = merged(variable("BootOrder", numbers(1)), boot_option(1, "debian", r"\EFI\debian\shimx64.efi"))
    for name, value in files.items():
        (mounted / name).parent.mkdir(parents=True, exist_ok=True)
        (mounted / name).write_bytes(value if isinstance(value, bytes) else value.encode())
    assert inventory(mounted).unknown == f"{mounted}/boot is not mounted"


@pytest.mark.parametrize("folder", ["lib/modules", "usr/lib/modules"])
def test_a_host_with_an_empty_boot(mounted: Path, folder: str) -> None:
    """With the host's modules beside it, an empty /boot is the host's own, with its kernel from outside."""
    (mounted / "boot").mkdir()
    (mounted / folder).mkdir(parents=True)
    assert inventory(mounted).unknown is None
    assert roles(inventory(mounted))[0] == (Role.RUNNING, Role.NEXT)


def test_boot_is_mounted(mounted: Path) -> None:
    """With /boot the next boot is what GRUB's menu says."""
    shutil.copytree(TESTS / "boots/debian-one/boot", mounted / "boot")
    found = inventory(mounted)
    assert found.unknown is None
    (coming,) = [entry for entry in found.entries if Role.NEXT in entry.roles]
    assert coming.release == "6.12.0-1-amd64"


@pytest.mark.parametrize("boot_id", [None, "e5b1a2b4-0000-4000-8000-3d2b5f0c9f10\n"], ids=["none", "another"])
def test_a_captured_tree(mounted: Path, boot_id: str | None) -> None:
    """A tree of another boot is none of a running host's: what it lacks, it lacks."""
    (mounted / BOOT_ID).unlink()
    if boot_id is not None:
        (mounted / BOOT_ID).write_text(boot_id)
    assert inventory(mounted).unknown is None
    assert roles(inventory(mounted)) == [(Role.RUNNING, Role.NEXT)]


def test_the_host_itself() -> None:
    """A live host is no tree, whatever it has in /boot."""
    assert boot_folder_unseen(Root()) is None


def test_boot_is_no_folder(mounted: Path) -> None:
    """What cannot be listed is named with the reason."""
    (mounted / "boot").write_text("")
    assert boot_folder_unseen(Root(mounted)) == f"{mounted}/boot: Not a directory"
