# SPDX-License-Identifier: Apache-2.0
"""Asks as fast as it can, over many connections, until its input, a pipe, ends.

`python -m tests.integration.flood --help` has its options. Each connection waits for an answer before it asks
again, or connects again if it is to have a new one for each. Prints a line when it begins, and at the end a
JSON object: how many answers by status, and how many connections were cut.
"""

from __future__ import annotations

import argparse
import json
import os
import selectors
import socket
import sys
import time
from dataclasses import dataclass, field

BIND_ADDRESS_NO_PORT = 24
"""The kernel's IP_BIND_ADDRESS_NO_PORT: a port that others use may be shared."""


@dataclass
class Client:
    """One connection: what has come so far, and how much of a body is to come."""

    socket: socket.socket
    head: bytes = b""
    missing: int | None = None


@dataclass
class Flood:
    port: int
    request: bytes
    reconnect: bool
    source: str = "127.0.0.1"
    tells: str | None = None
    selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    answers: dict[str, int] = field(default_factory=dict)
    cut: int = 0

    def connect(self) -> None:
        opened = socket.socket()
        opened.setblocking(False)
        opened.setsockopt(socket.IPPROTO_IP, BIND_ADDRESS_NO_PORT, 1)
        opened.bind((self.source, 0))
        opened.connect_ex(("127.0.0.1", self.port))
        self.selector.register(opened, selectors.EVENT_WRITE, Client(opened))

    def again(self, client: Client) -> None:
        self.selector.unregister(client.socket)
        client.socket.close()
        self.connect()

    def turn(self, client: Client, *, writable: bool) -> None:
        """Ask, or take what has come."""
        try:
            if writable:
                client.socket.send(self.request)
                self.selector.modify(client.socket, selectors.EVENT_READ, client)
                return
            data = client.socket.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            self.cut += 1
            self.again(client)
        elif self.take(client, data):
            if self.reconnect:
                self.again(client)
            else:
                client.head, client.missing = b"", None
                self.selector.modify(client.socket, selectors.EVENT_WRITE, client)

    def take(self, client: Client, data: bytes) -> bool:
        """Whether an answer is complete."""
        if client.missing is not None:
            client.missing -= len(data)
            return client.missing <= 0
        client.head += data
        head, end, body = client.head.partition(b"\r\n\r\n")
        if not end:
            return False
        rows = head.decode().split("\r\n")
        status = rows[0].split()[1]
        self.answers[status] = self.answers.get(status, 0) + 1
        if status == self.tells:
            print(status, flush=True)
        length = next(int(row.split()[1]) for row in rows if row.startswith("Content-Length:"))
        client.missing = length - len(body)
        return client.missing <= 0

    def run(self, connections: int, status: str, least: int) -> None:
        for _ in range(connections):
            self.connect()
        print("begun", flush=True)
        told = self.selector.register(sys.stdin, selectors.EVENT_READ)
        end = None
        while end is None or (self.answers.get(status, 0) < least and time.monotonic() < end):
            for key, events in self.selector.select(0.1):
                if key is told:
                    if not os.read(sys.stdin.fileno(), 1 << 16):
                        self.selector.unregister(sys.stdin)
                        end = time.monotonic() + 60
                else:
                    self.turn(key.data, writable=bool(events & selectors.EVENT_WRITE))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("connections", type=int)
    parser.add_argument("--reconnect", action="store_true")
    parser.add_argument("--path", default="/metrics")
    parser.add_argument("--header", default="X: x")
    parser.add_argument("--until", default="200=0", help="go on until so many answers have this status")
    parser.add_argument("--tell", help="print a line for each answer of this status")
    parser.add_argument("--source", default="127.0.0.1", help="address to ask from")
    options = parser.parse_args()
    lines = (f"GET {options.path} HTTP/1.1", "Host: localhost", options.header, "", "")
    flood = Flood(options.port, "\r\n".join(lines).encode(), options.reconnect, options.source, options.tell)
    status, _, least = options.until.partition("=")
    flood.run(options.connections, status, int(least))
    print(json.dumps({"answers": flood.answers, "cut": flood.cut}))


if __name__ == "__main__":
    main()
