# SPDX-License-Identifier: Apache-2.0
"""``client_allowed_sans``: lets in a client only when its certificate has one of these names."""

from __future__ import annotations

import ipaddress
import ssl
from typing import TYPE_CHECKING, Any

from tornado.httputil import HTTPMessageDelegate

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from tornado.httputil import HTTPHeaders, RequestStartLine, ResponseStartLine
    from tornado.iostream import IOStream

KINDS = ("DNS", "email", "URI")


def names_of(certificate: Mapping[str, Any]) -> set[str]:
    """All alternative names of a certificate, as Go writes them."""
    found = set()
    for kind, name in certificate.get("subjectAltName", ()):
        if kind in KINDS:
            found.add(name)
        elif kind == "IP Address":
            try:
                found.add(str(ipaddress.ip_address(name)))
            except ValueError:
                continue  # the certificate has bytes there that are no address: nobody's name
    return found


class Admission(HTTPMessageDelegate):
    """Passes a request on if its client's certificate has one of the names; closes the connection if not.

    It is asked before anything is answered: the handshake is over when the first request's head is there.

    Args:
        inner: who answers.
        stream: to the client.
        allowed: names.
    """

    def __init__(self, inner: HTTPMessageDelegate, stream: IOStream, allowed: frozenset[str]) -> None:
        self._inner = inner
        self._stream = stream
        self._allowed = allowed
        self._admitted = False

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        """Look at the certificate; called by the library."""
        connection = self._stream.socket
        certificate = connection.getpeercert() if isinstance(connection, ssl.SSLSocket) else None
        self._admitted = bool(certificate and names_of(certificate) & self._allowed)
        if self._admitted:
            return self._inner.headers_received(start_line, headers)
        self._stream.close()
        return None

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        """A part of a body."""
        return self._inner.data_received(chunk) if self._admitted else None

    def finish(self) -> None:
        """The request is there as a whole."""
        if self._admitted:
            self._inner.finish()

    def on_connection_close(self) -> None:
        """The client has gone."""
        self._inner.on_connection_close()
