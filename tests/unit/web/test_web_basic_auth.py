# SPDX-License-Identifier: Apache-2.0
"""Basic authentication."""

from __future__ import annotations

import asyncio
import base64
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import bcrypt
import pytest
from structlog.testing import capture_logs

from tdx_headroom.web.basic_auth import Authenticator, Credentials, VerifiedUsers, read_credentials

if TYPE_CHECKING:
    from collections.abc import Callable


def hashed(password: bytes, cost: int = 4) -> bytes:
    return bcrypt.hashpw(password, bcrypt.gensalt(cost))


def basic(text: bytes) -> str:
    return "Basic " + base64.b64encode(text).decode()


USERS = [(b"alice", hashed(b"right", 5)), (b"bob", hashed(b"Right", 7)), (b"carol", hashed(b"", 4))]


def ask(*attempts: Credentials, users: list[tuple[bytes, bytes]] = USERS) -> list[bool]:
    async def run() -> list[bool]:
        with ThreadPoolExecutor(1) as worker:
            authenticator = Authenticator(users, worker, VerifiedUsers())
            return [await authenticator.check(given) for given in attempts]

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (basic(b"alice:right"), Credentials(b"alice", b"right")),
        ("bAsIc  " + base64.b64encode(b"a:b:c").decode(), Credentials(b"a", b"b:c")),
        (basic(b":"), Credentials(b"", b"")),
        (basic("ä:ö".encode()), Credentials("ä".encode(), "ö".encode())),
        (basic(b"alice"), None),
        ("Basic", None),
        ("Basic !!!!", None),
        ("Basic \xff", None),
        ("Bearer " + base64.b64encode(b"a:b").decode(), None),
        ("", None),
    ],
)
def test_the_header(header: str, expected: Credentials | None) -> None:
    """Credentials are read from a Basic header, whatever the case of the scheme; anything else has none."""
    assert read_credentials(header) == expected


def test_only_the_right_password_is_right() -> None:
    """A user's own password is right; others', none, unknown users and NULs are not."""
    assert ask(
        Credentials(b"alice", b"right"),
        Credentials(b"bob", b"Right"),
        Credentials(b"carol", b""),
        Credentials(b"alice", b"Right"),
        Credentials(b"alice", b""),
        Credentials(b"mallory", b"right"),
        Credentials(b"", b""),
        Credentials(b"alice", b"right\0"),
    ) == [True, True, True, False, False, False, False, False]


def test_php_and_htpasswd_prefixes() -> None:
    """A hash made by htpasswd (2y) is taken as one of bcrypt (2b)."""
    users = [(b"alice", hashed(b"right").replace(b"$2b$", b"$2y$"))]
    assert ask(Credentials(b"alice", b"right"), Credentials(b"alice", b"no"), users=users) == [True, False]


def test_a_long_password_is_not_cut() -> None:
    """Past bcrypt's 72 bytes a password is wrong, rather than right by its first 72."""
    users = [(b"alice", hashed(b"x" * 72)), (b"bob", hashed(b"unusable"))]
    given = [(b"alice", b"x" * 73), (b"alice", b"x" * 72), (b"bob", b"x" * 73)]
    answers = ask(*(Credentials(user, password) for user, password in given), users=users)
    assert answers == [False, True, False]


