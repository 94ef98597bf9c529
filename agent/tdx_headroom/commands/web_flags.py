# SPDX-License-Identifier: Apache-2.0
"""The ``--web.*`` flags, named as in the Prometheus exporters."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from tdx_headroom.commands.arguments import file_name
from tdx_headroom.commands.collector_flags import add_collectors, collectors
from tdx_headroom.output.metric_families import HTTP, PYTHON, SOURCES, STRATEGIES
from tdx_headroom.web.settings import Address, UnixAddress, WebSettings

if TYPE_CHECKING:
    import socket

DEFAULT_PORT = 10110
DEFAULT_REQUESTS = 40
TAKEN_PATHS = ("/", "/style.css", "/api/v1/plan", "/-/healthy", "/-/ready")


def _file(text: str) -> Path:
    return Path(file_name(text))


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add all of them."""
    parser.add_argument(
        "--web.listen-address",
        dest="addresses",
        action="append",
        type=_address,
        metavar="ADDRESS",
        help=f"where to listen: [HOST]:PORT or unix:/PATH; repeatable (default :{DEFAULT_PORT})",
    )
    parser.add_argument(
        "--web.systemd-socket",
        dest="systemd_socket",
        action="store_true",
        help="listen on the sockets that systemd hands over instead",
    )
    parser.add_argument(
        "--web.config.file",
        dest="web_config",
        type=_file,
        metavar="FILE",
        help="TLS, passwords and headers, as in the Prometheus exporter-toolkit",
    )
    parser.add_argument(
        "--web.telemetry-path",
        dest="telemetry_path",
        type=_path,
        default="/metrics",
        metavar="PATH",
        help="where the metrics are (default /metrics)",
    )
    parser.add_argument(
        "--web.max-requests",
        dest="max_requests",
        type=_requests,
        default=DEFAULT_REQUESTS,
        metavar="N",
        help=f"requests that may wait at once, 0: no limit (default {DEFAULT_REQUESTS})",
    )
    parser.add_argument(
        "--web.full-addresses",
        dest="full_addresses",
        action="store_true",
        help="show addresses finer than 1 GiB over TCP too",
    )
    parser.add_argument(
        "--web.runbook-url",
        dest="runbook_url",
        type=_url,
        metavar="URL",
        help="where your operators read docs/runbooks: the page links to those of its findings",
    )
    parser.add_argument(
        "--web.disable-exporter-metrics",
        dest="exporter_metrics",
        action="store_false",
        help="leave out process_* and python_* metrics",
    )
    add_collectors(parser, STRATEGIES, SOURCES, HTTP, PYTHON)


def settings_from(options: argparse.Namespace, sockets: tuple[socket.socket, ...] = ()) -> WebSettings:
    """What the flags say.

    Args:
        options: parsed.
        sockets: that systemd has handed over.
    """
    given = options.addresses
    if given is None and not options.systemd_socket:
        given = [Address("", DEFAULT_PORT)]
    return WebSettings(
        addresses=tuple(given or ()),
        sockets=sockets if options.systemd_socket else (),
        telemetry_path=options.telemetry_path,
        full_addresses=options.full_addresses,
        config_file=options.web_config,
        max_requests=options.max_requests,
        runbook_url=options.runbook_url,
        collectors=collectors(options),
    )


def _address(text: str) -> Address | UnixAddress:
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/") or path.endswith("/") or "\0" in path:
            raise argparse.ArgumentTypeError(f"{text!r} is not unix:/PATH")
        return UnixAddress(path)
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not [HOST]:PORT or unix:/PATH")
    return Address(host, int(port))


def _path(text: str) -> str:
    if not re.fullmatch(r"/[A-Za-z0-9/_.-]*", text) or text in TAKEN_PATHS:
        raise argparse.ArgumentTypeError(f"{text!r} is no free path such as /metrics")
    return text


def _url(text: str) -> str:
    if not re.fullmatch(r"https?://[!#-;=?-~]+", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text!r} is no URL such as https://wiki.example/runbooks")
    return text


def _requests(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of requests")
    return int(text)
