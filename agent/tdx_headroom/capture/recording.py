# SPDX-License-Identifier: Apache-2.0
"""Notes what is read of a host: a capture holds what the agent reads, by construction."""

from __future__ import annotations

from tdx_headroom.errors import SourceError
from tdx_headroom.hostfs.root import MAX_FILE, Root
from tdx_headroom.sources.wanted import Want, wanted


class RecordingRoot(Root):
    """A root that remembers the texts and names that it gave out.

    Attributes:
        texts: by path.
        names: of what lies in directories that were listed.
    """

    def __init__(self, root: Root) -> None:
        super().__init__("/nonexistent")
        self.path = root.path
        self._root = root
        self.texts: dict[str, str] = {}
        self.names: list[str] = []

    @property
    def live(self) -> bool:
        """Never: all that is known of the running host has to come from files, as it will elsewhere."""
        return False

    def exists(self, relative: str) -> bool:
        """Whether there is such a file or directory."""
        return self._root.exists(relative)

    def read(self, source: str, relative: str, *, limit: int = MAX_FILE) -> str:
        """The whole of a file as text.

        Raises:
            SourceError: as the root that it stands for.
        """
        if wanted(relative) is not Want.TEXT:
            raise SourceError(source, f"{relative} is not among the files that a capture may hold")
        if relative not in self.texts:
            self.texts[relative] = self._root.read(source, relative, limit=limit)
        return self.texts[relative]

    def open(self, source: str, relative: str) -> int:
        """A descriptor.

        Raises:
            SourceError: as the root that it stands for.
        """
        return self._root.open(source, relative)

    def entries(self, source: str, relative: str) -> list[str]:
        """Names in a directory, sorted.

        Raises:
            SourceError: as the root that it stands for.
        """
        entries = self._root.entries(source, relative)
        self.names.append(f"{relative}/")
        for name in entries:
            if wanted(path := f"{relative}/{name}") is Want.NAME and name.startswith(("node", "memory")):
                self.names.append(f"{path}/" if name.startswith("node") else path)
        return entries
