# SPDX-License-Identifier: Apache-2.0
"""An SSL context from ``tls_server_config``."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from tdx_headroom.web.config import ConfigError, read_file

if TYPE_CHECKING:
    from tdx_headroom.web.config import TlsConfig

_CERT = "tls_server_config.cert_file"
_KEY = "tls_server_config.key_file"
_CLIENT_CA = "tls_server_config.client_ca_file"


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
    context.set_alpn_protocols(["http/1.1"])
    if config.ciphers is not None:
        try:
            context.set_ciphers(config.ciphers)
        except ssl.SSLError:
            reason = "this host's OpenSSL has none of them"
            raise ConfigError("tls_server_config.cipher_suites", reason) from None
    _load_pair(context, config)
    if config.client_ca_file is not None:
        read_file(_CLIENT_CA, config.client_ca_file)
        try:
            context.load_verify_locations(cafile=config.client_ca_file)
        except (ssl.SSLError, OSError):
            raise ConfigError(_CLIENT_CA, f"{config.client_ca_file} holds no PEM certificate") from None
    context.verify_mode = config.client_auth
    return context


def _load_pair(context: ssl.SSLContext, config: TlsConfig) -> None:
    """Load certificate and key; the library does not say in which of them an error is."""
    read_file(_CERT, config.cert_file)
    read_file(_KEY, config.key_file)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cafile=config.cert_file)
    except (ssl.SSLError, OSError):
        raise ConfigError(_CERT, f"{config.cert_file} holds no PEM certificate") from None
    asked = False

    def password() -> str:
        # Without this OpenSSL would ask on the terminal, and wait.
        nonlocal asked
        asked = True
        return ""

    try:
        context.load_cert_chain(config.cert_file, config.key_file, password)
    except (ssl.SSLError, OSError) as error:
        if asked:
            raise ConfigError(_KEY, f"{config.key_file} is encrypted, which is not supported") from None
        reason = getattr(error, "reason", None) or ""
        if "MISMATCH" in reason:
            raise ConfigError(_KEY, f"{config.key_file} does not belong to cert_file") from None
        if reason.startswith(("EE_", "CA_")):
            raise ConfigError(_CERT, f"OpenSSL refuses it: {reason.lower().replace('_', ' ')}") from None
        raise ConfigError(_KEY, f"{config.key_file} holds no PEM private key that can be used") from None
