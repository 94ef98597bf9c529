# SPDX-License-Identifier: Apache-2.0
"""A real agent that is told by root what boots next."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tdx_headroom.facts.boot_inventory import INVENTORY_PATH
from tdx_headroom.hostfs.root import Root
from tdx_headroom.sources.platform import read_boot_id
from tests.integration.agent import Running, agent
from tests.tools.images import put_image

if TYPE_CHECKING:
    from collections.abc import Iterator

TESTS = Path(__file__).resolve().parents[1]
GOOD = "6.8.0-1008-intel"
SLOW = ("--refresh-interval", "1h")
"""The timer has no hand in what these tests see."""

pytestmark = pytest.mark.root("is whom the inventory must belong to")


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """This host, as it is seen from a container, with a kernel staged that has no TDX."""
    folder = tmp_path / "host"
    shutil.copytree(TESTS / "hosts/good-2-node", folder, symlinks=True)
    shutil.copytree(TESTS / "boots/debian-one", folder, symlinks=True, dirs_exist_ok=True)
    boot_id = folder / "proc/sys/kernel/random/boot_id"
    boot_id.parent.mkdir(parents=True, exist_ok=True)
    boot_id.write_text(f"{read_boot_id(Root('/'))}\n")
    (folder / INVENTORY_PATH).parent.mkdir(parents=True)
    take(folder)
    return folder


def take(folder: Path) -> None:
    command = [sys.executable, "-m", "tdx_headroom", "take-boots", "--path.rootfs", str(folder)]
    subprocess.run([*command, "--output", str(folder / INVENTORY_PATH)], check=True)


@pytest.fixture
def running(host: Path) -> Iterator[Running]:
    with agent("--path.rootfs", str(host), *SLOW) as found:
        yield found


def test_a_new_inventory_wakes_the_agent(host: Path, running: Running) -> None:
    """What boots next is in the metrics as soon as root has written it down: no timer has to run out."""
    assert running.value("tdx_next_boot", verdict="will-fail") == 1
    assert running.value("tdx_next_boot_pending") == 1
    config = host / "boot/grub/grub.cfg"
    config.write_text(
        "menuentry good --id good {\n  linux /boot/vmlinuz-6.8.0-1008-intel kvm_intel.tdx=1 nohibernate\n}\n"
    )
    put_image(host, "6.8.0-1008-intel")
    take(host)
    running.wait_for(f'msg="next boot" verdict=will-initialize kernel_release={GOOD} entry=good')
    assert running.value("tdx_staged_boot", verdict="will-fail") == 0
    assert running.value("tdx_boot_verdict", kernel_release=GOOD, verdict="will-initialize") == 1


def test_a_forged_inventory_is_named_and_not_believed(host: Path, running: Running) -> None:
    """Another user's file says nothing about the next boot, and the page says why."""
    forged = host / INVENTORY_PATH
    replacement = forged.with_name(".forged")
    replacement.write_bytes(forged.read_bytes())
    shutil.chown(replacement, 12345)
    replacement.rename(forged)
    line = running.wait_for('msg="next boot" verdict=cannot-tell')
    assert "it belongs to user 12345, so that it cannot be believed" in line
    assert running.value("tdx_next_boot", verdict="cannot-tell") == 1
    assert running.value("tdx_next_boot_pending") is None
    assert "it belongs to user 12345" in running.get("/")[2]
    take(host)
    running.wait_for('msg="next boot" verdict=will-fail')


def test_the_textfile_has_them_too(host: Path) -> None:
    """A one shot for node_exporter reads the same inventory."""
    command = [sys.executable, "-m", "tdx_headroom", "textfile", "--output", "-", "--path.rootfs", str(host)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert 'tdx_staged_boot{verdict="will-fail"} 1.0' in text
    assert 'tdx_next_boot_info{kernel_release="6.12.0-1-amd64"' in text
