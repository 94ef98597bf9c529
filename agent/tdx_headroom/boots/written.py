# SPDX-License-Identifier: Apache-2.0
"""The inventory that root has written for those who may not read boot configurations themselves.

``tdx-headroom-boots.service`` writes it; it counts only while it is root's, of this boot, and as new as all
that can be seen of the files that it was made from.
"""

from __future__ import annotations

import os
import posixpath
import stat
from typing import TYPE_CHECKING, Protocol

from tdx_headroom.boots.kexec import with_kexec
from tdx_headroom.boots.reasons import SOURCE, clause, reason_of
from tdx_headroom.boots.running import read_running
from tdx_headroom.boots.watched import changed_since
from tdx_headroom.errors import SourceError
from tdx_headroom.facts.boot_inventory import INVENTORY_PATH, MAX_INVENTORY, parse_taken
from tdx_headroom.facts.boots import BootEntry, BootInventory, Role
from tdx_headroom.hostfs.root import Root
from tdx_headroom.sources.platform import read_boot_id, relevant_arguments
from tdx_headroom.sources.reading import Reading

if TYPE_CHECKING:
    from tdx_headroom.facts.boot_inventory import Taken
    from tdx_headroom.hostfs.files import HostFiles

_ROOT = 0
_HINT = "`systemctl start tdx-headroom-boots.service` writes it"


def is_this_host(files: HostFiles) -> bool:
    """Whether these are files of the host that runs, be it seen from a container; else they are captured."""
    if files.live:
        return True
    boot_id = read_boot_id(files)
    return boot_id is not None and boot_id == read_boot_id(Root("/"))


class BootSource(Protocol):
    """What tells of a host's boot entries: a reader of boot configurations, or of what root wrote of them."""

    def read(
        self, files: HostFiles, release: str | None = None, line: str | None = None
    ) -> Reading[BootInventory]:
        """The inventory; None where there is nothing to boot.

        Args:
            files: of the host.
            release: of the running kernel, by the log; ``/proc`` comes first.
            line: the running command line, by the log.
        """


class WrittenInventory:
    """Reads the inventory, and says in its place why it does not count.

    Args:
        held: the text of one that was taken before root was given up; it counts where there is no file.
    """

    def __init__(self, held: str | None = None) -> None:
        self._held = held

    def read(
        self, files: HostFiles, release: str | None = None, line: str | None = None
    ) -> Reading[BootInventory]:
        """The inventory, or one that holds the running boot alone and why no more is known.

        Args:
            files: of the running host.
            release: of the running kernel, by the log; ``/proc`` comes first.
            line: the running command line, by the log.
        """
        origin = files.locate(INVENTORY_PATH)
        try:
            found = self._current(files)
        except SourceError as error:
            running = read_running(files, release, line)
            arguments = None if running.line is None else relevant_arguments(running.line)
            entry = BootEntry(
                release=running.release,
                arguments=arguments,
                roles=(Role.RUNNING,),
                known_from="the running kernel",
                differs=(),
            )
            why = reason_of(files, INVENTORY_PATH, error)
            found = BootInventory(entries=(entry,), unknown=why, configured=True)
        return Reading(SOURCE, origin, with_kexec(found, files))

    def _current(self, files: HostFiles) -> BootInventory:
        try:
            found, taken = parse_taken(_trusted_text(files))
        except SourceError as error:
            if self._held is None or not error.absent:
                raise
            found, taken = parse_taken(self._held)
        _check_age(files, taken)
        return found


def _trusted_text(files: HostFiles) -> str:
    """The file's text, if nobody but root can have written it.

    Raises:
        SourceError: somebody else can, or it cannot be read.
    """
    folder = posixpath.dirname(INVENTORY_PATH)
    for path in (folder, INVENTORY_PATH):
        try:
            fd = files.open(SOURCE, path)
        except SourceError as error:
            if error.absent:
                what = clause(INVENTORY_PATH, f"it is not there; {_HINT}")
                raise SourceError(SOURCE, what, absent=True) from None
            raise
        try:
            text = _of_root(fd, path, directory=path == folder)
        finally:
            os.close(fd)
    return text


def _of_root(fd: int, path: str, *, directory: bool) -> str:
    """What is in the file; nothing of a directory."""
    status = os.fstat(fd)
    if status.st_uid != _ROOT or status.st_mode & 0o022:
        whose = f"it belongs to user {status.st_uid}" if status.st_uid != _ROOT else "others may write it"
        raise SourceError(SOURCE, clause(path, f"{whose}, so that it cannot be believed"))
    if directory:
        return ""
    if not stat.S_ISREG(status.st_mode):
        raise SourceError(SOURCE, clause(path, "it is not a regular file"))
    data = b""
    while chunk := os.pread(fd, 1 << 16, len(data)):
        data += chunk
        if len(data) > MAX_INVENTORY:
            raise SourceError(SOURCE, clause(path, f"it is larger than {MAX_INVENTORY >> 20} MiB"))
    return data.decode("utf-8", "backslashreplace")


def _check_age(files: HostFiles, taken: Taken | None) -> None:
    if taken is None or taken.boot_id != read_boot_id(files):
        raise SourceError(SOURCE, clause(INVENTORY_PATH, f"it is of another boot; {_HINT}"))
    changed = changed_since(files, taken.state)
    if changed is not None:
        what = f"/{changed} has changed since it was written; {_HINT}"
        raise SourceError(SOURCE, clause(INVENTORY_PATH, what))
