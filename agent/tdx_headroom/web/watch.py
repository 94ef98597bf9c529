# SPDX-License-Identifier: Apache-2.0
"""The web configuration in force: read at start, and again when a file of it changes.

A change never opens a door (:mod:`tdx_headroom.web.guards`): one that would is refused as if it could not be
read.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tdx_headroom import log
from tdx_headroom.web.auth import Authenticator
from tdx_headroom.web.config import WebConfig, parse
from tdx_headroom.web.document import ConfigError, read_file
from tdx_headroom.web.guards import loosened
from tdx_headroom.web.rate import Bucket
from tdx_headroom.web.tls import make_context

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

Signature = tuple[int, ...] | None
"""What tells one version of a file from the next; None: it is not there."""


@dataclass(frozen=True, slots=True)
class Loaded:
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

    Raises:
        AgentError: it cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="bcrypt")
        self._seen: dict[Path, Signature] = {}
        self.failures = 0
        self.failing = False
        try:
            self._loaded = self._prepare(self._read(), None)
        except ConfigError as error:
            raise self._named(error) from None
        if self._loaded.config == WebConfig():
            log.get().warning("web configuration asks for nothing: neither TLS nor passwords", file=str(path))

    def current(self) -> Loaded:
        """The configuration in force; after a change that cannot be used it is the one before."""
        if any(_sign(path) != signature for path, signature in self._seen.items()):
            self._look_again(self._loaded)
        return self._loaded

    def _look_again(self, before: Loaded) -> None:
        error = None
        try:
            config = self._read()
            error = loosened(before.config, config)
        except ConfigError as refused:
            error = refused
        if error is not None:
            config = before.config  # a certificate of it may have been renewed all the same
        try:
            self._loaded = self._prepare(config, before)
        except ConfigError as refused:
            error = error or refused
        self.failing = error is not None
        if error is None:
            log.get().info("web configuration re-read", file=str(self._path))
        else:
            self.failures += 1
            log.get().error(
                "web configuration not re-read, the last one stays", error=str(self._named(error))
            )

    def close(self) -> None:
        """Let the worker go."""
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _read(self) -> WebConfig:
        # Signed before it is read: what changes while it is being read is seen as a change the next time.
        self._seen = {self._path: _sign(self._path)}
        return parse(read_file("", self._path), self._path.absolute().parent)

    def _prepare(self, config: WebConfig, before: Loaded | None) -> Loaded:
        tls = config.tls
        if tls is not None:
            self._seen |= {path: _sign(path) for path in tls.files()}
        context = make_context(tls) if tls is not None else None
        if before is not None and before.config.users == config.users:
            authenticator = before.authenticator  # remembers who has proved themselves
        else:
            authenticator = Authenticator(config.users, self._worker) if config.users else None
        if before is not None and before.config.rate_limit == config.rate_limit:
            bucket = before.bucket
        else:
            bucket = Bucket(config.rate_limit) if config.rate_limit is not None else None
        return Loaded(config, context, authenticator, bucket)

    def _named(self, error: ConfigError) -> ConfigError:
        name = str(self._path)
        return error if error.message.startswith(name) else ConfigError(name, error.message)


def _sign(path: Path) -> Signature:
    try:
        s = path.stat()
    except (OSError, ValueError):  # ValueError: a NUL in the path; reading it will say so
        return None
    return (s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns)
