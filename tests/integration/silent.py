# SPDX-License-Identifier: Apache-2.0
"""Connects again and again and never says a word: `python -m tests.integration.silent PORT A_SECOND SOURCE`.

It keeps only so many open: a server that accepts more slowly than it is to connect is given as many as it can
take. Prints a line when it has connected that often, and goes on until it is killed.
"""

from __future__ import annotations

import select
import socket
import sys
import time

from tests.integration.flood import BIND_ADDRESS_NO_PORT

KEPT = 1000


def connect(port: int, source: str) -> socket.socket:
    client = socket.socket()
    client.setblocking(False)
    client.setsockopt(socket.IPPROTO_IP, BIND_ADDRESS_NO_PORT, 1)
    client.bind((source, 0))
    client.connect_ex(("127.0.0.1", port))
    return client


def main() -> None:
    port, a_second, source = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
    opened: dict[int, socket.socket] = {}
    closed = select.epoll()
    began = time.monotonic()
    done = 0
    while True:
        for descriptor, _ in closed.poll(0.002):
            opened.pop(descriptor).close()
        due = int((time.monotonic() - began) * a_second) - done
        for _ in range(min(due, KEPT - len(opened))):
            client = connect(port, source)
            opened[client.fileno()] = client
            closed.register(client, select.EPOLLRDHUP)
            done += 1
            if done == KEPT:
                print("begun", flush=True)


if __name__ == "__main__":
    main()
