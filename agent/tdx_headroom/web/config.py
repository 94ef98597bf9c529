# SPDX-License-Identifier: Apache-2.0
"""The web configuration file, in the format of the Prometheus exporter-toolkit: text in, values out.

What the toolkit takes means the same here, or is refused with the reason; docs/web-config.md has the table.
Every error names the key that it is about.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tdx_headroom.web.config_tls import parse_tls
from tdx_headroom.web.config_yaml import ConfigError, boolean, load, mapping, number, text, texts
from tdx_headroom.web.rate_limit import RateLimit, read_interval

if TYPE_CHECKING:
    from pathlib import Path

    from tdx_headroom.web.config_tls import TlsConfig

MAX_COST = 16
"""A bcrypt cost above this takes many seconds for one password, and requests wait for each other."""

KEYS = (
    *("tls_server_config", "http_server_config", "basic_auth_users"),
    *("basic_auth_excluded_paths", "rate_limit"),
)

HEADERS: dict[str, tuple[str, ...]] = {
    "Content-Security-Policy": (),
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
}
"""The headers that may be set, and their values where only some make sense."""

_BCRYPT = re.compile(rb"\$2([abxy]?)(\$([0-9]{2})\$[./A-Za-z0-9]{53})")


@dataclass(frozen=True, slots=True)
class WebConfig:
    """The whole file.

    Args:
        tls: None: plain HTTP.
        headers: to set.
        users: names and bcrypt hashes; without any nobody needs a password.
        open_paths: that need none.
        rate_limit: None: there is none.
    """

    tls: TlsConfig | None = None
    headers: tuple[tuple[str, str], ...] = ()
    users: tuple[tuple[bytes, bytes], ...] = ()
    open_paths: frozenset[str] = frozenset()
    rate_limit: RateLimit | None = None


def parse(data: bytes, directory: Path) -> WebConfig:
    """A configuration file's content; files that it names are not looked at.

    Args:
        data: YAML.
        directory: what relative paths in it are relative to.

    Raises:
        ConfigError: it is no YAML, or a key is unknown, missing or has a value that cannot be used.
    """
    top = mapping("", load(data), KEYS)
    http = mapping("http_server_config", top.get("http_server_config"), ("http2", "headers"))
    # HTTP/2 may be on in a file that exporters share; HTTP/1.1 is spoken all the same.
    boolean("http_server_config.http2", http.get("http2"), default=True)
    return WebConfig(
        tls=parse_tls(top.get("tls_server_config"), directory),
        headers=_headers(http.get("headers")),
        users=_users(mapping("basic_auth_users", top.get("basic_auth_users"))),
        open_paths=_open_paths(top.get("basic_auth_excluded_paths")),
        rate_limit=_rate_limit(top.get("rate_limit")),
    )


def _headers(value: object) -> tuple[tuple[str, str], ...]:
    at = "http_server_config.headers"
    found = []
    for name, raw in mapping(at, value, tuple(HEADERS)).items():
        word = text(f"{at}.{name}", raw)
        if not word:
            continue
        allowed = HEADERS[name]
        if allowed and word.lower() not in allowed:
            raise ConfigError(f"{at}.{name}", f"must be {' or '.join(allowed)}")
        if not (word.isascii() and word.isprintable()):
            raise ConfigError(f"{at}.{name}", "must be printable ASCII on one line")
        found.append((name, word))
    return tuple(found)


def _users(section: dict[str, object]) -> tuple[tuple[bytes, bytes], ...]:
    found = []
    for name, value in section.items():
        key = f"basic_auth_users.{name}"
        if ":" in name:
            raise ConfigError(key, "a user's name cannot have a colon in it")
        if any("\ud800" <= character <= "\udfff" for character in name):
            raise ConfigError(key, "half of a surrogate pair is no character")
        match = _BCRYPT.fullmatch(value.encode("utf-8", "replace")) if isinstance(value, str) else None
        if match is None:
            raise ConfigError(key, "not a bcrypt hash; make one with: htpasswd -nBC 10 USER")
        kind, rest, cost = match.groups()
        if not 4 <= int(cost) <= MAX_COST:
            raise ConfigError(key, f"the hash's cost must be from 4 to {MAX_COST}")
        # The letters differ in old programs' mistakes, which Go's bcrypt never made and ours does not copy.
        found.append((name.encode(), match[0] if kind in (b"a", b"b", b"y") else b"$2b" + rest))
    return tuple(found)


def _open_paths(value: object) -> frozenset[str]:
    at = "basic_auth_excluded_paths"
    paths = texts(at, value) or ()
    if not all(path.startswith("/") for path in paths):
        raise ConfigError(at, "a path begins with /")
    return frozenset(paths)


def _rate_limit(value: object) -> RateLimit | None:
    section = mapping("rate_limit", value, ("interval", "burst"))
    word = text("rate_limit.interval", section.get("interval"), "a duration")
    burst = number("rate_limit.burst", section.get("burst"))
    interval = read_interval(word) if word is not None else 0.0
    if interval is None:
        raise ConfigError("rate_limit.interval", "must be a duration with its unit, such as 250ms or 1s")
    if not interval:
        return None
    if not burst:
        raise ConfigError("rate_limit.burst", "must be 1 or more: with 0 every request would be refused")
    return RateLimit(interval, burst)
