# SPDX-License-Identifier: Apache-2.0
"""A TCP port for a server that a test starts."""

from __future__ import annotations

import random
import socket
from pathlib import Path

_LOWEST = 10240
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_given: set[int] = set()


def free_port(address: str = "127.0.0.1") -> int:
    """A port on which nobody listens, each once a process.

    Below those that the kernel gives to clients: one of them could take it before the server has it.
    """
    below = int(_EPHEMERAL.read_text().split()[0])
    while True:
        port = random.randrange(_LOWEST, below)
        with socket.socket() as probe:
            try:
                probe.bind((address, port))
            except OSError:
                continue
        if port not in _given:
            _given.add(port)
            return port
