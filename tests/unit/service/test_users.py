# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import pwd
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tdx_headroom.errors import AgentError
from tdx_headroom.service import users
from tdx_headroom.service.users import DYNAMIC, SHARED, User, find_user

if TYPE_CHECKING:
    from collections.abc import Callable

needs_root = pytest.mark.root("can start a process of another user")


@pytest.fixture
def no_own_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without the package."""
    real = pwd.getpwnam

    def getpwnam(name: str) -> pwd.struct_passwd:
        if name == users.OWN:
            raise KeyError(name)
        return real(name)

    monkeypatch.setattr(pwd, "getpwnam", getpwnam)


@pytest.mark.parametrize("name", ["no-such-user", "", "-1", "4294967295", "٣", "1 ", "a\x00b"])
def test_no_such_user(name: str) -> None:
    """A user that does not exist is one line with a hint, and EX_NOUSER."""
    with pytest.raises(AgentError, match=r"there is no user .* to become") as raised:
        find_user(name)
    assert raised.value.status == os.EX_NOUSER
    assert "\n" not in str(raised.value)


@pytest.mark.usefixtures("no_own_user")
def test_a_number_of_its_own() -> None:
    """Without a user of its own the agent takes a number that is nobody's, and not always the same."""
    found = {find_user().uid for _ in range(8)}
    assert len(found) > 1
    for number in found:
        assert number in DYNAMIC
        with pytest.raises(KeyError):
            pwd.getpwuid(number)
    assert SHARED not in DYNAMIC


@pytest.mark.usefixtures("no_own_user")
@pytest.mark.parametrize(("prefer", "taken"), [(61200, True), (SHARED, False), (0, False), (1000, False)])
def test_the_number_of_an_earlier_start(*, prefer: int, taken: bool) -> None:
    """It is taken again, so that the state need not be handed over, unless it is of another kind."""
    assert (find_user(prefer=prefer).uid == prefer) is taken


@needs_root
@pytest.mark.usefixtures("no_own_user")
@pytest.mark.parametrize(
    "become", ["os.setresuid(*[61200] * 3)", "os.setresgid(*[61200] * 3)", "os.seteuid(61200)"]
)
def test_a_number_that_a_process_has(become: str) -> None:
    """Another process's number is never taken: it could use the agent's socket and write its state."""
    program = f"import os; {become}; print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert find_user(prefer=61200).uid != 61200
        other.communicate(b"\n")


@pytest.mark.usefixtures("no_own_user")
def test_a_number_that_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is one of the user database, also of one that does not list its users; all taken is an error."""
    monkeypatch.setattr(pwd, "getpwuid", lambda _: pwd.struct_passwd(("x", "x", 1, 1, "", "/", "")))
    with pytest.raises(AgentError, match="no user id from 61184 to 65519 is free; make a user tdx-headroom"):
        find_user()


def test_a_number_by_hand() -> None:
    """A number need not be in the user database: images and manifests have one that is fixed."""
    assert find_user("61110") == User("61110", 61110, 61110, (61110,))
    assert find_user("0").name == "root"


@pytest.mark.parametrize(
    ("user", "warned"),
    [
        (lambda: find_user("nobody"), True),
        (lambda: find_user(str(SHARED)), True),
        (lambda: find_user(str(pwd.getpwnam("root").pw_uid)), True),
        (lambda: User("alone", 61201, 61201, ()), False),
        (lambda: User("tdx-headroom", 0, 0, ()), False),
    ],
    ids=["nobody", "its number", "a user with processes", "a user alone", "the agent's own"],
)
def test_a_user_that_is_shared(
    *, user: Callable[[], User], warned: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever names a user that others are, too, gets it, and a warning that says what it costs."""
    users.warn_of_others(user())
    said = capsys.readouterr()
    assert ("not the agent's own" in said.err + said.out) is warned


@pytest.mark.mounts
@pytest.mark.parametrize("name", [None, "61234"])
def test_without_proc(name: str | None) -> None:
    """Nobody can be seen there: a user is found all the same, and one line says what is not known."""
    code = (
        "from tdx_headroom import log; from tdx_headroom.service.users import find_user, warn_of_others; "
        f"log.configure('info', 'logfmt'); user = find_user({name!r}); warn_of_others(user); print(user.uid)"
    )
    command = ["unshare", "-m", "sh", "-c", 'umount -l /proc && exec "$@"', "-", sys.executable, "-c", code]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) in DYNAMIC
    # An old psutil has a word of its own on that.
    lines = [line for line in run.stderr.splitlines() if "level=" in line]
    assert lines
    assert all("in use" in line and "/proc shows no processes" in line for line in lines)
