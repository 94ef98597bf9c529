# SPDX-License-Identifier: Apache-2.0
"""Hosts that boot another copy of their system next, which their boot loader's files do not show."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.tools.staged import staged_host
from tests.unit.boots.test_inventory import assessed, packed

from tdx_headroom.boots.watched import changed_since, state_of_files
from tdx_headroom.hostfs.root import Root
from tdx_headroom.verdict.model import State

if TYPE_CHECKING:
    from pathlib import Path

GOOD = "6.14.0-1009-intel"


@pytest.mark.parametrize(
    ("names", "known"),
    [
        ([], True),
        (["booted"], True),
        (["staged-deployment"], False),
        (["staged-deployment", "staged-deployment-locked"], True),
    ],
)
def test_a_deployment_of_ostree(names: list[str], known: bool, tmp_path: Path) -> None:  # noqa: FBT001
    """A staged one gets its entry at the shutdown; the entries that are there are listed all the same."""
    folder = staged_host(tmp_path / "host", GOOD)
    (folder / "run/ostree").mkdir(parents=True)
    for name in names:
        (folder / "run/ostree" / name).write_bytes(b"\0\1")
    for files in (Root(folder), packed(folder)):
        assessment = assessed(files)
        assert assessment.next_boot is (State.WILL_INITIALIZE if known else None)
        assert GOOD in [boot.entry.release for boot in assessment.boots or ()]
        assert known or str(assessment.boots_unknown).startswith("run/ostree/staged-deployment: ")


def test_a_deployment_is_noticed(tmp_path: Path) -> None:
    """What root has written down does not count any more when one is staged."""
    (tmp_path / "run/ostree").mkdir(parents=True)
    before = state_of_files(Root(tmp_path))
    (tmp_path / "run/ostree/staged-deployment").write_bytes(b"x")
    assert changed_since(Root(tmp_path), before) == "run/ostree"


ROOT = "22 1 0:20 /@/.snapshots/2/snapshot / ro,relatime shared:1 - btrfs /dev/sda3 rw,subvolid=270\n"
SNAPSHOTS = "23 22 0:20 /@/.snapshots /.snapshots rw,relatime shared:2 - btrfs /dev/sda3 rw,subvolid=266\n"
BOOT = "24 22 259:2 / /boot rw,relatime shared:3 - ext4 /dev/sda2 rw\n"
SUBVOLUME = "25 22 0:20 /@/boot/grub2/i386-pc /boot/grub2/i386-pc rw - btrfs /dev/sda3 rw\n"


def info(kind: str = "single", description: str = "", cleanup: str = "") -> str:
    rest = f"<cleanup>{cleanup}</cleanup>" if cleanup else ""
    return f"<snapshot><type>{kind}</type><description>{description}</description>{rest}</snapshot>\n"


@pytest.mark.parametrize(
    ("mounts", "number", "made", "known"),
    [
        (ROOT + SNAPSHOTS, 3, info(description="Snapshot Update of #2", cleanup="number"), False),
        (ROOT + SNAPSHOTS + SUBVOLUME, 3, info(description="writable copy of #1"), False),
        (ROOT + SNAPSHOTS, 3, info(), False),
        (ROOT + SNAPSHOTS, 3, None, False),
        # Older than the running one, or no root.
        (ROOT + SNAPSHOTS, 1, info(description="writable copy of #1"), True),
        (ROOT + SNAPSHOTS, None, None, True),
        # Of zypper, of an installation, of a timer, of a rollback's other half.
        (ROOT + SNAPSHOTS, 3, info("pre", "zypp(zypper)", "number"), True),
        (ROOT + SNAPSHOTS, 3, info("post", "", "number"), True),
        (ROOT + SNAPSHOTS, 3, info(description="after installation", cleanup="number"), True),
        (ROOT + SNAPSHOTS, 3, info(description="timeline", cleanup="timeline"), True),
        (ROOT + SNAPSHOTS, 3, info(description="rollback backup of #2", cleanup="number"), True),
        # GRUB does not read a snapshot there.
        (ROOT + SNAPSHOTS + BOOT, 3, info(description="writable copy of #1"), True),
        (ROOT.replace("/@/.snapshots/2/snapshot", "/@"), 3, info(description="writable copy of #1"), True),
        (None, 3, info(description="writable copy of #1"), True),
    ],
)
def test_a_younger_snapshot(
    mounts: str | None,
    number: int | None,
    made: str | None,
    known: bool,  # noqa: FBT001
    tmp_path: Path,
) -> None:
    """One that was made to be booted may be the default subvolume, whose menu GRUB shows."""
    folder = staged_host(tmp_path / "host", GOOD)
    if mounts is not None:
        (folder / "proc/self").mkdir(parents=True, exist_ok=True)
        (folder / "proc/self/mountinfo").write_text(mounts)
    (folder / ".snapshots/2/snapshot").mkdir(parents=True)
    if number is not None:
        (folder / f".snapshots/{number}/snapshot/boot/grub2").mkdir(parents=True)
        (folder / f".snapshots/{number}/snapshot/boot/grub2/grub.cfg").write_text("# another\n")
    if number is not None and made is not None:
        (folder / f".snapshots/{number}/info.xml").write_text(made)
    for files in (Root(folder), packed(folder)):
        assessment = assessed(files)
        assert assessment.next_boot is (State.WILL_INITIALIZE if known else None)
        assert known or str(assessment.boots_unknown).startswith(".snapshots/3/snapshot: ")
