# SPDX-License-Identifier: Apache-2.0
"""What an archive holds of one host, as it is put together while the archive is read."""

from __future__ import annotations

import sys
from itertools import islice, takewhile

from tdx_headroom.hostfs.memory import MemoryRoot

MAX_LINKED = 1000
"""Files below links to directories, all together: ostree has one such link, to a few entries."""

MAX_FOLDER_LINKS = 16

_ENTRY = 512
"""Bytes that a file or directory takes besides its name and its text: it is in a dict, a set, or both."""


class ArchivedHost:
    """What of one top directory has been kept.

    Attributes:
        files: texts by path.
        names: paths of which nothing but the name is read; a directory's ends with a slash.
        links: targets by path, seen from the top directory, or of a hard link from the archive's top.
        refused: paths that cannot be read, with the reason.
    """

    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        self.names: list[str] = []
        self.links: dict[str, str] = {}
        self.refused: dict[str, str] = {}
        self._last: list[str] = []

    def cost_of(self, path: str) -> int:
        """Bytes that it takes to know a path, and the directories that the last one did not lie in."""
        parts = path.rstrip("/").split("/")
        same = takewhile(lambda pair: pair[0] == pair[1], zip(parts, self._last, strict=False))
        new = len(parts) - sum(1 for _ in same)
        self._last = parts
        return max(1, new) * (_ENTRY + sys.getsizeof(path))

    def root(self, label: str) -> MemoryRoot:
        """The host's files, links in place of what they lead to.

        Args:
            label: what stands for ``/`` in messages.
        """
        folders: list[tuple[str, str]] = []
        for path, target in self.links.items():
            # A hard link's target has the top directory before it.
            text = self.files.get(target, self.files.get(target.partition("/")[2]))
            if text is not None:
                self.files.setdefault(path, text)
            else:
                folders.append((path, f"{target}/"))
        self._link_folders(folders[:MAX_FOLDER_LINKS])
        return MemoryRoot(label, self.files, self.names, self.refused)

    def _link_folders(self, links: list[tuple[str, str]]) -> None:
        """Have the files in a directory below the links to it as well."""
        linked = (
            (f"{path}/{file.removeprefix(target)}", text)
            for path, target in links
            for file, text in self.files.items()
            if file.startswith(target)
        )
        self.files |= dict(islice(linked, MAX_LINKED))
