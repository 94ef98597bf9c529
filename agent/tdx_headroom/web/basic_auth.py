# SPDX-License-Identifier: Apache-2.0
"""Basic authentication against bcrypt hashes: off the loop, failures in constant time."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import math
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import bcrypt

from tdx_headroom import log
from tdx_headroom.web.settings import Limits

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from concurrent.futures import Executor

MAX_PASSWORD = 72
"""bcrypt looks at no more bytes; a longer password is never right, rather than right by its beginning."""

AUTH_SECONDS = Limits().auth_seconds
CHEAP_COST = 11
"""A check of this cost takes a second on a slow machine: no need to measure."""

MEASURED_COST = 6
"""Of which a check takes some milliseconds. One more doubles it."""

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


class VerifiedUsers:
    """Who has given the right password.

    What is remembered is one keyed hash for each user, of parts that each have their length before them, so
    no other user and password can stand for the same (the fault of CVE-2022-46146). The bcrypt hash is one of
    them: a proof holds for as long as that stays, whatever else changes in the configuration.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._digests: dict[bytes, bytes] = {}

    def has(self, given: Credentials, hashed: bytes | None) -> bool:
        """Whether the same have been found right against this bcrypt hash."""
        proved = self._digests.get(given.user)
        if proved is None or hashed is None:
            return False
        return hmac.compare_digest(proved, self._digest(given, hashed))

    def add(self, given: Credentials, hashed: bytes) -> None:
        """They are right."""
        self._digests[given.user] = self._digest(given, hashed)

    def _digest(self, given: Credentials, hashed: bytes) -> bytes:
        parts = (given.user, given.password, hashed)
        text = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
        return hashlib.blake2b(text, key=self._key).digest()


class Authenticator:
    """Checks credentials.

    Who has given the right password once is recognized without bcrypt from then on: a scraper gets past
    those who make the worker compute.

    Args:
        users: names and bcrypt hashes.
        worker: to compute in; with one thread.
        verified: where to remember who is right.
        max_wait: seconds that a request may wait for its turn; hashes that take longer to check are logged.
    """

    def __init__(
        self,
        users: Iterable[tuple[bytes, bytes]],
        worker: Executor,
        verified: VerifiedUsers,
        max_wait: float = AUTH_SECONDS,
    ) -> None:
        self._hashes = dict(users)
        self._costs = {user: _cost(hashed) for user, hashed in self._hashes.items()}
        self._highest = max(self._costs.values())
        self._verified = verified
        self._worker = worker
        _warn_of_costs(self._costs, max_wait)

    def recognizes(self, given: Credentials) -> bool:
        """Whether the same have been found right before."""
        return self._verified.has(given, self._hashes.get(given.user))

    async def check(self, given: Credentials) -> bool:
        """Whether user and password are right; takes long. Checks are to come one after the other."""
        if self.recognizes(given):  # proved by a request that waited before this one
            return True
        right = await asyncio.get_running_loop().run_in_executor(self._worker, self._compute, given)
        if right:
            self._verified.add(given, self._hashes[given.user])
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


def _warn_of_costs(costs: Mapping[bytes, int], max_wait: float) -> None:
    """Name the users whose hash takes longer to check than a request may wait for its turn.

    Beside somebody who guesses, with whatever user's name, nobody who is not known yet would have a turn.
    """
    if max(costs.values()) <= CHEAP_COST:
        return
    unit = min(_cpu_seconds(MEASURED_COST) for _ in range(3)) / 2**MEASURED_COST
    for user, cost in costs.items():
        if (seconds := unit * 2**cost) > max_wait:
            usable = max(4, int(math.log2(max_wait / unit)))
            log.get().warning(
                "checking a password takes longer than a request may wait",
                user=user.decode(errors="backslashreplace"),
                cost=cost,
                seconds=round(seconds, 1),
                wait=max_wait,
                hint=f"make a hash of cost {usable} or less: htpasswd -nBC {min(usable, 10)} USER",
            )


def _cpu_seconds(cost: int) -> float:
    """What a check takes where nothing else runs."""
    began = time.thread_time()
    _matches(b"", _dummy(cost))
    return time.thread_time() - began
