# SPDX-License-Identifier: Apache-2.0
"""The inventory that root has written for those who may not read boot configurations themselves.

``tdx-headroom-boots.service`` writes it; it counts only while it is root's, of this boot, and as new as all
that can be seen of the files that it was made from.
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from tdx_headroom.boots.kexec import with_kexec
from tdx_headroom.boots.reasons import SOURCE, clause, reason_of
from tdx_headroom.boots.running import read_running, running_entry
from tdx_headroom.boots.watched import changed_since
from tdx_headroom.errors import SourceError
from tdx_headroom.facts.boot_inventory import INVENTORY_PATH, MAX_INVENTORY, parse_taken
from tdx_headroom.facts.boots import BootInventory
from tdx_headroom.sources.platform import read_boot_id
from tdx_headroom.sources.reading import Reading

if TYPE_CHECKING:
    from tdx_headroom.facts.boot_inventory import Taken
    from tdx_headroom.hostfs.files import HostFiles

_ROOT = 0
_HINT = "`systemctl start tdx-headroom-boots.service` writes it"


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
        """As :class:`BootSource`; where it does not count the running boot alone, and why."""
        origin = files.locate(INVENTORY_PATH)
        try:
            found = self._current(files)
        except SourceError as error:
            entry = running_entry(read_running(files, release, line))
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
    for path in (posixpath.dirname(INVENTORY_PATH), INVENTORY_PATH):
        try:
            status = files.status(SOURCE, path)
        except SourceError as error:
            if error.absent:
                what = clause(INVENTORY_PATH, f"it is not there; {_HINT}")
                raise SourceError(SOURCE, what, absent=True) from None
            raise
        if status.owner != _ROOT or status.others_write:
            whose = f"it belongs to user {status.owner}" if status.owner != _ROOT else "others may write it"
            raise SourceError(SOURCE, clause(path, f"{whose}, so that it cannot be believed"))
    # Nobody but root can have changed it since.
    return files.read(SOURCE, INVENTORY_PATH, limit=MAX_INVENTORY)


def _check_age(files: HostFiles, taken: Taken | None) -> None:
    if taken is None or taken.boot_id != read_boot_id(files):
        raise SourceError(SOURCE, clause(INVENTORY_PATH, f"it is of another boot; {_HINT}"))
    changed = changed_since(files, taken.state)
    if changed is not None:
        what = f"/{changed} has changed since it was written; {_HINT}"
        raise SourceError(SOURCE, clause(INVENTORY_PATH, what))
