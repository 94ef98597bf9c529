# SPDX-License-Identifier: Apache-2.0
"""The web configuration file, in the format of the Prometheus exporter-toolkit: text in, values out.

Every error names the key that it is about. No error shows a value of the file: it holds password hashes.
"""

from __future__ import annotations

import os
import re
import ssl
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from tdx_headroom.errors import AgentError

if TYPE_CHECKING:
    from collections.abc import Hashable
    from pathlib import Path

MAX_FILE = 1 << 20
MAX_COST = 16
"""A bcrypt cost above this takes many seconds for one password, and requests wait for each other."""

VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
CLIENT_AUTH = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
UNVERIFIED = ("RequestClientCert", "RequireAnyClientCert")

CIPHERS = {
    f"TLS_ECDHE_{key}_WITH_{name}": f"ECDHE-{key}-{openssl}"
    for key in ("ECDSA", "RSA")
    for name, openssl in (
        ("AES_128_GCM_SHA256", "AES128-GCM-SHA256"),
        ("AES_256_GCM_SHA384", "AES256-GCM-SHA384"),
        ("CHACHA20_POLY1305_SHA256", "CHACHA20-POLY1305"),
    )
}
"""Go's names, as the file has them, and OpenSSL's; all with forward secrecy and authenticated encryption."""

TLS13_CIPHERS = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")

HEADERS: dict[str, tuple[str, ...]] = {
    "Content-Security-Policy": (),
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
}
"""The headers that may be set, and their values where only some make sense."""

T = TypeVar("T")
_BCRYPT = re.compile(rb"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53}")


class ConfigError(AgentError):
    """Something in the web configuration that cannot be used.

    Args:
        key: dotted path of the key, such as ``tls_server_config.cert_file``; empty: the file itself.
        reason: what is wrong.
    """

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"{key}: {reason}" if key else reason, status=os.EX_CONFIG)


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """``tls_server_config``; `ciphers` are OpenSSL's names for TLS 1.2, None for the default."""

    cert_file: Path
    key_file: Path
    client_ca_file: Path | None = None
    client_auth: ssl.VerifyMode = ssl.CERT_NONE
    min_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    max_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    ciphers: str | None = None


@dataclass(frozen=True, slots=True)
class WebConfig:
    """The whole file: TLS or None for plain HTTP, headers to set, and bcrypt hashes by user."""

    tls: TlsConfig | None = None
    headers: tuple[tuple[str, str], ...] = ()
    users: tuple[tuple[bytes, bytes], ...] = ()


class _Loader(yaml.SafeLoader):
    """A safe loader that takes no key twice: the second would silently replace the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002  PyYAML's signature
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise ConfigError(key.value, f"is there twice (line {key.start_mark.line + 1})")
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def read_file(key: str, path: Path) -> bytes:
    """A regular file of sane size; anything else (a FIFO would wait for ever) is refused.

    Raises:
        ConfigError: naming `key`.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(key, f"{path} is no regular file")
        if status.st_size > MAX_FILE:
            raise ConfigError(key, f"{path} is larger than {MAX_FILE >> 20} MiB")
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(key, f"{path}: {reason}") from None


def parse(data: bytes, directory: Path) -> WebConfig:
    """A configuration file's content; files that it names are not looked at.

    Args:
        data: YAML.
        directory: what relative paths in it are relative to.

    Raises:
        ConfigError: it is no YAML, or a key is unknown, missing or has a value that cannot be used.
    """
    top = _mapping("", _load(data))
    _known("", top, ("tls_server_config", "http_server_config", "basic_auth_users"))
    http = _mapping("http_server_config", top.get("http_server_config"))
    _known("http_server_config", http, ("http2", "headers"))
    # HTTP/2 may be on in a file that exporters share; HTTP/1.1 is spoken all the same.
    _optional("http_server_config.http2", http.get("http2"), bool, "true or false")
    return WebConfig(
        tls=_tls(_mapping("tls_server_config", top.get("tls_server_config")), directory),
        headers=_headers(_mapping("http_server_config.headers", http.get("headers"))),
        users=_users(_mapping("basic_auth_users", top.get("basic_auth_users"))),
    )


def _load(data: bytes) -> object:
    try:
        return yaml.load(data, _Loader)  # noqa: S506  a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        # The problem's own text may quote the file, which holds hashes: its first words say enough.
        problem = re.split(r"['\"]", error.problem or "it cannot be read")[0].strip()
        raise ConfigError("", f"{line}not YAML: {problem}") from None
    except yaml.YAMLError:
        raise ConfigError("", "not YAML: it has characters that YAML does not allow") from None
    except RecursionError:
        raise ConfigError("", "not YAML: it is nested too deeply") from None
    except ValueError:
        raise ConfigError("", "not YAML: a value is no date or number, though it looks like one") from None


