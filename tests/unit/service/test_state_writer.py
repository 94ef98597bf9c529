# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tdx_headroom.service.state import BootState, State
from tdx_headroom.service.state_file import StateFile
from tdx_headroom.service.state_writer import GAP, URGENT_GAP, StateWriter

if TYPE_CHECKING:
    from pathlib import Path


class Clock:
    """Goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def state(number: int) -> State:
    return State(BootState("boot", last_seq=number))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def writer(tmp_path: Path, clock: Clock) -> StateWriter:
    return StateWriter(StateFile(str(tmp_path)), clock)


def kept(tmp_path: Path) -> int | None:
    current = StateFile(str(tmp_path)).load()[0].current
    return current.last_seq if current is not None else None


def flood(writer: StateWriter, clock: Clock, path: Path, *, urgent: bool) -> int:
    """How often the file is written while the state changes twenty times a second for a minute."""
    seen = set()
    for number in range(1200):
        writer.keep(state(number), urgent=urgent)
        if writer.seconds_left == 0:
            writer.write()
        seen.add((path / "state.json").stat().st_ino)
        # Not used again by the next file while this link is there.
        (path / f"{len(seen)}").unlink(missing_ok=True)
        (path / f"{len(seen)}").hardlink_to(path / "state.json")
        clock.now += 0.05
    return len(seen)


def test_a_flood_is_written_now_and_then(writer: StateWriter, clock: Clock, tmp_path: Path) -> None:
    """However fast the state changes, it is written once in so many seconds, and the newest in the end."""
    assert flood(writer, clock, tmp_path, urgent=False) <= 60 / GAP + 1
    assert writer.seconds_left is not None
    assert 0 < writer.seconds_left <= GAP
    writer.write()
    assert kept(tmp_path) == 1199
    assert writer.seconds_left is None


def test_a_flood_of_verdicts(writer: StateWriter, clock: Clock, tmp_path: Path) -> None:
    """A verdict that changes all the time is no way around it."""
    assert flood(writer, clock, tmp_path, urgent=True) <= 60 / URGENT_GAP + 1


def test_the_first_and_the_rare_are_written_at_once(
    writer: StateWriter, clock: Clock, tmp_path: Path
) -> None:
    """What changes rarely is on disk when keep() returns."""
    for number in (1, 2, 3):
        writer.keep(state(number))
        assert kept(tmp_path) == number
        clock.now += GAP


def test_what_matters_does_not_wait_for_what_does_not(
    writer: StateWriter, clock: Clock, tmp_path: Path
) -> None:
    """A change of the verdict takes along what waits; what comes later does not push it back again."""
    writer.keep(state(1))
    writer.keep(state(2))
    assert writer.seconds_left == GAP
    writer.keep(state(3), urgent=True)
    writer.keep(state(4))
    assert writer.seconds_left == URGENT_GAP
    clock.now += URGENT_GAP
    writer.keep(state(5))
    assert kept(tmp_path) == 5


@pytest.mark.parametrize("what", ["deleted", "changed", "replaced", "made a link", "folder made anew"])
def test_a_file_that_somebody_else_has_touched(
    what: str, writer: StateWriter, clock: Clock, tmp_path: Path
) -> None:
    """It is written again at the next look, though the state is the same."""
    path = tmp_path / "state.json"
    writer.keep(state(1))
    writer.keep(state(1))
    assert writer.seconds_left is None
    if what == "deleted":
        path.unlink()
    elif what == "changed":
        path.write_text("{}")
    elif what == "replaced":
        (tmp_path / "other").write_bytes(path.read_bytes())
        (tmp_path / "other").replace(path)
    elif what == "made a link":
        path.rename(tmp_path / "other")
        path.symlink_to("other")
    else:
        path.unlink()
        tmp_path.rmdir()
        writer.keep(state(1))
        clock.now += URGENT_GAP
        writer.write()
        assert writer.success is False
        tmp_path.mkdir()
    clock.now += URGENT_GAP
    writer.keep(state(1))
    if what == "folder made anew":
        clock.now += GAP
        writer.write()
    assert writer.success is True
    assert kept(tmp_path) == 1
    assert not path.is_symlink()


def test_what_cannot_be_written_is_tried_again(tmp_path: Path, clock: Clock) -> None:
    """An error is no end, and is not tried twenty times a second either."""
    writer = StateWriter(StateFile(str(tmp_path / "later")), clock)
    writer.keep(state(1))
    assert writer.success is False
    writer.keep(state(1))
    assert writer.seconds_left == GAP
    (tmp_path / "later").mkdir()
    clock.now += GAP
    writer.keep(state(1))
    assert writer.success is True
