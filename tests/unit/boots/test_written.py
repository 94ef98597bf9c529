# SPDX-License-Identifier: Apache-2.0
"""The inventory that root has written, and all that keeps it from being believed."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tdx_headroom.boots import taking, written
from tdx_headroom.boots.inventory import BootReader, boots_of
from tdx_headroom.boots.mounted import is_this_host
from tdx_headroom.boots.taking import take_inventory
from tdx_headroom.boots.watched import changed_since, state_of_files
from tdx_headroom.boots.written import WrittenInventory
from tdx_headroom.facts.boot_inventory import INVENTORY_PATH, MAX_INVENTORY, write_inventory
from tdx_headroom.facts.boots import BootInventory, Role
from tdx_headroom.host.choose import read_facts
from tdx_headroom.hostfs.root import Root
from tdx_headroom.verdict.assessment import assess

if TYPE_CHECKING:
    from collections.abc import Callable

TESTS = Path(__file__).resolve().parents[2]
BOOT_ID = "proc/sys/kernel/random/boot_id"
OTHER_BOOT = "00000000-1111-2222-3333-444444444444"
NEXT = "6.12.0-1-amd64"


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Root:
    """The running host, with a kernel staged, and its inventory written by root: whoever runs this test."""
    monkeypatch.setattr(written, "_ROOT", os.geteuid())
    folder = tmp_path / "host"
    shutil.copytree(TESTS / "hosts/good-2-node", folder, symlinks=True)
    shutil.copytree(TESTS / "boots/debian-one", folder, symlinks=True, dirs_exist_ok=True)
    (folder / BOOT_ID).parent.mkdir(parents=True, exist_ok=True)
    (folder / BOOT_ID).write_text(Root("/").read("test", BOOT_ID))
    root = Root(folder)
    write(root)
    return root


def write(root: Root) -> None:
    path = Path(root.locate(INVENTORY_PATH))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.parent.chmod(0o755)
    path.write_text(write_inventory(*take_inventory(root)))
    path.chmod(0o644)


def read(root: Root, held: str | None = None) -> BootInventory:
    found = WrittenInventory(held).read(root).value
    assert found is not None
    return found


def test_it_says_what_the_boot_configuration_does(host: Root) -> None:
    """Who may not read grub.cfg has the same entries, kernels and choice as who may."""
    direct = BootReader.with_images().take(host)
    assert read(host) == direct
    assert direct is not None
    assert [e.release for e in direct.entries if Role.NEXT in e.roles] == [NEXT]
    coming = assess(read_facts(host, boots=WrittenInventory())).coming
    assert coming is not None
    assert coming.entry.release == NEXT


def test_it_holds_no_text_of_the_boot_configuration(host: Root) -> None:
    """No line of grub.cfg is in it, nor any argument that is not about memory or TDX."""
    text = host.read("test", INVENTORY_PATH)
    for line in host.read("test", "boot/grub/grub.cfg").splitlines():
        assert len(line.strip()) < 12 or line.strip() not in text
    assert "root=" not in text


def forged(root: Root) -> None:
    Path(root.locate(INVENTORY_PATH)).chmod(0o666)


def in_a_folder_of_others(root: Root) -> None:
    Path(root.locate(INVENTORY_PATH)).parent.chmod(0o777)


def removed(root: Root) -> None:
    Path(root.locate(INVENTORY_PATH)).unlink()


def folder_removed(root: Root) -> None:
    shutil.rmtree(Path(root.locate(INVENTORY_PATH)).parent)


def half_written(root: Root) -> None:
    path = Path(root.locate(INVENTORY_PATH))
    path.write_text(path.read_text()[:200])


def empty(root: Root) -> None:
    Path(root.locate(INVENTORY_PATH)).write_text("")


def too_long(root: Root) -> None:
    with Path(root.locate(INVENTORY_PATH)).open("ab") as file:
        file.truncate(100 << 20)


def a_pipe(root: Root) -> None:
    removed(root)
    os.mkfifo(root.locate(INVENTORY_PATH), 0o644)


def another_boot(root: Root) -> None:
    value = json.loads(root.read("test", INVENTORY_PATH))
    value["taken"]["boot_id"] = OTHER_BOOT
    Path(root.locate(INVENTORY_PATH)).write_text(json.dumps(value))


def of_a_capture(root: Root) -> None:
    value = json.loads(root.read("test", INVENTORY_PATH))
    del value["taken"]
    Path(root.locate(INVENTORY_PATH)).write_text(json.dumps(value))


def no_time(root: Root) -> None:
    value = json.loads(root.read("test", INVENTORY_PATH))
    value["taken"] = {"boot_id": 3}
    Path(root.locate(INVENTORY_PATH)).write_text(json.dumps(value))


def another_kernel_since(root: Root) -> None:
    Path(root.locate("boot/vmlinuz-7.3.4")).write_bytes(b"")


def another_choice_since(root: Root) -> None:
    Path(root.locate("boot/grub/grubenv")).write_text("# GRUB Environment Block\nnext_entry=1\n")


def entries_gone_since(root: Root) -> None:
    shutil.rmtree(root.locate("boot/grub"))


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (forged, "others may write it, so that it cannot be believed"),
        (in_a_folder_of_others, "run/tdx-headroom-boots: others may write it"),
        (removed, "it is not there; `systemctl start tdx-headroom-boots.service` writes it"),
        (folder_removed, "it is not there; `systemctl start tdx-headroom-boots.service` writes it"),
        (half_written, "it is no JSON"),
        (empty, "it is no JSON"),
        (too_long, f"is larger than {MAX_INVENTORY >> 20} MiB"),
        (a_pipe, "is not a regular file"),
        (another_boot, "it is of another boot"),
        (of_a_capture, "it is of another boot"),
        (no_time, "of what it was taken cannot be read"),
        (another_kernel_since, "/boot has changed since it was written"),
        (another_choice_since, "/boot/grub has changed since it was written"),
        (entries_gone_since, "/boot has changed since it was written"),
    ],
)
def test_what_keeps_it_from_being_believed(host: Root, spoil: Callable[[Root], None], why: str) -> None:
    """It is named, nothing of it is believed, and what boots next is unknown: one clause, one line."""
    spoil(host)
    found = read(host)
    assert found.unknown is not None
    assert INVENTORY_PATH.rpartition("/")[0] in found.unknown
    assert why in found.unknown
    assert "\n" not in found.unknown
    assert [entry.roles for entry in found.entries] == [(Role.RUNNING,)]
    assessment = assess(read_facts(host, boots=WrittenInventory()))
    assert (assessment.coming, assessment.next_boot, assessment.pending) == (None, None, None)


def test_somebody_else_s(host: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is not root's is not believed, whatever its mode."""
    monkeypatch.setattr(written, "_ROOT", os.geteuid() + 1)
    why = read(host).unknown
    assert why is not None
    assert f"it belongs to user {os.geteuid()}" in why


