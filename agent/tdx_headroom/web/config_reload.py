# SPDX-License-Identifier: Apache-2.0
"""The web configuration in force: read at start, and again when a file of it changes.

A change never opens a door: one that would is refused as if it could not be read. A file that is emptied, or
cut short while it is written, is valid and asks for nothing: taken at its word it would let everybody in.
"""

from __future__ import annotations

import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tdx_headroom import log
from tdx_headroom.web.basic_auth import Authenticator, VerifiedUsers
from tdx_headroom.web.config import WebConfig, parse
from tdx_headroom.web.config_yaml import ConfigError, read_file
from tdx_headroom.web.rate_limit import Bucket
from tdx_headroom.web.tls_context import make_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tdx_headroom.web.config_tls import TlsConfig

SETTLE_SECONDS = 1.0
"""A user who is no more in the file is refused when it has not been written to for so long."""

RETRY_SECONDS = 60.0
"""After a change that could not be used; what is in force may expire."""

Signature = tuple[int, ...] | None
"""What tells one version of a file from the next; None: it is not there."""


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A configuration that can be served with.

    Args:
        config: what it was made from.
        context: None: plain HTTP.
        authenticator: None: nobody needs a password.
        bucket: what the rate limit has left; None: there is none.
    """

    config: WebConfig
    context: ssl.SSLContext | None = None
    authenticator: Authenticator | None = None
    bucket: Bucket | None = None


class ConfigWatch:
    """Keeps the configuration up to date without a restart.

    A change is noticed by looking at the files' times and inodes when a client comes: that takes a few
    microseconds, and a certificate that was replaced is in use from the next connection on.

    Args:
        path: of the configuration file.
        clock: seconds.

    Raises:
        AgentError: it cannot be used.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._again_at = math.inf
        self._unreported = False
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="bcrypt")
        self._verified = VerifiedUsers()
        self._seen: dict[Path, Signature] = {}
        self.failures = 0
        self.failing = False
        try:
            self._loaded = self._prepare(self._read(), None)
        except ConfigError as error:
            raise self._named(error) from None
        if self._loaded.config == WebConfig():
            log.get().warning("web configuration asks for nothing: neither TLS nor passwords", file=str(path))

    def current(self) -> LoadedConfig:
        """The configuration in force; after a change that cannot be used it is the one before."""
        changed = any(_signature_of(path) != signature for path, signature in self._seen.items())
        self._unreported |= changed
        if changed or self._clock() >= self._again_at:
            self._look_again(self._loaded)
        return self._loaded

    def _look_again(self, before: LoadedConfig) -> None:
        self._again_at = math.inf
        error = None
        try:
            config = self._read()
            error = _loosened(before.config, config)
            if error is None and _shuts_out(before.config, config) and self._just_written():
                self._again_at = self._clock() + SETTLE_SECONDS / 4
                return
        except ConfigError as refused:
            error = refused
        if error is not None:
            config = before.config  # a certificate of it may have been renewed all the same
        try:
            self._loaded = self._prepare(config, before)
        except ConfigError as refused:
            error = error or refused
        unreported, self._unreported = self._unreported, False
        self.failing = error is not None
        if error is None:
            log.get().info("web configuration re-read", file=str(self._path))
            return
        # What was missing may have been a descriptor or memory, and no file need change for it to be there.
        self._again_at = self._clock() + RETRY_SECONDS
        if unreported:
            self.failures += 1
            log.get().error(
                "web configuration not re-read, the last one stays", error=str(self._named(error))
            )

    def close(self) -> None:
        """Let the worker go."""
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _read(self) -> WebConfig:
        # Signed before it is read: what changes while it is being read is seen as a change the next time.
        self._seen = {self._path: _signature_of(self._path)}
        return parse(read_file("", self._path), self._path.absolute().parent)

    def _just_written(self) -> bool:
        """Whether somebody may still be writing the file."""
        try:
            age = time.time() - self._path.stat().st_ctime
        except OSError:
            return False
        return 0 <= age < SETTLE_SECONDS

    def _prepare(self, config: WebConfig, before: LoadedConfig | None) -> LoadedConfig:
        tls = config.tls
        if tls is not None:
            self._seen |= {path: _signature_of(path) for path in tls.files()}
        context = make_context(tls) if tls is not None else None
        if before is not None and before.config.users == config.users:
            authenticator = before.authenticator
        else:
            users = config.users
            authenticator = Authenticator(users, self._worker, self._verified) if users else None
        if before is not None and before.config.rate_limit == config.rate_limit:
            bucket = before.bucket
        else:
            bucket = Bucket(config.rate_limit) if config.rate_limit is not None else None
        return LoadedConfig(config, context, authenticator, bucket)

    def _named(self, error: ConfigError) -> ConfigError:
        name = str(self._path)
        return error if error.message.startswith(name) else ConfigError(name, error.message)


def _signature_of(path: Path) -> Signature:
    try:
        s = path.stat()
    except (OSError, ValueError):  # ValueError: a NUL in the path; reading it will say so
        return None
    return (s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns)


def _loosened(before: WebConfig, after: WebConfig) -> ConfigError | None:
    """The first door that `after` would open and `before` keeps shut; None: there is none."""
    why = "asks for less than what is in force; what keeps others out is given up by a restart only"
    return next((ConfigError(key, why) for key in _opened(before, after)), None)


def _shuts_out(before: WebConfig, after: WebConfig) -> bool:
    """Whether `after` has no more place for somebody whom `before` lets in by name.

    A file that is written line by line looks like that for a moment.
    """
    names = before.tls.client_names if before.tls is not None else None
    fewer = after.tls.client_names if after.tls is not None else None
    users = {user for user, _ in before.users} - {user for user, _ in after.users}
    return bool(users or (names and fewer and names - fewer))


def _opened(before: WebConfig, after: WebConfig) -> Iterator[str]:
    if before.tls is not None:
        if after.tls is None:
            yield "tls_server_config"
        else:
            yield from _opened_tls(before.tls, after.tls)
    if before.users:
        if not after.users:
            yield "basic_auth_users"
        if after.open_paths - before.open_paths:
            yield "basic_auth_excluded_paths"
    if before.rate_limit is not None and after.rate_limit is None:
        yield "rate_limit"


def _opened_tls(before: TlsConfig, after: TlsConfig) -> Iterator[str]:
    if after.client_auth < before.client_auth:
        yield "tls_server_config.client_auth_type"
    if before.client_ca is not None and after.client_ca is None:
        yield before.client_ca.key
    if before.client_names is not None and after.client_names is None:
        yield "tls_server_config.client_allowed_sans"
    if after.min_version < before.min_version:
        yield "tls_server_config.min_version"
