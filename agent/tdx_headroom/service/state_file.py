# SPDX-License-Identifier: Apache-2.0
"""The one JSON file in the state directory, written whole and renamed into place.

A file that cannot be read is set aside under another name, never overwritten, and reported.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
from typing import TYPE_CHECKING

from tdx_headroom.facts.codec import DecodeError, decode, encode
from tdx_headroom.facts.record_file import packed, unpacked
from tdx_headroom.service.state import State
from tdx_headroom.whole_file import remove_leftovers, replace_in

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMA = "tdx-headroom/state/1"
FILE = "state.json"
MAX_FILE = 16 << 20


def lock_folder(fd: int) -> bool:
    """Take the lock of a folder, for as long as the descriptor is open; whether no other agent has it.

    A file system without locks has none to take (ENOLCK, EOPNOTSUPP): there the state is kept all the same.

    Args:
        fd: of the folder.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


class FolderLock:
    """Held by the one agent that keeps its state in a folder: a second one would overwrite that state.

    Args:
        folder: of the state.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._fd: int | None = None

    def take(self) -> None:
        """Take it and keep it; nothing happens when this agent has it already.

        Raises:
            OSError: another agent has it, or the folder cannot be looked at.
        """
        if self._fd is not None and not os.path.samestat(os.fstat(self._fd), os.stat(self._folder)):  # noqa: PTH116
            self.release()  # another folder of that name
        if self._fd is not None:
            return
        fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        if not lock_folder(fd):
            os.close(fd)
            raise OSError(
                errno.EBUSY,
                "another agent keeps its state there; give each a --state-directory of its own",
                self._folder,
            )
        self._fd = fd

    def release(self) -> None:
        """Let another agent have it."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


class StateFile:
    """The file in the state directory.

    Args:
        directory: must exist; only this agent writes there.
        lock: taken before anything is written; None: there is certainly no other agent.
    """

    def __init__(self, directory: str, lock: FolderLock | None = None) -> None:
        self._directory = directory
        self._path = os.path.join(directory, FILE)  # noqa: PTH118  with the descriptors below
        self._lock = lock
        self._written: State | None = None
        self._identity: tuple[int, ...] | None = None

    def load(self) -> tuple[State, str | None]:
        """The state, and what was wrong with the file, if something was."""
        try:
            self._take_lock()
        except OSError as error:
            if error.errno == errno.EBUSY:
                # What is there is the other agent's to tidy up; what it has learnt is as good as our own.
                return self._read_only(), f"{self._directory}: {error.strerror}"
        with contextlib.suppress(OSError), self._folder() as folder:
            remove_leftovers(folder, FILE)
        try:
            return parse(self._read()), None
        except FileNotFoundError:
            return State(), None
        except OSError as error:
            return State(), f"{self._path} cannot be read and {self.set_aside()}: {error.strerror}"
        except (ValueError, RecursionError) as error:
            return State(), f"{self._path} is corrupt and {self.set_aside()}: {error}"

    def _read_only(self) -> State:
        with contextlib.suppress(OSError, ValueError, RecursionError):
            return parse(self._read())
        return State()

    def _read(self) -> bytes:
        fd = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            owner = os.fstat(fd).st_uid
            if owner != os.geteuid():
                raise ValueError(f"it belongs to user id {owner}, who may have written anything to it")
            # Not closed by it: for a directory open() fails, and leaves the descriptor open.
            with open(fd, "rb", closefd=False) as stream:
                return stream.read(MAX_FILE + 1)
        finally:
            os.close(fd)

    def up_to_date(self, state: State) -> bool:
        """Whether the file is there, is the one that was written last, and holds this state."""
        return state == self._written and self._identity is not None and self._identity == self._identify()

    @property
    def is_gone(self) -> bool:
        """Whether the file that was written last is no longer there, or is another one now."""
        return self._identity is not None and self._identity != self._identify()

    def save(self, state: State) -> None:
        """Write the state, if the file does not hold it already.

        Raises:
            OSError: the directory cannot be written to, or is full; the old file stays.
        """
        self._take_lock()
        if self.up_to_date(state):
            return
        value = encode(state)
        data = json.dumps({"schema": SCHEMA, **value, "history": packed(value["history"])}).encode()
        if len(data) > MAX_FILE:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), self._path)
        with self._folder() as folder:
            replace_in(folder, FILE, data, 0o600)
        self._written = state
        self._identity = self._identify()

    def close(self) -> None:
        """Let another agent have the folder."""
        if self._lock is not None:
            self._lock.release()

    def _take_lock(self) -> None:
        if self._lock is not None:
            self._lock.take()

    def _identify(self) -> tuple[int, ...] | None:
        """What tells this file from any other, or from itself once somebody has written to it."""
        try:
            status = os.lstat(self._path)
        except OSError:
            return None
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns

    @contextlib.contextmanager
    def _folder(self) -> Iterator[int]:
        folder = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield folder
        finally:
            os.close(folder)

    def set_aside(self) -> str:
        """Rename a file that cannot be used; what became of it, in words for the log."""
        aside = f"{self._path}.corrupt"
        if os.path.isdir(aside):  # noqa: PTH112
            aside += f".{secrets.token_hex(8)}"  # a folder is not replaced
        try:
            os.rename(self._path, aside)  # noqa: PTH104
        except OSError as error:
            return f"stays ({error.strerror})"
        return f"was set aside as {aside}"


def parse(data: bytes) -> State:
    """A state from the bytes of its file.

    Raises:
        ValueError: it is none, or one of a schema that this agent does not read.
    """
    if len(data) > MAX_FILE:
        raise ValueError("the file is too large")
    value = json.loads(data)
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        raise DecodeError(f"the schema is not {SCHEMA}")
    value["history"] = unpacked(value.get("history", []))
    state: State = decode(State, value, "state")
    return state
