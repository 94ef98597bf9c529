# SPDX-License-Identifier: Apache-2.0
"""Requests and their answers: who may ask, whether there is room, and what is sent back."""

from __future__ import annotations

import asyncio
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, cast

from tornado.httputil import (
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
    RequestStartLine,
    ResponseStartLine,
)

from tdx_headroom import log
from tdx_headroom.errors import place_of
from tdx_headroom.web.fair_lock import FairLock
from tdx_headroom.web.http_semantics import (
    accepts_gzip,
    asked_collectors,
    has_good_host,
    path_of,
    wants_close,
)
from tdx_headroom.web.pages import Answer, plain

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Awaitable

    from tornado.http1connection import HTTP1Connection
    from tornado.httputil import HTTPConnection

    from tdx_headroom.web.basic_auth import Authenticator, Credentials
    from tdx_headroom.web.config_reload import ConfigWatch
    from tdx_headroom.web.connection import Connection
    from tdx_headroom.web.connections import Connections
    from tdx_headroom.web.pages import Pages
    from tdx_headroom.web.settings import WebSettings

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


class RequestHandler(HTTPServerConnectionDelegate):
    """Answers requests.

    Args:
        pages: what to answer.
        connections: where to note how far each connection is.
        watch: the web configuration; None: plain HTTP for everybody.
        settings: how many requests may wait for their password to be checked, how long, and what they show.
    """

    def __init__(
        self, pages: Pages, connections: Connections, watch: ConfigWatch | None, settings: WebSettings
    ) -> None:
        self.connections = connections
        self.answered = dict.fromkeys(CODES, 0)
        self._pages = pages
        self._watch = watch
        self._settings = settings
        self._bcrypt = FairLock(settings.most_requests)
        self._checks: set[asyncio.Task[None]] = set()

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> Request:  # noqa: ARG002  the library's signature
        """A request begins to come in; called by the library."""
        return Request(self, cast("HTTP1Connection", request_conn))

    def handle(self, request: Request) -> None:
        """Answer a request, at once or when its password has been checked."""
        private = request.connection.private
        loaded = self._watch.current() if self._watch is not None and not private else None
        answer: Answer | None
        if not has_good_host(request.start.version, request.headers):
            answer = BAD
        elif loaded is not None and loaded.bucket is not None and not loaded.bucket.take():
            answer = TOO_MANY
        elif loaded is None or loaded.authenticator is None or request.path in loaded.config.open_paths:
            answer = self._look_up(request)
        else:
            answer = self._authenticate(request, loaded.authenticator)
        if answer is not None:
            request.send(answer)

    def refusal(self) -> bytes:
        """What somebody gets who does not speak HTTP; the connection is closed after it."""
        self.answered[400] += 1
        headers = self.headers(BAD)
        headers["Connection"] = "close"
        headers["Content-Length"] = "0"
        lines = [f"{name}: {value}" for name, value in headers.get_all()]
        return "\r\n".join(["HTTP/1.1 400 Bad Request", *lines, "", ""]).encode("latin1")

    def headers(self, answer: Answer) -> HTTPHeaders:
        """Those that every answer has; configured ones replace those of :data:`HEADERS`."""
        headers = HTTPHeaders(HEADERS)
        headers["Date"] = formatdate(usegmt=True)
        configured = self._watch.current().config.headers if self._watch is not None else ()
        for name, value in (*configured, *_EXTRA.get(answer.status, {}).items()):
            headers[name] = value
        return headers

    def close(self) -> None:
        """Let nobody wait any longer."""
        for task in self._checks:
            task.cancel()

    def _authenticate(self, request: Request, authenticator: Authenticator) -> Answer | None:
        """The answer; None: it comes when the password has been checked."""
        from tdx_headroom.web.basic_auth import read_credentials  # noqa: PLC0415  only with passwords

        given = read_credentials(request.headers.get("Authorization", ""))
        if given is None:
            return UNAUTHORIZED
        if authenticator.recognizes(given):
            return self._look_up(request)
        place = self._bcrypt.enter(request.connection.origin)
        if place is None:
            return FULL
        task = asyncio.create_task(self._answer_later(request, given, place))
        self._checks.add(task)
        task.add_done_callback(self._checks.discard)
        return None

    async def _answer_later(self, request: Request, given: Credentials, place: Future[bool]) -> None:
        try:
            answer = await self._check(request, given, place)
        except Exception as error:  # noqa: BLE001  the client must not wait for ever, whatever it is
            # Its text might quote the password.
            log.failure_at("a password cannot be checked", place_of(error), type(error).__name__)
            answer = BROKEN
        if request.is_open():
            request.send(answer)

    async def _check(self, request: Request, given: Credentials, place: Future[bool]) -> Answer:
        """The answer, by the users that are in force when the check is over."""
        if not await self._bcrypt.wait(place, self._settings.limits.auth_seconds):
            return FULL
        try:
            while self._watch is not None and request.is_open():
                authenticator = self._watch.current().authenticator
                right = authenticator is None or await authenticator.check(given)
                if authenticator is self._watch.current().authenticator:
                    return self._look_up(request) if right else UNAUTHORIZED
            return FULL  # nobody is there to take it
        finally:
            self._bcrypt.release()

    def _look_up(self, request: Request) -> Answer:
        if request.start.method not in METHODS:
            return NOT_ALLOWED
        full = self._settings.full_addresses or request.connection.private
        try:
            accept = request.headers.get("Accept", "")
            return self._pages.get(
                request.path, accept, full=full, asked=asked_collectors(request.start.path)
            )
        except Exception as error:  # noqa: BLE001  one page that cannot be rendered must not close the others
            log.failure("a page cannot be rendered", error)
            return BROKEN


