# SPDX-License-Identifier: Apache-2.0
"""What keeps others out, and that no change of the web configuration takes it away without a restart.

A file that is emptied, or cut short while it is written, is valid and asks for nothing: taken at its word it
would open the agent to everybody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.web.document import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tdx_headroom.web.config import WebConfig
    from tdx_headroom.web.tlsconfig import TlsConfig

_WHY = "what keeps others out is given up by a restart only"


def loosened(before: WebConfig, after: WebConfig) -> ConfigError | None:
    """The first door that `after` would open and `before` keeps shut; None: there is none."""
    key = next(_opened(before, after), None)
    return ConfigError(key, f"asks for less than what is in force; {_WHY}") if key is not None else None


def shuts_out(before: WebConfig, after: WebConfig) -> bool:
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
