# SPDX-License-Identifier: Apache-2.0
"""One request and its answer: who asks, whether there is room, and what is sent back."""

from __future__ import annotations

import asyncio
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING

from tornado.httputil import HTTPHeaders, HTTPMessageDelegate, RequestStartLine, ResponseStartLine

from tdx_headroom import log
from tdx_headroom.errors import place_of
from tdx_headroom.web.pages import Answer, plain
from tdx_headroom.web.request import accepts_gzip, has_good_host, path_of, wants_close
from tdx_headroom.web.turns import Turns

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Awaitable

    from tornado.httputil import HTTPConnection

    from tdx_headroom.web.auth import Credentials
    from tdx_headroom.web.connections import Connections, Peer
    from tdx_headroom.web.pages import Pages
    from tdx_headroom.web.settings import Limits
    from tdx_headroom.web.watch import ConfigWatch

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Server": "tdx-headroom",
    "Vary": "Accept, Accept-Encoding",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
CODES = (200, 400, 401, 404, 405, 429, 500, 503)
"""Every status that is answered."""

METHODS = ("GET", "HEAD")
BAD = plain(400, "400")
UNAUTHORIZED = plain(401, "401")
NOT_ALLOWED = plain(405, "405")
TOO_MANY = plain(429, "429: more requests than rate_limit lets through, try again later")
BROKEN = plain(500, "500")
FULL = plain(503, "503: too many requests at once, try again later")

_EXTRA = {
    401: {"WWW-Authenticate": 'Basic realm="tdx-headroom", charset="UTF-8"'},
    405: {"Allow": ", ".join(METHODS)},
    429: {"Retry-After": "1"},
    503: {"Retry-After": "1"},
}


class Desk:
    """Answers requests.

    Args:
        pages: what to answer.
        connections: where to note how far each peer is.
        watch: the web configuration; None: plain HTTP for everybody.
        max_requests: that may wait for their password to be checked.
        full_addresses: whether everybody may see addresses finer than a TDMR's.
        limits: what a client may cost.
    """

    def __init__(
        self,
        pages: Pages,
        connections: Connections,
        watch: ConfigWatch | None,
        *,
        max_requests: int,
        full_addresses: bool,
        limits: Limits,
    ) -> None:
        self.connections = connections
        self.answered = dict.fromkeys(CODES, 0)
        self.auth_failures = 0
        self._pages = pages
        self._watch = watch
        self._turns = Turns(max_requests)
        self._full_addresses = full_addresses
        self._limits = limits
        self._waiting: set[asyncio.Task[None]] = set()

    def answer(self, exchange: Exchange) -> None:
        """Answer a request, now or when its password has been checked."""
        if not has_good_host(exchange.start.version, exchange.headers):
            exchange.send(BAD, self._configured(), close=True)
            return
        loaded = self._watch.current() if self._watch is not None and not exchange.peer.private else None
        if loaded is not None and loaded.bucket is not None and not loaded.bucket.take():
            exchange.send(TOO_MANY, self._configured())
            return
        if loaded is None or loaded.authenticator is None or exchange.path in loaded.config.open_paths:
            exchange.send(self._look_up(exchange), self._configured())
            return
        from tdx_headroom.web.auth import read_credentials  # noqa: PLC0415  only with passwords

        given = read_credentials(exchange.headers.get("Authorization", ""))
        if given is None:
            self._refuse(exchange)
        elif loaded.authenticator.recognizes(given):
            exchange.send(self._look_up(exchange), self._configured())
        elif (place := self._turns.enter(exchange.peer.origin)) is None:
            exchange.send(FULL, self._configured())
        else:
            task = asyncio.create_task(self._answer_later(exchange, given, place))
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)

    def refuse(self) -> bytes:
        """What somebody gets who does not speak HTTP; the connection is closed after it."""
        self.answered[400] += 1
        headers = _headers(BAD, self._configured())
        headers["Connection"] = "close"
        headers["Content-Length"] = "0"
        lines = [f"{name}: {value}" for name, value in headers.get_all()]
        return "\r\n".join(["HTTP/1.1 400 Bad Request", *lines, "", ""]).encode("latin1")

    def close(self) -> None:
        """Let nobody wait any longer."""
        for task in self._waiting:
            task.cancel()

    async def _answer_later(self, exchange: Exchange, given: Credentials, place: Future[bool]) -> None:
        try:
            right = await self._is_right(exchange, given, place)
        except Exception as error:  # noqa: BLE001  the client must not wait for ever, whatever it is
            # Its text might quote the password.
            log.failure_at("a password cannot be checked", place_of(error), type(error).__name__)
            exchange.send(BROKEN, self._configured())
            return
        if not exchange.is_open():
            self.connections.remove(exchange.peer)
        elif right is None:
            exchange.send(FULL, self._configured())
        elif right:
            exchange.send(self._look_up(exchange), self._configured())
        else:
            self._refuse(exchange)

    async def _is_right(self, exchange: Exchange, given: Credentials, place: Future[bool]) -> bool | None:
        """Whether these are credentials of a user who is in force when the check is over.

        None: nobody knows, since it was not looked at.
        """
        if not await self._turns.wait(place, self._limits.auth_seconds):
            return None
        try:
            while self._watch is not None and exchange.is_open():
                authenticator = self._watch.current().authenticator
                if authenticator is None:
                    return True
                right = await authenticator.check(given)
                if authenticator is self._watch.current().authenticator:
                    return right
            return None
        finally:
            self._turns.leave()

    def _refuse(self, exchange: Exchange) -> None:
        self.auth_failures += 1
        exchange.send(UNAUTHORIZED, self._configured())

    def _look_up(self, exchange: Exchange) -> Answer:
        if exchange.start.method not in METHODS:
            return NOT_ALLOWED
        accept = exchange.headers.get("Accept", "")
        full = self._full_addresses or exchange.peer.private
        try:
            return self._pages.get(exchange.path, accept, full=full)
        except Exception as error:  # noqa: BLE001  one page that cannot be rendered must not close the others
            log.failure("a page cannot be rendered", error)
            return BROKEN

    def _configured(self) -> tuple[tuple[str, str], ...]:
        return self._watch.current().config.headers if self._watch is not None else ()


