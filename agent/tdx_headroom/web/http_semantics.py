# SPDX-License-Identifier: Apache-2.0
"""What the lines of a request mean, by RFC 9110 and 9112: target, host, connection, and what it accepts."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qs, urlsplit
from urllib.request import parse_http_list

if TYPE_CHECKING:
    from tornado.httputil import HTTPHeaders

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[\w.~%!$&'()*+,;=-]*)(:[0-9]*)?", re.ASCII)


def path_of(target: str) -> str:
    """The path that is asked for, without query; of a whole URL, as a proxy is asked, the path in it."""
    if target.lower().startswith(("http://", "https://")):
        try:
            return urlsplit(target).path or "/"
        except ValueError:
            return ""
    return target.partition("?")[0]


@lru_cache(16)
def asked_collectors(target: str) -> frozenset[str] | None:
    """Values of the parameter ``collect[]``, as node_exporter has it; None where the query makes no sense."""
    try:
        query = parse_qs(urlsplit(target).query, keep_blank_values=True, max_num_fields=32)
    except ValueError:
        return None
    return frozenset(query.get("collect[]", ()))


def has_good_host(version: str, headers: HTTPHeaders) -> bool:
    """Whether the request has one Host, as it must; HTTP/1.0 need not have one."""
    hosts = headers.get_list("Host")
    if not hosts:
        return version == "HTTP/1.0"
    return len(hosts) == 1 and _HOST.fullmatch(hosts[0].strip()) is not None


def wants_close(headers: HTTPHeaders) -> bool:
    """Whether the client asks for the connection to be closed, among whatever else it says about it."""
    return "close" in (word.strip().lower() for word in headers.get("Connection", "").split(","))


class _Choice(NamedTuple):
    """One thing that a client accepts; `version` of a media type, empty: any."""

    name: str
    version: str
    quality: float


@lru_cache(16)
def accepts_gzip(header: str) -> bool:
    """Whether an Accept-Encoding header takes gzip, and likes it no less than the plain body."""
    found = {choice.name: choice.quality for choice in reversed(_choices(header))}
    gzip = found.get("gzip", found.get("x-gzip", found.get("*", 0)))
    return gzip > 0 and gzip >= found.get("identity", 0)


@lru_cache(16)
def wants_openmetrics(header: str) -> bool:
    """Whether an Accept header names OpenMetrics 1.0.0, and likes it no less than the text format 0.0.4."""
    choices = _choices(header)
    openmetrics = _quality(choices, "application/openmetrics-text", "1.0.0")
    text = _quality(choices, "text/plain", "0.0.4", "*/*")
    return openmetrics > 0 and openmetrics >= text


def _quality(choices: list[_Choice], name: str, version: str, anything: str = "") -> float:
    """How much a media type is liked: by its own name, else by that of its kind, else as anything."""
    for wanted in (name, name.partition("/")[0] + "/*", anything):
        found = [c.quality for c in choices if c.name == wanted and c.version in ("", version)]
        if found:
            return max(found)
    return 0


def _choices(header: str) -> list[_Choice]:
    found = []
    for text in parse_http_list(header):
        name, *parameters = text.lower().split(";")
        values = dict(_parameter(parameter) for parameter in parameters)
        found.append(_Choice(name.strip(), values.get("version", ""), _number(values.get("q", "1"))))
    return found


def _parameter(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name.strip(), value.strip().strip('"')


def _number(text: str) -> float:
    """A quality; one that cannot be read is 0: what is not asked for in clear words is not sent."""
    try:
        value = float(text)
    except ValueError:
        return 0
    return value if 0 <= value <= 1 else 0
