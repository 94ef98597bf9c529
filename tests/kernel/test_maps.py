# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernel.boot import read_frames
from tests.kernel.families import FAMILIES
from tests.kernel.guestmap import GIB, KERNEL_END, LOW_TAIL, MIB
from tests.kernel.initramfs import pack
from tests.kernel.maps import DECK, generate
from tests.kernel.pieces import amount, piece
from tests.kernel.tools import KernelTestError
from tests.kernel.truth import read_truth, split_log

CHECKOUT = Path(__file__).resolve().parents[2]
COMMAND_LINE_SIZE = 2048
"""What an x86 kernel takes; more is cut off silently."""


@pytest.mark.parametrize("seed", [1, 2, 77])
def test_the_same_seed_gives_the_same_maps(seed: int) -> None:
    maps = generate(seed, 150)
    assert maps == generate(seed, 150)
    assert maps[:60] == generate(seed, 60)
    assert maps != generate(seed + 1, 150)


def test_a_deck_has_every_family() -> None:
    assert {guest.family for guest in generate(3, DECK)} == set(FAMILIES)


@pytest.mark.parametrize("seed", range(1, 6))
def test_a_map_can_boot(seed: int) -> None:
    """The command line is not cut off, sizes are what QEMU takes, no hole hits the kernel."""
    for guest in generate(seed, 200):
        assert len(guest.command_line) < COMMAND_LINE_SIZE - 200
        assert 512 * MIB <= guest.memory <= 384 * GIB
        assert guest.memory % MIB == 0
        assert not guest.nodes or sum(guest.nodes) == guest.memory
        assert guest.low_end - LOW_TAIL > KERNEL_END


def test_amounts_are_exact() -> None:
    assert [amount(n) for n in (0, 1, 1024, 3 * MIB, 5 * GIB, GIB + 1)] == [
        "0x0",
        "0x1",
        "1K",
        "3M",
        "5G",
        "0x40000001",
    ]
    assert piece("$", 4 * GIB, 64 * 1024) == "memmap=64K$4G"


def test_the_standin_leaves_no_trace_in_the_log() -> None:
    kmsg = (
        "6,10,5,-;virt/tdx: one\n"
        "6,11,6,-;tdx-standin: limits max_tdmrs 64\n"
        " SUBSYSTEM=x\n"
        "6,12,7,-;two\n SUBSYSTEM=y\n"
    )
    log, taken = split_log(kmsg)
    assert log == "6,10,5,-;virt/tdx: one\n6,11,7,-;two\n SUBSYSTEM=y\n"
    assert taken == ["limits max_tdmrs 64"]


def test_a_line_of_the_standin_that_is_not_known_is_an_error() -> None:
    with pytest.raises(KernelTestError, match="wrote 'something'"):
        read_truth("", ["something"])
    with pytest.raises(KernelTestError, match="no line of the stand-in"):
        read_truth("", [])


def test_a_dump_is_read_to_its_last_byte() -> None:
    dump = read_frames(b"FILE a/b 4\nx\ny\nLINK c ../d\nEND\n")
    assert dump.files == {"a/b": b"x\ny\n"}
    assert dump.links == {"c": "../d"}
    with pytest.raises(KernelTestError, match="ends inside a/b"):
        read_frames(b"FILE a/b 400\nx\ny\nEND\n")


def test_the_archive_is_what_the_kernel_unpacks() -> None:
    data = pack(b"program")
    assert data.startswith(b"070701")
    assert len(data) % 4 == 0
    assert data.count(b"070701") == 5
    assert data.rstrip(b"\0").endswith(b"TRAILER!!!")


def test_a_machine_that_lacks_something_is_told_so_in_one_line(tmp_path: Path) -> None:
    """No QEMU, no compiler, nothing on the PATH."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.kernel", "--maps", "1", "--no-install"],
        cwd=CHECKOUT,
        env={**os.environ, "PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 69
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "qemu-system-x86" in done.stderr
