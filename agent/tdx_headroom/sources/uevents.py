# SPDX-License-Identifier: Apache-2.0
"""Kernel uevents of memory blocks: NETLINK_KOBJECT_UEVENT, group 1 (lib/kobject_uevent.c)."""

from __future__ import annotations

import re
import socket

NETLINK_KOBJECT_UEVENT = 15
KERNEL_GROUP = 1
KERNEL_PORT = 0
MAX_EVENT = 1 << 13
RECEIVE_BUFFER = 1 << 20
"""A terabyte added at once is thousands of events."""

_MEMORY_EVENT = re.compile(rb"(add|remove|online|offline|change)@/devices/system/memory/memory[0-9]{1,9}\0")


def open_uevents() -> socket.socket | None:
    """A socket that gets the kernel's uevents; None where the sandbox or the kernel has none."""
    kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    try:
        opened = socket.socket(socket.AF_NETLINK, kind, NETLINK_KOBJECT_UEVENT)
    except OSError:
        return None
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        opened.bind((0, KERNEL_GROUP))
    except OSError:
        opened.close()
        return None
    return opened


def is_memory_event(data: bytes, port: int) -> bool:
    """Whether a message is the kernel's word that memory was added, removed, or changed its state.

    Args:
        data: the message.
        port: port id of its sender; anybody's but 0 is not the kernel's.
    """
    return port == KERNEL_PORT and _MEMORY_EVENT.match(data) is not None


def drain(opened: socket.socket) -> bool:
    """Read all that is there; whether the memory may have changed."""
    changed = False
    while True:
        try:
            data, address = opened.recvfrom(MAX_EVENT)
        except BlockingIOError:
            return changed
        except OSError:
            # ENOBUFS: events were dropped, so that nothing is certain but that there were many.
            return True
        changed = is_memory_event(data, address[0]) or changed
