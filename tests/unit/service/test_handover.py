# SPDX-License-Identifier: Apache-2.0
"""Root gives the state's folder away, and nothing else, whatever lies there."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tdx_headroom.service.handover import hand_over
from tdx_headroom.service.state import BootState, State
from tdx_headroom.service.state_file import FolderLock, StateFile
from tdx_headroom.service.users import SHARED, User

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.root("can give files away")
UID = 61300
USER = User("61300", UID, UID, (UID,))
STATE = State(BootState("b", map_digest="d"))


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder of root's that others can get to, which pytest's own is not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def owned(path: Path, uid: int) -> Path:
    os.chown(path, uid, uid, follow_symlinks=False)
    return path


def folder_of(place: Path, uid: int) -> Path:
    """A state's folder, with a state, of this user."""
    folder = place / "state"
    folder.mkdir(mode=0o700)
    StateFile(str(folder)).save(STATE)
    owned(folder / "state.json", uid)
    return owned(folder, uid)


def owner(path: Path) -> int:
    return path.lstat().st_uid


def read_as_user(folder: Path) -> tuple[State, str | None]:
    """What an agent of the user makes of it."""
    os.seteuid(UID)
    try:
        return StateFile(str(folder)).load()
    finally:
        os.seteuid(0)


def test_a_folder_is_made(place: Path) -> None:
    """A folder that is not there is made, for the user alone."""
    hand_over(str(place / "state"), USER)
    assert (owner(place / "state"), (place / "state").stat().st_mode & 0o777) == (UID, 0o700)