class Request(HTTPMessageDelegate):
    """A request as it comes in, and the way for its answer to go out."""

    def __init__(self, handler: RequestHandler, exchange: HTTP1Connection) -> None:
        self.connection = cast("Connection", exchange.context)
        self.start = RequestStartLine("", "", "")
        self.headers = HTTPHeaders()
        self._handler = handler
        self._exchange = exchange

    @property
    def path(self) -> str:
        """What is asked for."""
        return path_of(self.start.path)

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        """Remember what is asked, unless the client may not ask; called by the library."""
        if not self.connection.is_admitted():
            self.connection.close()
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
        if self.is_open():
            self._handler.connections.busy(self.connection)
            self._handler.handle(self)

    def on_connection_close(self) -> None:
        """The client has gone before its request was there: nothing is left to do."""

    def is_open(self) -> bool:
        """Whether the client is still there."""
        return not self.connection.closed()

    def send(self, answer: Answer) -> None:
        """Send the answer; close the connection after it if the client wants that, or makes no sense."""
        close = answer is BAD or wants_close(self.headers)
        body = answer.body
        headers = self._handler.headers(answer)
        headers["Content-Type"] = answer.kind
        if close:
            headers["Connection"] = "close"
        if accepts_gzip(self.headers.get("Accept-Encoding", "")) and answer.packed is not None:
            headers["Content-Encoding"] = "gzip"
            body = answer.packed
        headers["Content-Length"] = str(len(body))
        self._handler.answered[answer.status] += 1
        start = ResponseStartLine("HTTP/1.1", answer.status, HTTPStatus(answer.status).phrase)
        sent = self._exchange.write_headers(start, headers, None if self.start.method == "HEAD" else body)
        self._exchange.finish()
        if sent.done():
            self._sent(close=close)
        else:
            self._handler.connections.sending(self.connection)
            sent.add_done_callback(lambda _: self._sent(close=close))

    def _sent(self, *, close: bool) -> None:
        """The answer has left the process."""
        if close:  # the library does it by itself only where `close` is all that the client says
            self.connection.close()
        else:
            self._handler.connections.idle(self.connection)