@pytest.mark.parametrize("user", [b"alice", b"bob", b"carol", b"mallory", b""])
@pytest.mark.parametrize("password", [b"wrong", b"x" * 100, b"a\0b"])
def test_failures_cost_the_same(user: bytes, password: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known or unknown, whatever its hash's cost: every failure takes as many rounds of bcrypt."""
    rounds = []
    check = bcrypt.checkpw

    def counted(given: bytes, against: bytes) -> bool:
        rounds.append(2 ** int(against[4:6]))
        return check(given, against)

    monkeypatch.setattr(bcrypt, "checkpw", counted)
    assert ask(Credentials(user, password)) == [False]
    assert sum(rounds) == 2**7


class TimedWorker(ThreadPoolExecutor):
    """Notes the seconds of processor time that the last piece of work took."""

    seconds = 0.0

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:  # noqa: ANN401  the library's signature
        def timed() -> object:
            began = time.thread_time()
            try:
                return work(*arguments, **named)
            finally:
                self.seconds = time.thread_time() - began

        return super().submit(timed)


def test_failures_take_the_same_time() -> None:
    """By the clock too, of the thread: a known user with a cheap hash is not told from an unknown one."""

    async def seconds(given: Credentials) -> float:
        best = 1.0
        for _ in range(4):
            assert not await authenticator.check(given)
            best = min(best, worker.seconds)
        return best

    async def run() -> list[float]:
        return [await seconds(Credentials(user, b"wrong")) for user in (b"cheap", b"dear", b"unknown")]

    with TimedWorker(1) as worker:
        users = [(b"cheap", hashed(b"x", 4)), (b"dear", hashed(b"x", 9))]
        authenticator = Authenticator(users, worker, VerifiedUsers())
        times = asyncio.run(run())
    assert max(times) < 3 * min(times), times
    assert min(times) > 0


def test_success_is_recognized_and_nothing_else() -> None:
    """After one success the same credentials need no bcrypt; no other split of the same bytes does."""

    async def run() -> None:
        with ThreadPoolExecutor(1) as worker:
            users = [(b"ab", hashed(b"cd")), (b"abc", hashed(b"x"))]
            authenticator = Authenticator(users, worker, VerifiedUsers())
            right = Credentials(b"ab", b"cd")
            assert not authenticator.recognizes(right)
            assert await authenticator.check(right)
            assert authenticator.recognizes(right)
            for user, password in ((b"abc", b"d"), (b"ab", b"cde"), (b"a", b"bcd"), (b"", b"abcd")):
                assert not authenticator.recognizes(Credentials(user, password))
            assert not await authenticator.check(Credentials(b"ab", b"no"))
            assert authenticator.recognizes(right), "a failure of somebody else must not forget it"

    asyncio.run(run())


def test_a_proof_holds_for_its_hash() -> None:
    """When users change, who has the same hash as before stays known; a new hash or none ends that."""

    async def run() -> None:
        with ThreadPoolExecutor(1) as worker:
            verified = VerifiedUsers()
            alice, bob = Credentials(b"alice", b"a"), Credentials(b"bob", b"b")
            users = {b"alice": hashed(b"a"), b"bob": hashed(b"b")}
            before = Authenticator(users.items(), worker, verified)
            assert await before.check(alice)
            assert await before.check(bob)
            changed = {b"alice": users[b"alice"], b"bob": hashed(b"b"), b"carol": hashed(b"c")}
            after = Authenticator(changed.items(), worker, verified)
            assert (after.recognizes(alice), after.recognizes(bob)) == (True, False)
            without = Authenticator({b"bob": changed[b"bob"]}.items(), worker, verified)
            assert not without.recognizes(alice)

    asyncio.run(run())


def test_a_split_of_the_same_bytes_is_no_proof() -> None:
    """Each part of a proof has its length before it: bytes that move from one part to the next void it."""
    verified = VerifiedUsers()
    verified.add(Credentials(b"ab", b"cd"), b"ef")
    assert verified.has(Credentials(b"ab", b"cd"), b"ef")
    for password, against in ((b"cde", b"f"), (b"c", b"def"), (b"cdef", b""), (b"cd", None)):
        assert not verified.has(Credentials(b"ab", password), against)


def test_costs_that_take_too_long_are_named() -> None:
    """A hash that takes longer to check than a request may wait is warned of, with user, cost and advice."""
    users = [(b"cheap", b"$2b$10$" + b"." * 53), (b"fast", b"$2b$12$" + b"." * 53)]
    with ThreadPoolExecutor(1) as worker:
        with capture_logs() as lines:
            Authenticator([*users, ("d\u00e9ar".encode(), b"$2b$31$" + b"." * 53)], worker, VerifiedUsers())
        (line,) = lines
        found = tuple(line[key] for key in ("log_level", "user", "cost", "wait"))
        assert found == ("warning", "d\u00e9ar", 31, 5)
        assert line["seconds"] > 5
        assert "htpasswd" in line["hint"]
        with capture_logs() as lines:
            Authenticator(users[:1], worker, VerifiedUsers())
        assert lines == []