@pytest.mark.parametrize("before", [0, 61400, UID])
def test_what_an_agent_has_learnt_is_taken_along(before: int, place: Path) -> None:
    """A state of root's, or of a number that an earlier agent had, is the new one's."""
    folder = folder_of(place, before)
    hand_over(str(folder), USER)
    assert read_as_user(folder) == (STATE, None)
    assert {owner(path) for path in (folder, *folder.iterdir())} == {UID}


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_what_anybody_may_have_written_is_not_believed(mode: int, place: Path) -> None:
    """The state of an agent that was nobody: every other process of nobody could have written it."""
    folder = folder_of(place, SHARED)
    (folder / "state.json").chmod(mode)
    hand_over(str(folder), USER)
    assert owner(folder) == UID
    state, problem = read_as_user(folder)
    assert state == State()
    assert problem is not None
    assert "set aside" in problem
    assert owner(folder / "state.json.corrupt") == SHARED


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks(number: int, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps the state for whoever hands the folder over as for the agent that it is handed to."""

    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    folder = folder_of(place, 61400)
    hand_over(str(folder), USER)
    assert (owner(folder), owner(folder / "state.json")) == (UID, UID)
    lock = FolderLock(str(folder))
    lock.take()
    lock.release()
    assert read_as_user(folder) == (STATE, None)


def test_who_had_it_has_nothing_of_it_left(place: Path) -> None:
    """A descriptor that the earlier owner keeps open leads to no file of the new one."""
    folder = folder_of(place, 61400)
    with (folder / "state.json").open("r+") as kept:
        hand_over(str(folder), USER)
        kept.write("forged")
    assert read_as_user(folder) == (STATE, None)


@pytest.mark.parametrize("before", [0, 61400, SHARED])
@pytest.mark.parametrize("kind", ["symbolic link", "hard link", "fifo", "folder", "link named as temporary"])
def test_nothing_of_others_is_given_away(kind: str, before: int, place: Path) -> None:
    """Links that the earlier owner has put there lead to nothing that changes hands or is read."""
    secret = place / "secret"
    secret.write_text('{"schema": "tdx-headroom/state/1"}')
    secret.chmod(0o600)
    folder = place / "state"
    folder.mkdir(mode=0o700)
    path = folder / "state.json"
    if kind == "symbolic link":
        path.symlink_to(secret)
    elif kind == "hard link":
        os.link(secret, path)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        for name in (f".state.json.{'0' * 16}", f"state.json.{'0' * 16}"):
            (folder / name).symlink_to(secret)
    owned(folder, before)
    hand_over(str(folder), USER)
    assert owner(folder) == UID
    status = secret.stat()
    assert (status.st_uid, status.st_mode & 0o777) == (0, 0o600)
    state, _ = read_as_user(folder)
    assert state == State()
    assert {owner(entry) for entry in folder.iterdir()} <= {0}


def test_a_folder_of_others_is_not_given_away(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder with anything else in it was named by mistake: /var/lib stays root's."""
    (place / "passwd").touch()
    hand_over(str(place), USER)
    assert owner(place) == 0
    said = capsys.readouterr()
    assert "it holds 'passwd'" in (said.out + said.err).replace("\\", "")


@pytest.mark.parametrize(("content", "after"), [("passwd", 1234), ("state.json", UID)])
def test_by_root_that_may_only_change_owners(content: str, after: int, place: Path) -> None:
    """Root of a container may not look into a folder of another's: it takes it or gives it back."""
    folder = place / "state"
    folder.mkdir()
    (folder / content).touch()
    owned(folder / content, 1234)
    owned(folder, 1234).chmod(0o700)
    program = (
        "from tdx_headroom.service.handover import *; from tdx_headroom.service.users import User\n"
        f"hand_over({str(folder)!r}, User('x', {UID}, {UID}, ()))"
    )
    command = ["setpriv", "--bounding-set=-all,+chown", sys.executable, "-c", program]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    assert (owner(folder), folder.stat().st_mode & 0o777) == (after, 0o700)


@pytest.mark.parametrize("kind", ["link", "file", "root", "parent missing"])
def test_what_is_no_folder(kind: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A link is not followed, a file stays what it is, and each is told."""
    target = place / "target"
    target.mkdir()
    folder = place / "state"
    if kind == "link":
        folder.symlink_to(target)
    elif kind == "file":
        folder.touch()
    elif kind == "root":
        folder = Path("/")
    else:
        folder = place / "missing" / "state"
    hand_over(str(folder), USER)
    assert {owner(path) for path in (target, folder) if os.path.lexists(path)} == {0}
    said = capsys.readouterr()
    assert "cannot be handed over" in said.out + said.err


def test_below_a_folder_of_another(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Who may exchange the folder, or one above it, could have root give away what he likes."""
    above = place / "above"
    (above / "state").mkdir(parents=True)
    for owner_above, mode in ((1234, 0o755), (0, 0o777)):
        owned(above, owner_above).chmod(mode)
        hand_over(str(above / "state"), USER)
        assert owner(above / "state") == 0
        said = capsys.readouterr()
        assert "others may write to" in said.out + said.err
    above.chmod(0o1777)
    hand_over(str(above / "state"), USER)
    assert owner(above / "state") == UID
    assert stat.S_IMODE((above / "state").stat().st_mode) == 0o700


def test_a_folder_in_use_stays_where_it_is(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A second agent does not take the state away from the first."""
    folder = folder_of(place, 61400)
    lock = FolderLock(str(folder))
    lock.take()
    hand_over(str(folder), USER)
    assert owner(folder) == 61400
    said = capsys.readouterr()
    assert "another agent keeps its state there" in said.out + said.err
    lock.release()
    hand_over(str(folder), USER)
    assert owner(folder) == UID


def test_a_folder_that_is_gone_meanwhile(place: Path) -> None:
    """The lock is on the folder that is there now, not on one that was there once."""
    folder = folder_of(place, 0)
    lock = FolderLock(str(folder))
    lock.take()
    shutil.rmtree(folder)
    folder.mkdir()
    second = FolderLock(str(folder))
    second.take()
    with pytest.raises(OSError, match="another agent"):
        lock.take()
    second.release()
    lock.take()
