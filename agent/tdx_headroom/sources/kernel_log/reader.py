# SPDX-License-Identifier: Apache-2.0
"""Finds a host's kernel log and reads it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tdx_headroom.errors import SourceError
from tdx_headroom.reading import Reading, attempt
from tdx_headroom.sources.kernel_log import kmsg
from tdx_headroom.sources.kernel_log.text import parse_log_text

if TYPE_CHECKING:
    from tdx_headroom.root import Root
    from tdx_headroom.sources.kernel_log.records import KernelLog

SOURCE = "kernel-log"
MAX_LOG = 256 << 20

# Where a captured tree keeps its log: a plain dmesg, or what sos(1) collects.
_TEXTS = ("dmesg", "sos_commands/kernel/dmesg", "sos_commands/kernel/dmesg_-T", "var/log/dmesg")


def read_kernel_log(root: Root) -> Reading[KernelLog]:
    """The log of the running boot, or the one in a captured tree."""
    path = kmsg.PATH
    if not root.live and not root.exists(path):
        path = next((text for text in _TEXTS if root.exists(text)), path)
    if path == kmsg.PATH:
        return attempt(SOURCE, root.locate(path), lambda: _read_kmsg(root))
    return attempt(SOURCE, root.locate(path), lambda: parse_log_text(root.read(SOURCE, path, limit=MAX_LOG)))


def _read_kmsg(root: Root) -> KernelLog:
    path = kmsg.PATH
    descriptor = root.descriptor(path)
    if descriptor is not None:
        # The oldest record again: a descriptor from systemd is read over and over.
        try:
            os.lseek(descriptor, 0, os.SEEK_SET)
        except OSError as error:
            raise SourceError(SOURCE, f"descriptor for {path}: {os.strerror(error.errno or 0)}") from None
        return kmsg.read_kmsg_device(descriptor)
    fd = root.open(SOURCE, kmsg.PATH)
    try:
        if kmsg.is_device(fd):
            return kmsg.read_kmsg_device(fd)
    finally:
        os.close(fd)
    return kmsg.parse_kmsg(root.read(SOURCE, kmsg.PATH, limit=MAX_LOG))


def read_log_file(path: str, text: str) -> Reading[KernelLog]:
    """A log that a user names, already read."""

    def read() -> KernelLog:
        log = parse_log_text(text)
        if not log.records:
            raise SourceError(SOURCE, f"no kernel message in {path}", hint="give what dmesg prints")
        return log

    return attempt(SOURCE, path, read)
