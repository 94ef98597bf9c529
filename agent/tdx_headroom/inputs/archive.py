# SPDX-License-Identifier: Apache-2.0
"""A captured host or a sosreport, read from its tar archive without writing anything to disk.

An archive comes from somebody else and is hostile until proven otherwise. Only files that the agent reads are
kept, everything is bounded, and nothing is ever extracted.
"""

from __future__ import annotations

import posixpath
import re
import sys
import tarfile
from typing import TYPE_CHECKING, Any, NoReturn, Self, cast

from tdx_headroom.address import show_size
from tdx_headroom.errors import AgentError, one_line
from tdx_headroom.inputs.archived_host import ArchivedHost

if TYPE_CHECKING:
    import io
    from collections.abc import Callable

    from tdx_headroom.hostfs.files import Selection
    from tdx_headroom.hostfs.memory import MemoryRoot

MAX_MEMBERS = 1 << 20
MAX_UNPACKED = 8 << 30
"""What an archive may unpack to, files that are passed over included: a large sosreport has 2 GiB."""
MAX_KEPT = 512 << 20
"""Bytes of memory that texts and names of files may take that the agent reads."""
MAX_DEPTH = 40
MAX_HOSTS = 64
"""Top directories with files of a host; an archive of more than one is refused anyway."""
MAX_PATH = 4096
"""Characters of a member's name, and of a link's target: ``PATH_MAX`` of Linux."""

_HEADER = 512
_OCTAL = re.compile(rb"[0-7]+[ \0]*")
# Names and extended headers are read at one go; none that is honest comes near this.
_MAX_READ = 1 << 20
_CHUNK = 1 << 16

# What tarfile lets out on headers that no tar has written, chains of them among these.
_DAMAGED = (tarfile.TarError, EOFError, ValueError, OverflowError, IndexError, KeyError, RecursionError)


class _Forward:
    """A stream as the file that ``tarfile`` wants: it goes forward only, and in small steps.

    ``tarfile`` reads a header's extension whole, whatever size it claims, and follows a negative size
    backwards without end.
    """

    def __init__(self, stream: io.BufferedReader, name: str) -> None:
        self._stream = stream
        self._name = name
        self._at = 0
        # Bytes read since the last seek or header block.
        self._run = 0
        # Whether the last that was read is the block of zeros behind all members.
        self.ended = False

    def tell(self) -> int:
        return self._at

    def seek(self, to: int) -> int:
        if to < self._at:
            raise AgentError(f"{self._name} is no sound archive: its members overlap")
        while self._at < to and (skipped := len(self._stream.read(min(_CHUNK, to - self._at)))):
            self._at += skipped
        self._run = 0
        return self._at

    def read(self, size: int) -> bytes:
        # Newer tarfiles read a long header in pieces, however long it is.
        self._run = size if size == _HEADER else self._run + size
        if not 0 <= size <= self._run <= _MAX_READ:
            what = f"the size of a header is negative or above {show_size(_MAX_READ)}"
            raise AgentError(f"{self._name} is no sound archive: {what}")
        data = self._stream.read(size)
        self._at += len(data)
        self.ended = size == _HEADER and data == bytes(_HEADER)
        return data


class _Member(tarfile.TarInfo):
    """A member; of a plain file's or directory's header only what is asked for is decoded.

    ``tarfile`` decodes times, users and devices as well, which takes most of the time of reading an archive
    of small files. A header that is not so plain is left to it.
    """

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """The member that a header describes."""
        # Where these stand: POSIX.1-1988, ustar.
        size, stated, kind = buf[124:136], buf[148:156], buf[156:157]
        plain = len(buf) == _HEADER and kind in (tarfile.REGTYPE, tarfile.DIRTYPE)
        if not (plain and _OCTAL.fullmatch(size) and _OCTAL.fullmatch(stated)):
            return super().frombuf(buf, encoding, errors)
        # The sum is made as if there were blanks in its place.
        if sum(buf) - sum(stated) + len(stated) * ord(" ") != int(stated.rstrip(b" \0"), 8):
            return super().frombuf(buf, encoding, errors)
        member = cls(_text_in(buf[:100], encoding, errors))
        member.size, member.type = int(size.rstrip(b" \0"), 8), bytes(kind)
        if member.isdir():
            member.name = member.name.rstrip("/")
        if prefix := _text_in(buf[345:500], encoding, errors):
            member.name = f"{prefix}/{member.name}"
        return member


def _text_in(field: bytes | bytearray, encoding: str, errors: str) -> str:
    return field.partition(b"\0")[0].decode(encoding, errors)


