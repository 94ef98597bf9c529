# SPDX-License-Identifier: Apache-2.0
"""The agent, started as root by hand: what it is then, what it holds, and whose its state is."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tdx_headroom.service.users import DYNAMIC, OWN, SHARED
from tests.integration.agent import Running, agent
from tests.integration.recorded import record

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.root("has something to give up")
HOST = Path(__file__).parents[1] / "hosts" / "good-2-node"
AS_ROOT = ["env"]
"""Some command before it: the helper would keep root otherwise, for tests whose folders are root's alone."""


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder of root's that others can get to, which pytest's own is not, with a captured host in it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        shutil.copytree(HOST, folder / "host")
        yield folder


def uid(running: Running) -> int:
    """The user id of the agent: real, effective and saved are the same."""
    status = Path(f"/proc/{running.process.pid}/status").read_text()
    ids = set(status.partition("\nUid:\t")[2].partition("\n")[0].split())
    assert len(ids) == 1
    return int(ids.pop())


def arguments(place: Path) -> list[str]:
    return ["--path.rootfs", str(place / "host"), "--state-directory", str(place / "state")]


def owner(path: Path) -> int:
    return path.lstat().st_uid


def test_two_agents_at_once(place: Path) -> None:
    """Neither is nobody, nor may one touch the other's files; the state stays with the one that has it."""
    with agent(*arguments(place), before=AS_ROOT) as first:
        with agent(*arguments(place), before=AS_ROOT) as second:
            assert SHARED not in (uid(first), uid(second))
            if uid(first) in DYNAMIC:
                assert uid(first) != uid(second)
            second.wait_for("another agent keeps its state there")
            assert second.value("tdx_headroom_state_write_success") == 0
            assert second.value("tdx_memory_regions") is not None
        assert first.value("tdx_headroom_state_write_success") == 1
        assert owner(place / "state") == owner(place / "state" / "state.json") == uid(first)
    record("second agent with the same state folder", "says so, keeps no state, leaves the first one's alone")


def test_from_start_to_start(place: Path) -> None:
    """What was learnt is there after a restart, though the user may be another one; so it is after root's."""
    (place / "state").mkdir()
    with agent(*arguments(place), "--user", "root"):
        pass
    for _ in range(3):
        with agent(*arguments(place), before=AS_ROOT) as running:
            assert running.value("tdx_headroom_state_write_success") == 1
            assert not any("level=error" in line for line in running.log)
            assert {owner(path) for path in (place / "state").iterdir()} == {uid(running)}
    assert [path.name for path in (place / "state").iterdir()] == ["state.json"]


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_state_that_nobody_has_left(mode: int, place: Path) -> None:
    """Its folder is taken over. It is not believed: any process of nobody could have written it."""
    (place / "state").mkdir()
    with agent(*arguments(place), "--user", "root"):
        pass
    state = place / "state" / "state.json"
    for path in (state, state.parent):
        os.chown(path, SHARED, SHARED)
    state.chmod(mode)
    with agent(*arguments(place), before=AS_ROOT) as running:
        assert running.value("tdx_headroom_state_write_success") == 1
        running.wait_for("the state kept before cannot be used")
        assert owner(state.parent) == owner(state) == uid(running)
    assert owner(state.with_name("state.json.corrupt")) == SHARED
    record(
        "state folder of `nobody`, from an older agent (started as root)",
        "takes the folder over, sets the state aside: others could have written it",
        "not needed",
    )


def test_links_of_an_earlier_owner(place: Path) -> None:
    """Links in the folder of a hostile user lead nowhere: no file of root's is read or given away."""
    secret = place / "secret"
    secret.write_text(json.dumps({"schema": "tdx-headroom/state/1"}))
    secret.chmod(0o600)
    folder = place / "state"
    folder.mkdir()
    (folder / "state.json").symlink_to(secret)
    os.link(secret, folder / "state.json.corrupt")
    os.chown(folder, 1234, 1234)
    before = secret.stat()
    with agent(*arguments(place), before=AS_ROOT) as running:
        assert running.value("tdx_headroom_state_write_success") == 1
        assert owner(folder / "state.json") == uid(running)
    after = secret.stat()
    assert (after.st_uid, after.st_mode, after.st_mtime_ns) == (0, before.st_mode, before.st_mtime_ns)
    record(
        "links to files of root's in the state folder (started as root)",
        "follows none, gives no file away, sets them aside",
        "not needed",
    )


def test_a_folder_that_is_not_the_states(place: Path) -> None:
    """`--state-directory /var/lib`: it stays root's, and the agent says why it keeps nothing."""
    (place / "state").mkdir()
    (place / "state" / "dpkg").touch()
    with agent(*arguments(place), before=AS_ROOT) as running:
        running.wait_for("so is not the agent's alone")
        assert running.value("tdx_headroom_state_write_success") == 0
    assert owner(place / "state") == 0
    record(
        "folder of something else as state folder (started as root)",
        "leaves it as it is, says that the state cannot be kept, serves on",
    )


def test_what_root_had_open(place: Path) -> None:
    """Descriptors, standard input, variables and the current folder of who started it are left behind."""
    secret = place / "secret"
    secret.write_text("secret")
    secret.chmod(0o600)
    folder = place / "roots" / "own"
    folder.mkdir(parents=True)
    folder.parent.chmod(0o700)
    opened = f"exec 7<>{secret} 12<{place} 200<{secret} <{secret}"
    script = f'cd {folder}; {opened}; export TOKEN=s3cret; exec "$@"'
    with agent(command="demo", before=["bash", "-c", script, "bash"]) as running:
        process = Path(f"/proc/{running.process.pid}")
        held = {path.name: str(path.readlink()) for path in (process / "fd").iterdir()}
        assert not {number: path for number, path in held.items() if path.startswith(str(place))}
        assert held["0"] == "/dev/null"
        assert (process / "cwd").readlink() == Path("/")
        assert b"TOKEN" not in (process / "environ").read_bytes()
        assert b"s3cret" not in (process / "environ").read_bytes()
        assert uid(running) not in (0, SHARED)
        running.process.send_signal(signal.SIGHUP)
        assert running.get("/-/ready")[0] == 200
    record(
        "descriptors, variables and current folder of root's that started it",
        "closes and forgets them before it gives up root",
        "not needed",
    )


@pytest.mark.parametrize("name", ["nobody", str(SHARED)])
def test_nobody_on_request(name: str) -> None:
    """Who asks for it gets it, as with root, and a warning."""
    with agent("--user", name, command="demo") as running:
        assert uid(running) == SHARED
        running.wait_for("this user is not the agent's own")


def test_a_number_on_request() -> None:
    """A number that no user has, as an image or a manifest fixes it."""
    with agent("--user", "61110", command="demo") as running:
        assert uid(running) == 61110
        assert not any("not the agent's own" in line for line in running.log)


def test_its_own_user_has_no_warning() -> None:
    """By default nothing is said but which user it is."""
    with agent(command="demo") as running:
        said = running.wait_for("privileges dropped")
        assert f"user={OWN}" in said or int(said.rpartition("user=")[2]) in DYNAMIC
        assert not any("level=warning" in line and "user" in line for line in running.log)
