# SPDX-License-Identifier: Apache-2.0
"""Looks through kernel images, each once: what was found is remembered by path, inode, size and time."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import stat
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tdx_headroom.boots.kernels.image import packed_in
from tdx_headroom.boots.kernels.image_marks import CPU_SECONDS
from tdx_headroom.boots.kernels.marks import as_json, parse_marks
from tdx_headroom.boots.kernels.traits import MarksReading
from tdx_headroom.boots.reasons import SOURCE, reason_of
from tdx_headroom.child import child_command, child_environment
from tdx_headroom.errors import AgentError, SourceError
from tdx_headroom.hostfs.root import Root
from tdx_headroom.whole_file import write_whole

if TYPE_CHECKING:
    from tdx_headroom.boots.kernels.marks import ImageMarks
    from tdx_headroom.hostfs.files import HostFiles

SCHEMA = 1
"""Goes up when other marks are looked for, or in another way."""

MAX_REMEMBERED = 64
"""Images; a host has five."""

_ROOTS = "/var/cache/tdx-headroom-boots"

_MAX_FILE = 256 << 10
_MAX_ANSWER = 1 << 16
_SECONDS = 2.0 * CPU_SECONDS

_HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
"""A window of 64 MB in pages of 2 MiB: a quarter less time, and 2 MiB more memory."""


def cache_path() -> str | None:
    """The file that remembers, in the user's folder for caches; None where there is no such folder.

    Root's is that of ``tdx-headroom-boots.service``: no upgrade has to look through what that has, and HOME
    may be that of whoever called sudo.
    """
    folder = os.environ.get("CACHE_DIRECTORY") or (_ROOTS if os.geteuid() == 0 else None)
    if folder is None:
        base, home = (os.environ.get(name, "") for name in ("XDG_CACHE_HOME", "HOME"))
        if not base.startswith("/"):
            base = f"{home}/.cache" if home else ""
        folder = f"{base}/tdx-headroom" if base else ""
    return f"{folder}/kernel-images.json" if folder.startswith("/") else None


class Scanner:
    """Finds the marks of images.

    Args:
        path: of the file that remembers across runs; None: nothing does.
        seconds: the most that one image may take.
    """

    def __init__(self, path: str | None, seconds: float = _SECONDS) -> None:
        self._path = path
        self._seconds = seconds
        self._known: dict[str, ImageMarks] | None = None
        self._failed: dict[str, str] = {}
        self.started = 0
        """Processes that were started."""

    def marks(self, files: HostFiles, path: str, offset: int = 0) -> MarksReading:
        """The marks of an image.

        Args:
            files: of the host.
            path: of the image, or of the file that it is in.
            offset: where it begins in there.
        """
        try:
            fd = files.open(SOURCE, path)
        except SourceError as error:
            return MarksReading(path, unread=(reason_of(files, path, error),))
        try:
            key = _key(files.locate(path), fd, offset)
            marks, why = self._marks(key, fd, offset)
        except SourceError as error:
            marks, why = None, error.told()
        finally:
            os.close(fd)
        if marks is None:
            return MarksReading(path, unread=(reason_of(files, path, SourceError(SOURCE, why)),))
        return MarksReading(path, marks)

    def _marks(self, key: str, fd: int, offset: int) -> tuple[ImageMarks | None, str]:
        if self._known is None:
            self._known = _load(self._path) if self._path else {}
        if key in self._known:
            return self._known[key], ""
        if key in self._failed:
            # What is damaged stays so; what lacks a library may get it before the next run.
            return None, self._failed[key]
        # Raises where the head already tells that nothing can be found: no process is needed for that.
        packed_in(fd, offset)
        self.started += 1
        marks, why = _parse_answer(_ask(fd, offset, self._seconds))
        if marks is None:
            self._failed[key] = why
            return None, why
        self._known[key] = marks
        while len(self._known) > MAX_REMEMBERED:
            del self._known[next(iter(self._known))]
        if self._path:
            _save(self._path, self._known)
        return marks, ""


def _key(path: str, fd: int, offset: int) -> str:
    try:
        status = os.fstat(fd)
    except OSError as error:
        raise SourceError(SOURCE, os.strerror(error.errno or 0)) from None
    if not stat.S_ISREG(status.st_mode):
        raise SourceError(SOURCE, "it is not a regular file")
    return json.dumps([path, status.st_ino, status.st_size, status.st_mtime_ns, offset])


def _ask(fd: int, offset: int, seconds: float) -> bytes:
    """What the process prints that looks through an image; nothing when it takes too long.

    Raises:
        SourceError: it cannot be started, or takes too long.
    """
    command = child_command("boots.kernels.image_marks", [str(offset)])
    environment = child_environment() | _HUGE_PAGES
    try:
        process = subprocess.Popen(  # noqa: S603  this Python, with a number
            command, stdin=fd, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        )
    except OSError as error:
        raise SourceError(SOURCE, f"no process to look through it: {error.strerror}") from None
    with process:
        try:
            return _output(process, time.monotonic() + seconds)
        finally:
            process.kill()


def _output(process: subprocess.Popen[bytes], deadline: float) -> bytes:
    output = b""
    if process.stdout is None:
        return output
    pipe = process.stdout.fileno()
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while len(output) <= _MAX_ANSWER:
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise SourceError(SOURCE, "looking through it takes too long")
            data = os.read(pipe, _MAX_ANSWER)
            if not data:
                return output
            output += data
    return b""


def _parse_answer(output: bytes) -> tuple[ImageMarks | None, str]:
    try:
        answer = json.loads(output)
    except (ValueError, RecursionError):
        return None, "looking through it was ended: it takes too much time or memory"
    if isinstance(answer, dict) and isinstance(answer.get("error"), str):
        return None, answer["error"]
    return parse_marks(answer), "it was not looked through"


def _load(path: str) -> dict[str, ImageMarks]:
    """What was remembered; nothing where the file is missing, damaged, or may be somebody else's."""
    files = Root("/")
    try:
        fd = files.open(SOURCE, path.lstrip("/"))
    except SourceError:
        return {}
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
            return {}
        data: Any = json.loads(os.pread(fd, _MAX_FILE, 0))
    except (OSError, ValueError, RecursionError):
        return {}
    finally:
        os.close(fd)
    if not isinstance(data, dict) or data.get("schema") != SCHEMA or not isinstance(data.get("images"), dict):
        return {}
    read = {key: parse_marks(value) for key, value in data["images"].items()}
    return {key: marks for key, marks in [*read.items()][-MAX_REMEMBERED:] if marks is not None}


def _save(path: str, known: dict[str, ImageMarks]) -> None:
    images = {key: as_json(marks) for key, marks in known.items()}
    data = json.dumps({"schema": SCHEMA, "images": images}, indent=1).encode() + b"\n"
    with contextlib.suppress(OSError, AgentError):
        Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(path, data, 0o600)
