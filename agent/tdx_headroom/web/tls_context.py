# SPDX-License-Identifier: Apache-2.0
"""An SSL context from ``tls_server_config``."""

from __future__ import annotations

import os
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tdx_headroom.web.config_yaml import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tdx_headroom.web.config_tls import Pem, TlsConfig

DEFAULT_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2: forward secrecy, and encryption that authenticates; no CBC."""

_NOEXEC_SEAL = 8
"""MFD_NOEXEC_SEAL, which a kernel since 6.3 may insist on and an older one does not know."""


def make_context(config: TlsConfig) -> ssl.SSLContext:
    """The context for new connections; all files are read now.

    Raises:
        ConfigError: a file cannot be used; names its key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = config.min_version
    context.maximum_version = config.max_version
    # A client that renegotiates makes the server compute far more than it computes itself.
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    if not config.server_order:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.set_ciphers(config.ciphers or DEFAULT_CIPHERS)
    except ssl.SSLError:
        raise ConfigError("tls_server_config.cipher_suites", "this host's OpenSSL has none of them") from None
    if config.curve is not None:
        try:
            context.set_ecdh_curve(config.curve)
        except (ssl.SSLError, ValueError):
            # Python 3.11.2, Debian 12's, cannot offer X25519 alone.
            reason = "this host's Python or OpenSSL cannot offer it alone"
            raise ConfigError("tls_server_config.curve_preferences", reason) from None
    _load_pair(context, config.cert, config.key)
    if config.client_ca is not None:
        _load_authorities(context, config.client_ca)
    elif config.client_auth is not ssl.CERT_NONE:
        context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
    # An authority that is named is trusted, also when another one has signed it.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_mode = config.client_auth
    return context


def _load_authorities(context: ssl.SSLContext, pem: Pem) -> None:
    with _as_file(pem) as path:
        try:
            context.load_verify_locations(cafile=path)
        except (ssl.SSLError, OSError):
            raise ConfigError(pem.key, f"{pem} holds no PEM certificate") from None


def _load_pair(context: ssl.SSLContext, cert: Pem, key: Pem) -> None:
    """Load certificate and key; the library does not say in which of them an error is."""
    _load_authorities(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), cert)
    asked = False

    def password() -> str:
        # Without this OpenSSL would ask on the terminal, and wait.
        nonlocal asked
        asked = True
        return ""

    with _as_file(cert) as cert_path, _as_file(key) as key_path:
        try:
            context.load_cert_chain(cert_path, key_path, password)
        except (ssl.SSLError, OSError) as error:
            if asked:
                raise ConfigError(key.key, f"{key} is encrypted, which is not supported") from None
            reason = getattr(error, "reason", None) or ""
            if "MISMATCH" in reason:
                raise ConfigError(
                    key.key, f"{key} does not belong to {cert.key.rpartition('.')[2]}"
                ) from None
            if reason.startswith(("EE_", "CA_")):
                raise ConfigError(
                    cert.key, f"OpenSSL refuses it: {reason.lower().replace('_', ' ')}"
                ) from None
            raise ConfigError(key.key, f"{key} holds no PEM private key that can be used") from None


@contextmanager
def _as_file(pem: Pem) -> Iterator[str]:
    """A path under which the library finds what has been read: it takes keys from files only.

    The file is in memory and has no name. So a key that stands in the configuration comes to no disk, and a
    certificate that is rewritten meanwhile is not read in two halves.
    """
    data = pem.read()
    try:
        try:
            descriptor = os.memfd_create("pem", os.MFD_CLOEXEC | _NOEXEC_SEAL)
        except OSError:
            descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            yield f"/proc/self/fd/{descriptor}"
    except OSError as error:
        raise ConfigError(pem.key, f"cannot be handed to OpenSSL: {error.strerror}") from None