class _ArchivePolicy:
    """Whether members that nobody wants are such as an honest archive has.

    A sosreport is a picture of a root: it has links to anywhere, and devices. No other archive has them.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._sosreport = False
        self._odd: str | None = None

    def note(self, member: tarfile.TarInfo, path: str) -> None:
        parts = path.split("/", 2)
        self._sosreport = self._sosreport or parts[0].startswith("sosreport-") or "sos_commands" in parts[:2]
        if self._odd is not None or member.isreg() or member.isdir():
            return
        if not (member.issym() or member.islnk()):
            self._odd = f"{path} is no regular file"
        elif _target(member, path) is None:
            self._odd = f"{path} is a link that leads out of it"

    def check(self) -> None:
        if self._odd is not None and not self._sosreport:
            _refuse(self._name, self._odd)


def is_tar(start: bytes) -> bool:
    """Whether a file that begins with these bytes is a tar archive."""
    if len(start) < _HEADER:
        return False
    try:
        tarfile.TarInfo.frombuf(start[:_HEADER], "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def read_archive(stream: io.BufferedReader, name: str, selection: Selection) -> MemoryRoot:
    """The host that an archive holds, at its top or in a directory of its own.

    Args:
        stream: the archive, unpacked, bounded in size.
        name: of it, for messages.
        selection: what to keep of it.

    Raises:
        AgentError: it is damaged, hostile, too large, or holds no host or several.
    """
    hosts: dict[str, ArchivedHost] = {}
    forward = _Forward(stream, name)
    try:
        with tarfile.open(
            fileobj=cast("Any", forward),
            mode="r:",
            tarinfo=_Member,
            encoding="utf-8",
            errors="backslashreplace",
        ) as tar:
            _read_members(tar, name, selection, hosts)
        while stream.read(_CHUNK):
            pass  # to the end: only there a compressed archive shows that it is whole
    except _DAMAGED as error:
        raise _damaged(name, str(error)) from None
    if not forward.ended:
        # tarfile takes a broken header for the end.
        raise _damaged(name, "it has no end mark")
    found = {top: host for top, host in hosts.items() if host.files or host.refused}
    if not found:
        raise AgentError(
            f"{name} holds nothing of a host",
            hint="give what `tdx-headroom capture` or `sos report` has written",
        )
    if len(found) > 1:
        shown = ", ".join(sorted(top or "." for top in found)[:4])
        raise AgentError(
            f"{name} holds {len(found)} hosts ({one_line(shown)})", hint="unpack it and give the directory"
        )
    return next(iter(found.values())).root(name)


def _damaged(name: str, why: str) -> AgentError:
    return AgentError(f"{name} is damaged or cut short: {one_line(why, 80)}", hint="fetch it again")


def _read_members(
    tar: tarfile.TarFile, name: str, selection: Selection, hosts: dict[str, ArchivedHost]
) -> None:
    kept = 0
    policy = _ArchivePolicy(name)
    for number, member in enumerate(tar, 1):
        cast("Any", tar).members.clear()  # it keeps every member that it has seen
        if number > MAX_MEMBERS:
            _refuse(name, f"more than {MAX_MEMBERS} members")
        path = _safe(member, name)
        policy.note(member, path)
        kept += _member(tar, member, path, name, selection, hosts)
        if kept > MAX_KEPT:
            _refuse(name, f"more than {show_size(MAX_KEPT)} in the files that matter")
    policy.check()


def _member(
    tar: tarfile.TarFile,
    member: tarfile.TarInfo,
    path: str,
    name: str,
    selection: Selection,
    hosts: dict[str, ArchivedHost],
) -> int:
    """Keep a member if it is wanted; how many bytes that took."""
    for top, relative in _places(path):
        if selection.text(relative):
            host = _host(hosts, top, name)
            return host.cost_of(relative) + _keep(tar, member, name, host, relative, selection.limit)
        if selection.name(relative):
            host = _host(hosts, top, name)
            host.names.append(relative + ("/" if member.isdir() else ""))
            return host.cost_of(relative)
    return 0


def _host(hosts: dict[str, ArchivedHost], top: str, name: str) -> ArchivedHost:
    if top not in hosts and len(hosts) == MAX_HOSTS:
        raise AgentError(f"{name} holds more than {MAX_HOSTS} hosts", hint="unpack it and give the directory")
    return hosts.setdefault(top, ArchivedHost())


def _keep(
    tar: tarfile.TarFile,
    member: tarfile.TarInfo,
    name: str,
    host: ArchivedHost,
    path: str,
    limit: Callable[[str], int],
) -> int:
    if member.issym() or member.islnk():
        target = _target(member, path)
        if target is None:
            # Only a sosreport may have such a link, and of that nothing but this file is refused.
            host.refused[path] = "is a link that leads out of the archive"
        else:
            host.links[path] = target
            return sys.getsizeof(target)
        return 0
    if member.isdir():
        return 0
    if not member.isreg() or member.issparse():
        _refuse(name, f"{path} is no regular file")
    if member.size > limit(path):
        host.refused[path] = f"is larger than {show_size(limit(path))}"
        return 0
    stream: Any = tar.extractfile(member)
    chunks = []
    left = member.size
    while left and (chunk := stream.read(min(_CHUNK, left))):
        chunks.append(chunk)
        left -= len(chunk)
    if left:
        raise EOFError("the archive ends in a file")
    host.files[path] = b"".join(chunks).decode("utf-8", "backslashreplace")
    # Larger than in the archive, where bytes are escaped or characters are wide.
    return sys.getsizeof(host.files[path])


def _target(member: tarfile.TarInfo, path: str) -> str | None:
    """Where a link leads to; None when that is out of the archive. A hard link counts from the top."""
    within = posixpath.dirname(path) if member.issym() else ""
    target = posixpath.normpath(posixpath.join(within, member.linkname))
    return None if target.startswith(("/", "..")) else target


def _safe(member: tarfile.TarInfo, name: str) -> str:
    """The member's path without a leading ``./``."""
    path = member.name
    if (longest := max(len(path), len(member.linkname))) > MAX_PATH:
        _refuse(name, f"a member's name or target has {longest} characters")
    if path.startswith("/"):
        _refuse(name, f"a member has an absolute name, {path}")
    parts = path.split("/")
    if ".." in parts:
        _refuse(name, f"a member's name leads out of it, {path}")
    if len(parts) > MAX_DEPTH:
        _refuse(name, f"a member lies {len(parts)} directories deep")
    return "/".join(part for part in parts if part not in ("", "."))


def _places(path: str) -> tuple[tuple[str, str], tuple[str, str]]:
    """The path as seen from the archive's top, and from its first directory."""
    top, _, rest = path.partition("/")
    return ("", path), (top, rest)


def _refuse(name: str, what: str) -> NoReturn:
    raise AgentError(f"{name} is refused: {one_line(what, 160)}", hint="do not unpack it by hand either")
