# SPDX-License-Identifier: Apache-2.0
"""What the lines of a request mean."""

from __future__ import annotations

import pytest
from tornado.httputil import HTTPHeaders

from tdx_headroom.web.http_semantics import (
    accepts_gzip,
    asked_collectors,
    has_good_host,
    path_of,
    wants_close,
    wants_openmetrics,
)

PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("gzip", True),
        ("deflate, GZIP;q=0.5", True),
        ("x-gzip", True),
        ("*", True),
        ("gzip;q=0.2, *;q=0", True),
        ("gzip;q=0.001", True),
        ("identity;q=0.5, gzip;q=0.5", True),
        ("identity;q=0, gzip;q=0.1", True),
        ("", False),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip; q=0.0, *", False),
        ("gzip;Q=0.0000", False),
        ("gzip ; q = 0", False),
        ('gzip;q="0"', False),
        ("*;q=0", False),
        ("identity, gzip;q=0.5", False),
        ("gzipped", False),
        ("gzip;q=nan", False),
        ("gzip;q=-1", False),
        ("gzip;q=", False),
        ('x="gzip, gzip"', False),
    ],
)
def test_accept_encoding(header: str, *, expected: bool) -> None:
    """Gzip is sent to those who say that they take it, and do not like the plain body better."""
    assert accepts_gzip(header) is expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (PROMETHEUS_3, True),
        ("application/openmetrics-text", True),
        ("Application/OpenMetrics-Text; Version=1.0.0; charset=utf-8", True),
        ("application/openmetrics-text;q=0.5, text/plain;q=0.4", True),
        ("text/plain, application/openmetrics-text", True),
        ("text/plain;q=0, application/openmetrics-text;q=0.1", True),
        ("application/*, text/*;q=0.5", True),
        ("text/plain;version=1.0.0, application/openmetrics-text;q=0.2", True),
        ("", False),
        ("*/*", False),
        ("text/plain", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=0, */*", False),
        ("application/openmetrics-text;q=0.000, text/plain;q=0", False),
        ("application/openmetrics-text;q=0.3, text/plain", False),
        ("application/openmetrics-text;q=0.3, text/*;q=0.9", False),
        ("application/openmetrics-text;q=0.3, */*", False),
        ("application/openmetrics-text;version=0.0.1", False),
        ("application/openmetrics-text;version=2.0.0", False),
        ("application/openmetrics-textual", False),
        ('text/plain;x="application/openmetrics-text,application/openmetrics-text"', False),
        ("application/openmetrics-text;q=high", False),
    ],
)
def test_accept(header: str, *, expected: bool) -> None:
    """OpenMetrics is sent to those who name it in our version, and do not like the text format better."""
    assert wants_openmetrics(header) is expected


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/metrics", "/metrics"),
        ("/metrics?name[]=up", "/metrics"),
        ("//metrics", "//metrics"),
        ("http://host:10110/metrics", "/metrics"),
        ("HTTPS://user@[::1]:1/-/ready?x=/y", "/-/ready"),
        ("http://host", "/"),
        ("http://host?x", "/"),
        ("http://[::1/metrics", ""),
        ("ftp://host/metrics", "ftp://host/metrics"),
        ("host:443", "host:443"),
        ("*", "*"),
        ("/http://host/metrics", "/http://host/metrics"),
    ],
)
def test_target(target: str, path: str) -> None:
    """A path is asked for by itself, or as a proxy is asked: by a whole URL."""
    assert path_of(target) == path


def headers(*lines: tuple[str, str]) -> HTTPHeaders:
    found = HTTPHeaders()
    for name, value in lines:
        found.add(name, value)
    return found


@pytest.mark.parametrize("host", ["x", "example.org:10110", "[2001:db8::1]:10110", "10.0.0.1", "", "a_b"])
def test_one_host_is_good(host: str) -> None:
    """A name or address, with a port or without; a client that knows none says so by an empty one."""
    assert has_good_host("HTTP/1.1", headers(("Host", host)))
    assert has_good_host("HTTP/1.0", headers(("Host", host)))


@pytest.mark.parametrize("host", ["a b", "a/b", "http://x", "[::1", "x:y", "a,b:1:2", "ä", "x@y"])
def test_a_host_that_is_none(host: str) -> None:
    """What is no name, no address or no port is refused."""
    assert not has_good_host("HTTP/1.1", headers(("Host", host)))


def test_no_host_and_two() -> None:
    """Only HTTP/1.0 knows requests without a Host; two of them are never right, nor if they are the same."""
    assert not has_good_host("HTTP/1.1", headers())
    assert has_good_host("HTTP/1.0", headers())
    for version in ("HTTP/1.0", "HTTP/1.1"):
        assert not has_good_host(version, headers(("Host", "x"), ("host", "x")))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["close"], True),
        (["keep-alive, close"], True),
        (["TE ,CLOSE"], True),
        (["keep-alive", "close"], True),
        (["keep-alive"], False),
        (["closed, not-close"], False),
        ([], False),
    ],
)
def test_connection(values: list[str], *, expected: bool) -> None:
    """`close` is asked for wherever it is in the list, or in the lists."""
    assert wants_close(headers(*(("Connection", value) for value in values))) is expected


@pytest.mark.parametrize(
    ("target", "asked"),
    [
        ("/metrics", set()),
        ("/metrics?collect[]=http&collect%5B%5D=python", {"http", "python"}),
        ("http://host:10110/metrics?collect[]=http", {"http"}),
        ("/metrics?collect[]=", {""}),
        ("/metrics?name[]=up", set()),
        ("/metrics?" + "&".join(["a=b"] * 40), None),
        ("http://[::1/metrics?collect[]=http", None),
    ],
)
def test_collectors_that_are_asked_for(target: str, asked: set[str] | None) -> None:
    """`collect[]` as node_exporter has it; a query that makes no sense is known to make none."""
    assert asked_collectors(target) == asked
