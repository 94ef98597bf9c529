# SPDX-License-Identifier: Apache-2.0
"""The head of a kernel's image (bzImage): its version, and where in it the packed kernel is.

By the x86 boot protocol (Documentation/arch/x86/boot.rst and arch/x86/boot/header.S): nothing is unpacked.
"""

from __future__ import annotations

import os
import re
import stat
import struct
from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.boots.reasons import SOURCE, clause
from tdx_headroom.errors import SourceError

if TYPE_CHECKING:
    from tdx_headroom.hostfs.files import HostFiles

SECTOR = 512
MAX_HEAD = 256 * SECTOR
"""The boot sector and as many more as one byte counts: all of the setup code, and the version in it."""

SIZE = 4
"""Bytes at the end of the packed kernel that tell how many it unpacks to."""

_MAX_PACKED = 256 << 20
_GZIP = b"\x1f\x8b"
"""How a packed file begins, which GRUB unpacks while it reads it."""
_PARAGRAPH = 16
"""Bytes that ``syssize`` counts as one."""
_SETUP_SECTS, _SYSSIZE, _MAGIC, _PROTOCOL, _VERSION, _PAYLOAD = 0x1F1, 0x1F4, 0x202, 0x206, 0x20E, 0x248
_HEADER = 0x250
_DEFAULT_SETUP_SECTS = 4
_MAX_VERSION = 512
_RELEASE = re.compile(rb"[!-.0-~]{1,200}")
"""What ``uname -r`` can be; a ``/`` would lead elsewhere where it names files."""


class ImageHead(NamedTuple):
    """What the head of an image tells.

    Args:
        version: a text that begins with the release, as ``uname -r`` will say it; behind it who has built it,
            which build it is, and when. None where the image does not tell it.
        payload: offset of the packed kernel from the start of the image; None before protocol 2.08.
        length: of the packed kernel in bytes.
        whole: bytes that the image has at least, a signature behind it apart; 0 where its head does not tell.
    """

    version: str | None
    payload: int | None = None
    length: int = 0
    whole: int = 0


class Packed(NamedTuple):
    """The packed kernel: where it begins in the file, and its bytes."""

    start: int
    length: int


def parse_head(head: bytes) -> ImageHead:
    """What the head of an image tells.

    Args:
        head: the first :data:`MAX_HEAD` bytes of it, or all of it.

    Raises:
        SourceError: it is no bzImage, or cut short.
    """
    if head[_MAGIC : _MAGIC + 4] != b"HdrS":
        short = len(head) < _HEADER
        raise SourceError(SOURCE, "it is cut short" if short else "it is no bzImage: no HdrS at 0x202")
    if len(head) < _HEADER:
        raise SourceError(SOURCE, "it is cut short")
    (protocol,) = struct.unpack_from("<H", head, _PROTOCOL)
    sectors = head[_SETUP_SECTS] or _DEFAULT_SETUP_SECTS
    version = _version(head, sectors)
    offset, length = struct.unpack_from("<II", head, _PAYLOAD)
    # They came with 2.08.
    if protocol < 0x208 or not length:
        return ImageHead(version)
    payload = (sectors + 1) * SECTOR + offset
    (paragraphs,) = struct.unpack_from("<I", head, _SYSSIZE)
    # The last paragraph need not be full.
    code = (sectors + 1) * SECTOR + max(0, paragraphs - 1) * _PARAGRAPH
    return ImageHead(version, payload, length, whole=max(payload + length, code))


def _version(head: bytes, sectors: int) -> str | None:
    """The version, which lies in the setup code (``kernel_version`` of arch/x86/boot/version.c)."""
    (pointer,) = struct.unpack_from("<H", head, _VERSION)
    if not 0 < pointer < sectors * SECTOR:
        return None
    text, end, _ = head[pointer + SECTOR : pointer + SECTOR + _MAX_VERSION].partition(b"\0")
    words = text.split(b" ", 1)
    if not end or not words or not _RELEASE.fullmatch(words[0]):
        return None
    return text.decode("ascii", "backslashreplace")


def read_head(files: HostFiles, path: str, *, offset: int = 0) -> ImageHead:
    """The same of a file; only its head is read.

    Args:
        files: of the host.
        path: of the image, or of what it is in: a unified kernel image has it in a section.
        offset: where it begins in there.

    Raises:
        SourceError: the file cannot be read, or is no bzImage.
    """
    fd = files.open(SOURCE, path)
    try:
        return head_of(fd, offset)
    finally:
        os.close(fd)


def head_of(fd: int, offset: int = 0) -> ImageHead:
    """The same of an open file.

    Raises:
        SourceError: it cannot be read, or is no bzImage.
    """
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise SourceError(SOURCE, "it is not a regular file")
        head = os.pread(fd, MAX_HEAD, offset)
    except (OSError, OverflowError) as error:
        reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else "no such offset"
        raise SourceError(SOURCE, reason) from None
    return parse_head(head)


def packed_in(fd: int, offset: int = 0) -> Packed:
    """Where in an open file the packed kernel of an image is.

    Raises:
        SourceError: it cannot be read, is no bzImage, does not tell where that is, or ends before its end.
    """
    head = head_of(fd, offset)
    if head.payload is None or not SIZE < head.length <= _MAX_PACKED:
        raise SourceError(SOURCE, "its head does not tell where the packed kernel is")
    start = offset + head.payload
    try:
        size = os.fstat(fd).st_size
    except OSError as error:
        raise SourceError(SOURCE, os.strerror(error.errno or 0)) from None
    if size < start + head.length:
        raise SourceError(SOURCE, "it is cut short")
    return Packed(start, head.length)


def read_version(files: HostFiles, path: str, *, offset: int = 0) -> str | None:
    """The version that an image tells, its release first; None where it cannot be read, or tells none.

    Args: as of :func:`read_head`, which tells why.
    """
    try:
        return read_head(files, path, offset=offset).version
    except SourceError:
        return None


def damage(files: HostFiles, path: str, *, offset: int = 0) -> str | None:
    """Why no boot loader can start an image, a clause; None: nothing shows that, or it cannot be read.

    A full file system leaves files that are empty or cut, and a crash such as are full of zeros.

    Args: as of :func:`read_head`.
    """
    try:
        fd = files.open(SOURCE, path)
    except SourceError:
        return None
    try:
        why = _damage_of(fd, offset)
    except OSError:
        return None
    finally:
        os.close(fd)
    return None if why is None else clause(path, why)


def _damage_of(fd: int, offset: int) -> str | None:
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        return None
    if not status.st_size:
        return "it is empty"
    if os.pread(fd, len(_GZIP), offset) == _GZIP:
        return None
    try:
        head = head_of(fd, offset)
    except SourceError as error:
        return error.reason
    return "it is cut short" if status.st_size < offset + head.whole else None
