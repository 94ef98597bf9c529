# SPDX-License-Identifier: Apache-2.0
"""Files that GRUB names, on the host: its paths begin at the root of a file system that it found."""

from __future__ import annotations

import posixpath
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.boots.reasons import reason_of
from tdx_headroom.errors import SourceError, one_line
from tdx_headroom.hostfs.files import FileStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tdx_headroom.boots.grub.script import Script
    from tdx_headroom.hostfs.files import HostFiles

SOURCE = "boot loader"
HOST = "host"
"""The device on which a path is the host's own."""

_MAX_CONFIG = 1 << 20
"""Bytes of a configuration file: a thousand menu entries; a real one has a tenth of them at most."""


class GrubPath(NamedTuple):
    """A path of GRUB's.

    Args:
        device: in parentheses in front of it; None: the root of the moment.
        path: behind it.
    """

    device: str | None
    path: str


def split_path(text: str) -> GrubPath:
    """The device and the path of ``(hd0,gpt2)/vmlinuz``."""
    if text.startswith("("):
        device, _, path = text[1:].partition(")")
        return GrubPath(device, path)
    return GrubPath(None, text)


def places(path: str) -> Iterator[str]:
    """Where a file of a searched file system may be on the host, the likeliest first.

    That file system may be mounted at ``/``, at ``/boot`` or as an ESP; its paths may begin with a subvolume
    of btrfs (``/@/boot``, ``/root/boot``) or a data set of ZFS (``/BOOT/ubuntu@/``).
    """
    plain = posixpath.normpath(f"/{path}").lstrip("/")
    whole = [plain]
    first, _, rest = plain.partition("/")
    if "@/" in plain:
        whole.append(plain.partition("@/")[2])
    if rest and (first in ("root", "rootfs") or first.startswith("@")):
        whole.append(rest)
    for each in dict.fromkeys(whole):
        own = each.startswith("boot/")
        yield each if own else f"boot/{each}"
        yield f"boot/{each}" if own else each
        yield f"boot/efi/{each}"
        yield f"efi/{each}"


class Disk:
    """The host's files, as GRUB's commands ask for them; it remembers what was read.

    Its errors are clauses that name files relative to the host's root.

    Args:
        files: the host's.
    """

    def __init__(self, files: HostFiles) -> None:
        self._files = files
        self._read: dict[str, None] = {}
        self.scripts: dict[str, Script] = {}
        """Those that were read already, by the paths of their files."""

    @property
    def known_from(self) -> tuple[str, ...]:
        """Paths of what was read, in order, for people."""
        return tuple(map(shown, self._read))

    @property
    def without_images(self) -> bool:
        """Whether these files never hold kernels: a sosreport takes their configuration alone."""
        return self._files.exists("sos_commands")

    @contextmanager
    def _naming(self, relative: str) -> Iterator[None]:
        """Have an error name a file as the configuration does."""
        try:
            yield
        except SourceError as error:
            raise SourceError(SOURCE, reason_of(self._files, relative, error), absent=error.absent) from None

    def status(self, relative: str) -> FileStatus | None:
        """Of a file of the host; None: there is none.

        Raises:
            SourceError: it cannot be looked at.
        """
        if "\0" in relative:
            return None
        if self._files.descriptor(relative) is not None:
            # Somebody has opened it for the agent, which may not look at it by its name.
            return FileStatus(1, 0, directory=False)
        try:
            with self._naming(relative):
                return self._files.status(SOURCE, relative)
        except SourceError as error:
            if error.absent:
                return None
            raise

    def find(self, text: str) -> str | None:
        """Where a path of GRUB's leads on the host; None: nowhere.

        Raises:
            SourceError: that cannot be told, for a directory may not be looked into.
        """
        device, path = split_path(text)
        if device == HOST:
            relative = posixpath.normpath(f"/{path}").lstrip("/")
            return relative if self.status(relative) is not None else None
        refused: SourceError | None = None
        for relative in places(path):
            try:
                if self.status(relative) is not None:
                    return relative
            except SourceError as error:
                refused = refused or error
        if refused is not None:
            raise refused
        return None

    def bytes(self, relative: str, limit: int = _MAX_CONFIG) -> bytes:
        """A file of the host.

        Raises:
            SourceError: why it cannot be read.
        """
        with self._naming(relative):
            data = self._files.read_bytes(SOURCE, relative, limit=limit)
        self._read[relative] = None
        return data

    def peek(self, relative: str) -> str | None:
        """The text of a file beside the configuration, which is not told of; None: it cannot be read."""
        try:
            return self._files.read(SOURCE, relative, limit=_MAX_CONFIG)
        except SourceError:
            return None

    def there(self, relative: str) -> bool:
        """Whether there is such a file that may be looked at."""
        return self._files.exists(relative)

    def text(self, relative: str, limit: int = _MAX_CONFIG) -> str:
        """The same as text that can be turned back into the bytes.

        Raises:
            SourceError: why it cannot be read.
        """
        return self.bytes(relative, limit).decode("utf-8", "surrogateescape")

    def names(self, relative: str) -> list[str]:
        """Names in a directory of the host.

        Raises:
            SourceError: it cannot be listed.
        """
        with self._naming(relative):
            return self._files.entries(SOURCE, relative)


def shown(text: str) -> str:
    r"""Text of GRUB's for people and for JSON: bytes that are no UTF-8 stand as ``\xNN``."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def shown_line(text: str) -> str:
    """The same as one line, shortened: for a clause."""
    return one_line(shown(text))
