# SPDX-License-Identifier: Apache-2.0
"""Basic authentication against bcrypt hashes: one at a time, off the loop, failures in constant time."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

import bcrypt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Executor

MAX_PASSWORD = 72
"""bcrypt looks at no more bytes; a longer password is never right, rather than right by its beginning."""

_DIGEST = b"." * 53


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client gives."""

    user: bytes
    password: bytes


def read_credentials(header: str) -> Credentials | None:
    """The credentials in an Authorization header; None: there are none."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return None
    return Credentials(user, password) if colon else None


class Authenticator:
    """Checks credentials.

    Who has given the right password once is recognized without bcrypt from then on: a scraper gets past
    those who make the worker compute. What is remembered is one keyed hash for each user, of parts that
    each have their length before them, so no other user and password can stand for the same (the fault
    of CVE-2022-46146).

    Args:
        users: names and bcrypt hashes.
        worker: to compute in; with one thread.
    """

    def __init__(self, users: Iterable[tuple[bytes, bytes]], worker: Executor) -> None:
        self._hashes = dict(users)
        self._costs = {user: _cost(hashed) for user, hashed in self._hashes.items()}
        self._highest = max(self._costs.values())
        self._key = secrets.token_bytes(32)
        self._proved: dict[bytes, bytes] = {}
        self._turn = asyncio.Lock()
        self._worker = worker

    def recognizes(self, given: Credentials) -> bool:
        """Whether the same have been found right before."""
        proved = self._proved.get(given.user)
        return proved is not None and hmac.compare_digest(proved, self._digest(given))

    async def check(self, given: Credentials, wanted: Callable[[], bool], seconds: float) -> bool | None:
        """Whether user and password are right; None: nobody knows, since it was not looked at.

        Args:
            given: what the client gives.
            wanted: whether somebody still waits for the answer; asked when its turn has come.
            seconds: to wait for the turn.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._turn.acquire()
        except TimeoutError:
            return None
        try:
            if not wanted():
                return None
            if self.recognizes(given):  # proved by a request that waited before this one
                return True
            loop = asyncio.get_running_loop()
            right = await loop.run_in_executor(self._worker, self._compute, given)
        finally:
            self._turn.release()
        if right:
            self._proved[given.user] = self._digest(given)
        return right

    def _compute(self, given: Credentials) -> bool:
        """In the worker: a failure costs the same for every user, known or not.

        A failed check at cost c (2^c rounds) is followed by checks at costs c, c + 1, ... up to below the
        highest of all users; together that is as much as one check at the highest.
        """
        hashed = self._hashes.get(given.user)
        if hashed is None:
            _matches(given.password, _dummy(self._highest))
            return False
        right = _matches(given.password, hashed)
        if not right:
            for cost in range(self._costs[given.user], self._highest):
                _matches(given.password, _dummy(cost))
        return right

    def _digest(self, given: Credentials) -> bytes:
        parts = (given.user, given.password, self._hashes.get(given.user, b""))
        text = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
        return hashlib.blake2b(text, key=self._key).digest()


def _matches(password: bytes, hashed: bytes) -> bool:
    usable = len(password) <= MAX_PASSWORD and b"\0" not in password
    try:
        # Computed in any case: how long it takes must not tell why it failed.
        return bcrypt.checkpw(password if usable else b"unusable", hashed) and usable
    except ValueError:
        return False


def _dummy(cost: int) -> bytes:
    return b"$2b$%02d$" % cost + _DIGEST


def _cost(hashed: bytes) -> int:
    return int(hashed[4:6])