def test_one_that_was_taken_before_root_was_given_up(host: Root) -> None:
    """It counts where there is no file and nothing has changed since; a bad file it does not replace."""
    held = host.read("test", INVENTORY_PATH)
    folder_removed(host)
    assert read(host, held).unknown is None
    another_kernel_since(host)
    assert "has changed" in (read(host, held).unknown or "")
    write(host)
    forged(host)
    assert "believed" in (read(host, held).unknown or "")


def test_kexec_comes_and_goes_without_a_new_inventory(host: Root) -> None:
    """The kernel shows by itself whether one is loaded by kexec."""
    loaded = Path(host.locate("sys/kernel/kexec_loaded"))
    loaded.parent.mkdir(parents=True, exist_ok=True)
    loaded.write_text("1\n")
    found = read(host)
    assert found.unknown == "a kernel is loaded by kexec"
    assert not [entry for entry in found.entries if Role.NEXT in entry.roles]
    loaded.write_text("0\n")
    assert [entry.release for entry in read(host).entries if Role.NEXT in entry.roles] == [NEXT]


def test_a_captured_host_is_not_this_one(host: Root) -> None:
    """What a capture holds is no file of root's: it is read as it is."""
    assert is_this_host(host)
    assert isinstance(boots_of(host), WrittenInventory)
    Path(host.locate(BOOT_ID)).write_text(OTHER_BOOT)
    forged(host)
    assert not is_this_host(host)
    found = boots_of(host).read(host).value
    assert found is not None
    assert found.unknown is None


def test_what_somebody_may_not_look_at_is_no_change(host: Root) -> None:
    """Root has seen more of a host than who compares: that alone says nothing, but that it is gone does."""
    state = {**state_of_files(host), "efi/loader": "0123"}
    esp = Path(host.locate("efi"))
    esp.mkdir()
    assert changed_since(host, state) == "efi/loader"
    esp.rmdir()
    # In a tree a link that leads out of it may not be followed.
    esp.symlink_to("/")
    assert changed_since(host, state) is None


def test_a_container_without_a_mount_of_the_esp(host: Root) -> None:
    """An ESP at /efi that root has seen, and that is not mounted where the agent is, is no change."""
    assert changed_since(host, {**state_of_files(host), "efi/loader": "0123"}) is None


def test_an_upgrade_that_goes_on_for_long(host: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written again and again is looked at until it is whole, and the inventory is of that."""
    left = [*range(8)]
    take = BootReader.take

    def while_written(self: BootReader, files: Root) -> BootInventory | None:
        found = take(self, files)
        if left:
            Path(host.locate("boot/initrd.img.new")).write_bytes(b"x" * left.pop())
        return found

    monkeypatch.setattr(BootReader, "take", while_written)
    monkeypatch.setattr(taking, "PAUSE", 0.0)
    _, taken = take_inventory(host)
    assert not left
    assert changed_since(host, taken.state) is None


def test_what_a_link_leads_to_is_not_compared(host: Root) -> None:
    """Root sees the kernel behind a link of SUSE's, the agent does not; another link both see."""
    kernel = Path(host.locate("usr/lib/modules/6.4.0-default/vmlinuz"))
    kernel.parent.mkdir(parents=True)
    kernel.write_bytes(b"kernel")
    link = Path(host.locate("boot/vmlinuz-6.4.0-default"))
    link.symlink_to("../usr/lib/modules/6.4.0-default/vmlinuz")
    state = state_of_files(host)
    shutil.rmtree(host.locate("usr/lib/modules"))
    del state["usr/lib/modules"]
    assert changed_since(host, state) is None
    link.unlink()
    link.symlink_to("../usr/lib/modules/6.4.9-default/vmlinuz")
    assert changed_since(host, state) == "boot"
