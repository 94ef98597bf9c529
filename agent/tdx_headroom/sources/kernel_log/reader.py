# SPDX-License-Identifier: Apache-2.0
"""Finds a host's kernel log and reads it."""

from __future__ import annotations

import os
import re
from functools import partial
from typing import TYPE_CHECKING

from tdx_headroom.errors import SourceError, one_line
from tdx_headroom.facts.observations import unread_in_words
from tdx_headroom.sources.kernel_log import kmsg
from tdx_headroom.sources.kernel_log.known_lines import matters
from tdx_headroom.sources.kernel_log.records import SOURCE
from tdx_headroom.sources.kernel_log.tdx_lines import mentions_tdx
from tdx_headroom.sources.reading import Reading, attempt

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tdx_headroom.hostfs.files import HostFiles
    from tdx_headroom.sources.kernel_log.records import BootLog, KernelLog

MAX_LOG = 256 << 20

# Where a captured tree keeps its log: a plain dmesg, or what sos(1) collects. Earlier boots' are no use.
_OWN_TEXT = "dmesg"
_JOURNAL = re.compile(r"journalctl(?!.*--boot_-)(?!.*--(?:list-boots|disk-usage|header))[^/]{0,80}")
_COLLECTED = (
    ("sos_commands/tdx_headroom", _JOURNAL),
    ("sos_commands/kernel", re.compile(r"dmesg[^/]{0,80}")),
    ("sos_commands/logs", _JOURNAL),
    ("var/log", re.compile(r"dmesg|kern\.log|messages|syslog")),
)

_EARLIER = re.compile(r"journalctl(?=.*--boot_-[0-9])[^/]{0,80}")
"""What sos(1) keeps of the boot before."""

LOG_PATHS = re.compile(
    "|".join((kmsg.PATH, _OWN_TEXT, *(f"{folder}/(?:{names.pattern})" for folder, names in _COLLECTED)))
)
"""Every path at which a log may lie."""

ALL_LOG_PATHS = re.compile(f"{LOG_PATHS.pattern}|sos_commands/logs/(?:{_EARLIER.pattern})")
"""The same, with those of earlier boots alone."""


def read_kernel_log(root: HostFiles) -> Reading[KernelLog]:
    """The log of the running boot, or the one in a captured tree."""
    if root.live or root.exists(kmsg.PATH):
        return attempt(SOURCE, root.locate(kmsg.PATH), lambda: _read_kmsg(root))
    if root.exists(_OWN_TEXT):
        return _read_text(root, _OWN_TEXT)
    return _best(root) or attempt(SOURCE, root.locate(kmsg.PATH), lambda: _read_kmsg(root))


def _best(root: HostFiles) -> Reading[KernelLog] | None:
    """Of all logs that were collected, the one that tells most about the boot: dmesg may have lost it."""
    best: Reading[KernelLog] | None = None
    most = -1
    for folder, names in _COLLECTED:
        entries = attempt(SOURCE, folder, partial(root.entries, SOURCE, folder)).value or []
        for name in entries:
            if names.fullmatch(name):
                reading = _read_text(root, f"{folder}/{name}")
                lines = sum(matters(r.text) for r in reading.value.records) if reading.value else -1
                if best is None or lines > most:
                    best, most = reading, lines
    return best


def _read_text(root: HostFiles, path: str) -> Reading[KernelLog]:
    def read() -> KernelLog:
        return _boots_of(root.read(SOURCE, path, limit=MAX_LOG))[-1].log

    return attempt(SOURCE, root.locate(path), read)


def _boots_of(text: str) -> list[BootLog]:
    # Loaded here: what reads /dev/kmsg does without it.
    from tdx_headroom.sources.kernel_log.text import parse_boots  # noqa: PLC0415

    return parse_boots(text)


def _read_kmsg(root: HostFiles) -> KernelLog:
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


def earlier_boots(root: HostFiles) -> list[BootLog]:
    """Boots before the last one, of a captured tree's logs; a log that cannot be read tells of none.

    Several logs may hold the same boots, and few have ids in them: of those the one that holds most counts.
    """
    if root.live:
        return []
    alone = [boot for path in _logs_in(root, "sos_commands/logs", _EARLIER) for boot in _boots_in(root, path)]
    logs = [_boots_in(root, path)[:-1] for place in _COLLECTED for path in _logs_in(root, *place)]
    return [*max(logs, key=len, default=[]), *alone]


def boots_in_texts(texts: Mapping[str, str]) -> list[BootLog]:
    """The boots of the text that holds most of them, the one that it is about last."""
    return max((_boots_of(text) for text in texts.values()), key=len)


def _logs_in(root: HostFiles, folder: str, names: re.Pattern[str]) -> list[str]:
    entries = attempt(SOURCE, folder, partial(root.entries, SOURCE, folder)).value or []
    return [f"{folder}/{name}" for name in sorted(entries) if names.fullmatch(name)]


def _boots_in(root: HostFiles, path: str) -> list[BootLog]:
    def read() -> list[BootLog]:
        return _boots_of(root.read(SOURCE, path, limit=MAX_LOG))

    return attempt(SOURCE, root.locate(path), read).value or []


def read_log_file(path: str, text: str) -> Reading[KernelLog]:
    """A log that a user names, already read."""

    def read() -> KernelLog:
        log = _boots_of(text)[-1].log
        told = log.records if log.own is None else log.own or log.loose or log.untrusted
        if not told:
            unread = log.unread or [record.text for record in log.records if mentions_tdx(record.text)]
            said = f"; {unread_in_words(len(unread), one_line(unread[0], 120))}" if unread else ""
            raise SourceError(SOURCE, f"no kernel message in {path}{said}", hint="give what dmesg prints")
        return log

    return attempt(SOURCE, path, read)
