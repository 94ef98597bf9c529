# SPDX-License-Identifier: Apache-2.0
"""``tls_server_config``: what it may say, with Go's names for things."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tdx_headroom.web.config_yaml import ConfigError, boolean, mapping, one_of, read_file, text, texts

if TYPE_CHECKING:
    from pathlib import Path

AT = "tls_server_config"
KEYS = (
    *("cert_file", "key_file", "cert", "key", "client_ca_file", "client_ca"),
    *("client_auth_type", "client_allowed_sans", "min_version", "max_version"),
    *("cipher_suites", "prefer_server_cipher_suites", "curve_preferences"),
)

VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
OLD_VERSIONS = ("TLS10", "TLS11")

CLIENT_AUTH = {
    "NoClientCert": ssl.CERT_NONE,
    # Any certificate or none would do, and nobody looks at it: the same clients get in without being asked.
    "RequestClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
UNVERIFIED = ("RequireAnyClientCert", "RequireClientCert")

CIPHERS = {
    f"TLS_ECDHE_{key}_WITH_{name}": f"ECDHE-{key}-{openssl}"
    for key in ("ECDSA", "RSA")
    for name, openssl in (
        ("AES_128_GCM_SHA256", "AES128-GCM-SHA256"),
        ("AES_256_GCM_SHA384", "AES256-GCM-SHA384"),
        ("CHACHA20_POLY1305_SHA256", "CHACHA20-POLY1305"),
        ("AES_128_CBC_SHA", "AES128-SHA"),
        ("AES_256_CBC_SHA", "AES256-SHA"),
    )
}
"""Go's names, as the file has them, and OpenSSL's; all with forward secrecy."""

TLS13_CIPHERS = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
STATIC = tuple(
    f"TLS_RSA_WITH_AES_{bits}" for bits in ("128_CBC_SHA", "256_CBC_SHA", "128_GCM_SHA256", "256_GCM_SHA384")
)

CURVES = {"X25519": "X25519", "CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1"}


@dataclass(frozen=True, slots=True)
class Pem:
    """Certificates or a key in PEM, in a file or in the configuration itself.

    Args:
        key: of the configuration, for errors.
        path: of the file; None: it is `inline`.
        inline: the text.
    """

    key: str
    path: Path | None = None
    inline: str = field(default="", repr=False)

    def __str__(self) -> str:
        return str(self.path) if self.path is not None else "the text"

    def read(self) -> bytes:
        """What is there now.

        Raises:
            ConfigError: the file cannot be read.
        """
        return (
            read_file(self.key, self.path)
            if self.path is not None
            else self.inline.encode("utf-8", "replace")
        )


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """The section.

    Args:
        cert: the server's.
        key: its private key.
        client_ca: who vouches for clients; None: those whom the system trusts.
        client_auth: whether clients must show a certificate.
        client_names: of which it must have one; None: any will do.
        min_version: lowest.
        max_version: highest.
        ciphers: OpenSSL's names for TLS 1.2; None: the default.
        server_order: whether the order of the ciphers counts, not the client's.
        curve: the only one for the key exchange, by OpenSSL's name; None: any that OpenSSL has.
    """

    cert: Pem
    key: Pem
    client_ca: Pem | None = None
    client_auth: ssl.VerifyMode = ssl.CERT_NONE
    client_names: frozenset[str] | None = None
    min_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    max_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    ciphers: str | None = None
    server_order: bool = True
    curve: str | None = None

    def files(self) -> tuple[Path, ...]:
        """All that it names."""
        return tuple(
            pem.path
            for pem in (self.cert, self.key, self.client_ca)
            if pem is not None and pem.path is not None
        )


def parse_tls(value: object, directory: Path) -> TlsConfig | None:
    """The section; None: it is not there, or has no value in it.

    Args:
        value: from YAML.
        directory: what relative paths are relative to.

    Raises:
        ConfigError: it cannot be used.
    """
    section = mapping(AT, value, KEYS)
    if all(item is None for item in section.values()):
        return None
    cert, key = _needed("cert", section, directory), _needed("key", section, directory)
    client_ca = _pem("client_ca", section, directory)
    client_auth = _client_auth(section.get("client_auth_type"), client_ca)
    low = _version("min_version", section, ssl.TLSVersion.TLSv1_2)
    high = _version("max_version", section, ssl.TLSVersion.TLSv1_3)
    if low > high:
        raise ConfigError(f"{AT}.max_version", "is below min_version")
    ciphers = _ciphers(texts(f"{AT}.cipher_suites", section.get("cipher_suites")))
    if ciphers == "":
        if high < ssl.TLSVersion.TLSv1_3:
            raise ConfigError(f"{AT}.cipher_suites", "has only suites of TLS 1.3, which max_version excludes")
        low = ssl.TLSVersion.TLSv1_3
    prefer = "prefer_server_cipher_suites"
    return TlsConfig(
        cert=cert,
        key=key,
        client_ca=client_ca,
        client_auth=client_auth,
        client_names=_names(section.get("client_allowed_sans"), client_auth),
        min_version=low,
        max_version=high,
        ciphers=ciphers or None,
        server_order=boolean(f"{AT}.{prefer}", section.get(prefer), default=True),
        curve=_curve(texts(f"{AT}.curve_preferences", section.get("curve_preferences"))),
    )


def _needed(name: str, section: dict[str, object], directory: Path) -> Pem:
    found = _pem(name, section, directory)
    if found is None:
        reason = "missing: TLS needs it; for plain HTTP leave the section out"
        raise ConfigError(f"{AT}.{name}_file", reason)
    return found


def _pem(name: str, section: dict[str, object], directory: Path) -> Pem | None:
    file = f"{name}_file"
    path = text(f"{AT}.{file}", section.get(file), "a path")
    inline = text(f"{AT}.{name}", section.get(name), "PEM text")
    if path and inline:
        raise ConfigError(f"{AT}.{name}", f"is there beside {file}: only one of them can count")
    if path:
        return Pem(f"{AT}.{file}", directory / path)
    return Pem(f"{AT}.{name}", inline=inline) if inline else None


def _client_auth(value: object, client_ca: Pem | None) -> ssl.VerifyMode:
    at = f"{AT}.client_auth_type"
    word = text(at, value) or "NoClientCert"
    if word in UNVERIFIED:
        raise ConfigError(
            at,
            "takes any certificate without verifying it, which Python's ssl cannot;"
            " use RequireAndVerifyClientCert",
        )
    client_auth = one_of(at, word, CLIENT_AUTH, ssl.CERT_NONE)
    if client_ca is not None and word == "NoClientCert":
        raise ConfigError(at, f"does not ask clients for certificates, though there is {client_ca.key}")
    return client_auth


def _names(value: object, client_auth: ssl.VerifyMode) -> frozenset[str] | None:
    at = f"{AT}.client_allowed_sans"
    names = texts(at, value)
    if names is None:
        return None
    if not names:
        raise ConfigError(at, "is empty: nobody would be let in")
    if client_auth is not ssl.CERT_REQUIRED:
        raise ConfigError(at, "needs client_auth_type RequireAndVerifyClientCert")
    return frozenset(names)


def _version(name: str, section: dict[str, object], default: ssl.TLSVersion) -> ssl.TLSVersion:
    at = f"{AT}.{name}"
    if text(at, section.get(name)) in OLD_VERSIONS:
        raise ConfigError(at, "TLS 1.0 and 1.1 are broken (RFC 8996) and not spoken here; use TLS12 or TLS13")
    return one_of(at, section.get(name), VERSIONS, default)


def _ciphers(names: tuple[str, ...] | None) -> str | None:
    """OpenSSL's names; None: the default, empty: there are none for TLS 1.2."""
    at = f"{AT}.cipher_suites"
    if not names:
        return None
    found = []
    for name in names:
        if name in STATIC:
            raise ConfigError(at, f"{name} has no forward secrecy, and is not spoken here; use TLS_ECDHE_...")
        if name in TLS13_CIPHERS:
            continue  # always on, there as here
        if name not in CIPHERS:
            raise ConfigError(at, f"only these are supported: {', '.join(CIPHERS)}")
        found.append(CIPHERS[name])
    return ":".join(found)


def _curve(names: tuple[str, ...] | None) -> str | None:
    at = f"{AT}.curve_preferences"
    if not names:
        return None
    for name in names:
        if name not in CURVES:
            raise ConfigError(at, f"must be of {', '.join(CURVES)}")
    if set(names) == set(CURVES):
        return None
    if len(set(names)) > 1:
        raise ConfigError(
            at, f"Python's ssl can offer one curve or all; name one, or all of {', '.join(CURVES)}"
        )
    return CURVES[names[0]]
