# SPDX-License-Identifier: Apache-2.0
"""Serves the expositions of any number of hosts, each under a path of its own, from one process.

What a host exports is what a real agent exported for a captured host. The values that move on a real host
move here too, and there are twenty BIOS versions.

    python -m tests.scale.fleet PORT EXPOSITION…
"""

from __future__ import annotations

import asyncio
import re
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path

MOVING = re.compile(
    rb"^(?:tdx_headroom_assessment_(?:timestamp|duration)_seconds"
    rb"|tdx_headroom_source_read_timestamp_seconds\{.*\}"
    rb"|tdx_headroom_http_requests_total\{code=\"200\"\}"
    rb"|process_cpu_seconds_total|process_resident_memory_bytes) (.*)$",
    re.MULTILINE,
)
"""Series whose value is another at every scrape."""

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: %d\r\n\r\n"

SHARES = (80, 10, 5, 5)
"""How many of 100 hosts are like the first, second, third and fourth exposition."""


@dataclass(frozen=True)
class Exposition:
    """Text with gaps for the values that move."""

    pieces: tuple[bytes, ...]
    names: tuple[bytes, ...]

    def text(self, host: int, now: float) -> bytes:
        parts = [self.pieces[0]]
        for name, piece in zip(self.names, self.pieces[1:], strict=True):
            if b"timestamp" in name:
                value = now - host % 60
            elif b"duration" in name:
                value = 0.004 + (host * 7 + int(now)) % 100 / 1e4
            elif b"resident" in name:
                value = (36 << 20) + (host * 4096) % (1 << 20)
            else:
                value = now % 1e6 / 60
            parts += [b"%.3f" % value, piece]
        return b"".join(parts)


def cut(text: bytes) -> Exposition:
    """An exposition with gaps."""
    pieces, names, at = [], [], 0
    for match in MOVING.finditer(text):
        pieces.append(text[at : match.start(1)])
        names.append(match[0].split(b"{")[0].split(b" ")[0])
        at = match.end(1)
    return Exposition((*pieces, text[at:]), tuple(names))


def kind_of(host: int, kinds: int) -> int:
    """Which exposition a host has."""
    left = host % 100
    for kind, share in enumerate(SHARES[:kinds]):
        if left < share:
            return kind
        left -= share
    return 0


class Scrape(asyncio.Protocol):
    """One connection of Prometheus, which stays open."""

    expositions: tuple[Exposition, ...] = ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.request = b""

    def data_received(self, data: bytes) -> None:
        self.request += data
        while b"\r\n\r\n" in self.request:
            head, _, self.request = self.request.partition(b"\r\n\r\n")
            host = int(head.split(b"/", 2)[1])
            exposition = self.expositions[kind_of(host, len(self.expositions))]
            body = exposition.text(host, time.time())
            body = body.replace(b'bios_version="', b'bios_version="%d.' % (host % 20))
            self.transport.write(HEAD % len(body) + body)


async def serve(port: int) -> None:
    """Until killed."""
    server = await asyncio.get_running_loop().create_server(Scrape, "127.0.0.1", port, backlog=4096)
    print("serving", flush=True)
    await server.serve_forever()


def main() -> None:
    """See the module."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    Scrape.expositions = tuple(cut(Path(file).read_bytes()) for file in sys.argv[2:])
    asyncio.run(serve(int(sys.argv[1])))


if __name__ == "__main__":
    main()
