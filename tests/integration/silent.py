# SPDX-License-Identifier: Apache-2.0
"""Connects again and again and never says a word: `python -m tests.integration.silent PORT A_SECOND SOURCE`.

Prints a line when as many are open as it keeps, and goes on until it is killed.
"""

from __future__ import annotations

import socket
import sys
import time
from collections import deque

from tests.integration.flood import BIND_ADDRESS_NO_PORT

KEPT = 1000


def main() -> None:
    port, a_second, source = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
    opened = deque[socket.socket]()
    began = time.monotonic()
    done = 0
    while True:
        due = int((time.monotonic() - began) * a_second)
        for _ in range(done, due):
            client = socket.socket()
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_IP, BIND_ADDRESS_NO_PORT, 1)
            client.bind((source, 0))
            client.connect_ex(("127.0.0.1", port))
            opened.append(client)
            if len(opened) > KEPT:
                opened.popleft().close()
        if done <= KEPT < due:
            print("begun", flush=True)
        done = max(done, due)
        time.sleep(0.002)


if __name__ == "__main__":
    main()
