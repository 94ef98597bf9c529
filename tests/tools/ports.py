# SPDX-License-Identifier: Apache-2.0
"""A TCP port for a server that a test starts."""

from __future__ import annotations

import random
import socket
from pathlib import Path

_LOWEST = 10240
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_given: set[int] = set()


def free_port() -> int:
    """A port on which nobody listens, each once a process.

    None that the kernel gives to clients, if it leaves any: one of them could take it before the server has.
    """
    low, high = map(int, _EPHEMERAL.read_text().split())
    ports = range(_LOWEST, 1 << 16)
    while True:
        port = random.choice([port for port in ports if not low <= port <= high] or ports)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in _given:
            _given.add(port)
            return port
