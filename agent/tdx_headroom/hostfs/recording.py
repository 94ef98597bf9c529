# SPDX-License-Identifier: Apache-2.0
"""Notes what is read of a host: a capture holds what the agent reads, by construction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.errors import SourceError
from tdx_headroom.hostfs.files import MAX_FILE, NameKind

if TYPE_CHECKING:
    from tdx_headroom.hostfs.files import HostFiles, Selection


class RecordingRoot:
    """Files of another root, which remembers the texts and names that it gave out.

    Args:
        files: the host's.
        selection: what may be read of them.

    Attributes:
        texts: by path.
        names: of what lies in directories that were listed.
        live: never: all that is known of the running host has to come from files, as it will elsewhere.
    """

    live = False

    def __init__(self, files: HostFiles, selection: Selection) -> None:
        self.path = files.path
        self.locate = files.locate
        self.exists = files.exists
        self.open = files.open
        self.read_bytes = files.read_bytes
        self.status = files.status
        self._files = files
        self._selection = selection
        self.texts: dict[str, str] = {}
        self.names: list[str] = []

    def descriptor(self, relative: str) -> int | None:  # noqa: ARG002
        """None: what is handed in is noted only when it is read as a file."""
        return None

    def read(self, source: str, relative: str, *, limit: int = MAX_FILE) -> str:
        """The whole of a file as text.

        Raises:
            SourceError: as the root that it stands for.
        """
        if not self._selection.text(relative):
            raise SourceError(source, f"{relative} is not among the files that a capture may hold")
        if relative not in self.texts:
            self.texts[relative] = self._files.read(source, relative, limit=limit)
        return self.texts[relative]

    def entries(self, source: str, relative: str) -> list[str]:
        """Names in a directory, sorted.

        Raises:
            SourceError: as the root that it stands for.
        """
        entries = self._files.entries(source, relative)
        self.names.append(f"{relative}/")
        for name in entries:
            kind = self._selection.name(path := f"{relative}/{name}")
            if kind in (NameKind.NAME, NameKind.DIRECTORY):
                self.names.append(f"{path}/" if kind is NameKind.DIRECTORY else path)
        return entries