def _tls(section: dict[str, object], directory: Path) -> TlsConfig | None:
    if not section:
        return None
    at = "tls_server_config"
    for inline, file in (("cert", "cert_file"), ("key", "key_file"), ("client_ca", "client_ca_file")):
        if inline in section:
            raise ConfigError(f"{at}.{inline}", f"not supported; use {file}")
    for name in ("client_allowed_sans", "curve_preferences", "prefer_server_cipher_suites"):
        if name in section:
            raise ConfigError(f"{at}.{name}", "not supported")
    names = (
        *("cert_file", "key_file", "client_ca_file", "client_auth_type"),
        *("min_version", "max_version", "cipher_suites"),
    )
    _known(at, section, names)

    def path(name: str) -> Path | None:
        text = _optional(f"{at}.{name}", section.get(name), str, "a path")
        return directory / text if text else None

    cert, key, client_ca = path("cert_file"), path("key_file"), path("client_ca_file")
    if cert is None:
        raise ConfigError(f"{at}.cert_file", "missing")
    if key is None:
        raise ConfigError(f"{at}.key_file", "missing")
    client_auth = _client_auth(section.get("client_auth_type"), client_ca)
    low = _one_of(f"{at}.min_version", section.get("min_version"), VERSIONS, ssl.TLSVersion.TLSv1_2)
    high = _one_of(f"{at}.max_version", section.get("max_version"), VERSIONS, ssl.TLSVersion.TLSv1_3)
    if low > high:
        raise ConfigError(f"{at}.max_version", "is below min_version")
    return TlsConfig(cert, key, client_ca, client_auth, low, high, _ciphers(section.get("cipher_suites")))


def _client_auth(value: object, client_ca: Path | None) -> ssl.VerifyMode:
    key = "tls_server_config.client_auth_type"
    if value in UNVERIFIED:
        raise ConfigError(
            key, "asks for certificates without verifying them, which is not supported; use one that verifies"
        )
    client_auth = _one_of(key, value, CLIENT_AUTH, ssl.CERT_NONE)
    if client_auth is ssl.CERT_NONE and client_ca is not None:
        raise ConfigError(key, "does not verify clients, though there is a client_ca_file")
    if client_auth is not ssl.CERT_NONE and client_ca is None:
        raise ConfigError("tls_server_config.client_ca_file", "missing: client_auth_type needs it")
    return client_auth


def _ciphers(value: object) -> str | None:
    key = "tls_server_config.cipher_suites"
    names = _optional(key, value, list, "a list of names") or []
    found = []
    for name in names:
        if name in TLS13_CIPHERS:
            continue  # always on, there as here
        if not isinstance(name, str) or name not in CIPHERS:
            raise ConfigError(key, f"only these are supported: {', '.join(CIPHERS)}")
        found.append(CIPHERS[name])
    return ":".join(found) or None


def _headers(section: dict[str, object]) -> tuple[tuple[str, str], ...]:
    at = "http_server_config.headers"
    _known(at, section, tuple(HEADERS))
    found = []
    for name, raw in section.items():
        value = _optional(f"{at}.{name}", raw, str, "text in quotes")
        if not value:
            continue
        allowed = HEADERS[name]
        if allowed and value.lower() not in allowed:
            raise ConfigError(f"{at}.{name}", f"must be {' or '.join(allowed)}")
        if not (value.isascii() and value.isprintable()):
            raise ConfigError(f"{at}.{name}", "must be printable ASCII on one line")
        found.append((name, value))
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
        if not 4 <= int(match[1]) <= MAX_COST:
            raise ConfigError(key, f"the hash's cost must be from 4 to {MAX_COST}")
        found.append((name.encode(), match[0]))
    return tuple(found)


def _mapping(key: str, value: object) -> dict[str, object]:
    """A section; one that is absent or has nothing in it is empty."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(key, "must be keys with values")
    for name in value:
        if not isinstance(name, str):
            where = f"{key}.{name}" if key else str(name)
            raise ConfigError(where, "a key must be text; put it in quotes")
    return value


def _known(key: str, section: dict[str, object], names: tuple[str, ...]) -> None:
    for name in section:
        if name not in names:
            where = f"{key}.{name}" if key else name
            raise ConfigError(where, f"unknown key; known here: {', '.join(names)}")


def _optional(key: str, value: object, kind: type[T], what: str) -> T | None:
    if value is None:
        return None
    if not isinstance(value, kind):
        raise ConfigError(key, f"must be {what}")
    return value


def _one_of(key: str, value: object, known: dict[str, T], default: T) -> T:
    if value is None or value == "":
        return default
    if not isinstance(value, str) or value not in known:
        raise ConfigError(key, f"must be one of {', '.join(known)}")
    return known[value]