class Exchange(HTTPMessageDelegate):
    """A request as it comes in, and the way for its answer to go out."""

    def __init__(self, desk: Desk, peer: Peer, connection: HTTPConnection) -> None:
        self.peer = peer
        self.start = RequestStartLine("", "", "")
        self.headers = HTTPHeaders()
        self._desk = desk
        self._connection = connection

    @property
    def path(self) -> str:
        """What is asked for."""
        return path_of(self.start.path)

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        """Remember what is asked; called by the library."""
        if isinstance(start_line, RequestStartLine):
            self.start = start_line
        self.headers = headers
        return None

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        """Drop a part of a body; its size is limited by the library."""

    def finish(self) -> None:
        """The request is there as a whole.

        The library goes on reading what came before a connection was closed; there is nobody to answer then.
        """
        if not self.is_open():
            return
        self._desk.connections.busy(self.peer)
        self._desk.answer(self)

    def on_connection_close(self) -> None:
        """The client has gone before its request was there: nothing is left to do."""

    def is_open(self) -> bool:
        """Whether the client is still there."""
        return not self.peer.stream.closed()

    def send(self, answer: Answer, configured: tuple[tuple[str, str], ...], *, close: bool = False) -> None:
        """Send the answer.

        Args:
            answer: to send.
            configured: headers that replace those of :data:`HEADERS`.
            close: the connection after it, as the client may want as well.
        """
        close = close or wants_close(self.headers)
        body = answer.body
        headers = _headers(answer, configured)
        headers["Content-Type"] = answer.kind
        if close:
            headers["Connection"] = "close"
        if accepts_gzip(self.headers.get("Accept-Encoding", "")) and answer.packed is not None:
            headers["Content-Encoding"] = "gzip"
            body = answer.packed
        headers["Content-Length"] = str(len(body))
        self._desk.answered[answer.status] += 1
        start = ResponseStartLine("HTTP/1.1", answer.status, HTTPStatus(answer.status).phrase)
        chunk = None if self.start.method == "HEAD" else body
        sent = self._connection.write_headers(start, headers, chunk)
        self._connection.finish()
        if sent.done():
            self._sent(close=close)
        else:
            self._desk.connections.sending(self.peer)
            sent.add_done_callback(lambda _: self._sent(close=close))

    def _sent(self, *, close: bool) -> None:
        """The answer has left the process."""
        if close:  # the library does it by itself only where `close` is all that the client says
            self.peer.close()
        else:
            self._desk.connections.idle(self.peer)


def _headers(answer: Answer, configured: tuple[tuple[str, str], ...]) -> HTTPHeaders:
    """Those that every answer has; `configured` ones replace those of :data:`HEADERS`."""
    headers = HTTPHeaders(HEADERS)
    headers["Date"] = formatdate(usegmt=True)
    for name, value in (*configured, *_EXTRA.get(answer.status, {}).items()):
        headers[name] = value
    return headers
