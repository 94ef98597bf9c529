# SPDX-License-Identifier: Apache-2.0
"""Hands the state's folder to the user that the agent becomes: by root, who must not be led astray.

Whoever owned the folder before may have put links there, or have files of it open. So nothing is followed,
no file that exists is given away, and only a folder that holds the state and nothing else.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
from typing import TYPE_CHECKING

from tdx_headroom import log
from tdx_headroom.errors import one_line
from tdx_headroom.service.state_file import FILE, MAX_FILE, lock_folder
from tdx_headroom.service.users import DYNAMIC, OWN
from tdx_headroom.whole_file import is_leftover, replace_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tdx_headroom.service.users import User

_ASIDE = f"{FILE}.corrupt"
_OURS = (FILE, _ASIDE, "lost+found")
_FOLDER = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class _Refused(Exception):  # noqa: N818  never leaves this module
    """Why the folder is not handed over."""


def hand_over(folder: str, user: User) -> None:
    """Make the folder, if need be, and give it to the user.

    A state is taken along if only root or an agent can have written it. Another's stays where it is, and the
    agent, who does not believe it, sets it aside. A folder that cannot be handed over is told in the log, and
    ends nothing: the agent serves, and its metric says that no state is kept.

    Args:
        folder: of the state.
        user: whom the agent becomes.
    """
    folder = os.path.abspath(folder)  # noqa: PTH100  resolve() would follow a link in its place
    try:
        before = _hand_over(folder, user)
    except (_Refused, OSError) as error:
        problem = str(error) if isinstance(error, _Refused) else os.strerror(error.errno or 0)
        log.get().error(
            "the state folder cannot be handed over, no state will be kept",
            folder=one_line(folder, 200),
            user=user.name,
            problem=problem,
        )
        return
    if before is not None and before != user.uid:
        log.get().info(
            "state folder handed over", folder=one_line(folder, 200), user=user.name, before=before
        )


def owner_of(folder: str) -> int | None:
    """Who owns the folder; None where there is none."""
    try:
        return os.lstat(folder).st_uid
    except OSError:
        return None


def _hand_over(folder: str, user: User) -> int | None:
    """The one who owned it before; None where it was made."""
    parent, name = os.path.split(folder)
    if not name:
        raise _Refused("the root of the file system is no state folder")
    with _safe_folder(parent, user) as parent_fd:
        made = False
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=parent_fd)
            made = True
        status = os.stat(name, dir_fd=parent_fd, follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            raise _Refused("it is a symbolic link; name the folder itself")
        if not stat.S_ISDIR(status.st_mode):
            raise _Refused("it is no folder")
        fd = _open(name, parent_fd, status, user)
        if fd is None:
            return user.uid
        try:
            _give(fd, status, user)
        except BaseException:
            _give_back(fd, status, user)
            raise
        finally:
            os.close(fd)
    return None if made else status.st_uid


def _open(name: str, parent_fd: int, status: os.stat_result, user: User) -> int | None:
    """The folder; None if it is the user's already, and this root may not look into it."""
    try:
        return os.open(name, os.O_RDONLY | _FOLDER, dir_fd=parent_fd)
    except PermissionError:
        if status.st_uid == user.uid:
            return None
    # Root of a container, which may change owners and no more. By name it becomes root's: so nothing is given
    # away, even if it has been exchanged meanwhile.
    os.chown(name, 0, 0, dir_fd=parent_fd, follow_symlinks=False)
    return os.open(name, os.O_RDONLY | _FOLDER, dir_fd=parent_fd)


def _give(fd: int, before: os.stat_result, user: User) -> None:
    if not os.path.samestat(os.fstat(fd), before):
        raise _Refused("it is not what it was a moment ago")
    _check_content(fd)
    if not lock_folder(fd):
        raise _Refused("another agent keeps its state there; name another --state-directory")
    if before.st_uid != user.uid:
        # First take it away from its owner: from here on nobody else can change the names in it.
        os.fchown(fd, 0, 0)
        os.fchmod(fd, 0o700)
        _check_content(fd)
    if before.st_uid in _trusted(user):
        with contextlib.suppress(OSError):
            _adopt(fd, user)
    if before.st_uid != user.uid:
        os.fchown(fd, user.uid, user.gid)


def _give_back(fd: int, before: os.stat_result, user: User) -> None:
    """A folder that turned out not to be the state's is whose it was."""
    now = os.fstat(fd)
    if os.path.samestat(now, before) and now.st_uid not in (before.st_uid, user.uid):
        with contextlib.suppress(OSError):
            os.fchmod(fd, stat.S_IMODE(before.st_mode))
            os.fchown(fd, before.st_uid, before.st_gid)


def _check_content(fd: int) -> None:
    for name in os.listdir(fd):
        if name not in _OURS and not is_leftover(name, FILE) and not is_leftover(name, _ASIDE):
            raise _Refused(f"it holds {one_line(name, 80)!r} and so is not the agent's alone; name another")


def _trusted(user: User) -> set[int]:
    """Who writes nothing into a state but what an agent has learnt."""
    trusted = {0, user.uid, *DYNAMIC}
    with contextlib.suppress(KeyError):
        trusted.add(pwd.getpwnam(OWN).pw_uid)
    return trusted


def _adopt(fd: int, user: User) -> None:
    """Put a copy that is the user's in place of the state: another may have the file itself open.

    A link to a file of root's would come with more than one name.
    """
    source = os.open(FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=fd)
    try:
        status = os.fstat(source)
        plain = stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and status.st_size <= MAX_FILE
        if not plain or status.st_uid == user.uid or status.st_uid not in _trusted(user):
            return
        data = b"".join(iter(lambda: os.read(source, 1 << 16), b""))
    finally:
        os.close(source)
    replace_in(fd, FILE, data, 0o600, owner=(user.uid, user.gid))


@contextlib.contextmanager
def _safe_folder(path: str, user: User) -> Iterator[int]:
    """A folder below which nobody but root and the user can put another one in place of ours.

    Links on the way are followed once; after that each step is looked at, so that none can be exchanged.
    """
    fd = os.open("/", os.O_PATH | _FOLDER)
    try:
        for part in [None, *os.path.realpath(path).split("/")]:
            if part:
                above, fd = fd, os.open(part, os.O_PATH | _FOLDER, dir_fd=fd)
                os.close(above)
            status = os.fstat(fd)
            others = stat.S_IWOTH | (stat.S_IWGRP if status.st_gid != 0 else 0)
            shared = status.st_mode & others and not status.st_mode & stat.S_ISVTX
            if status.st_uid not in (0, user.uid) or shared:
                raise _Refused(f"others may write to {one_line(path, 80)}, or to a folder that it is in")
        yield fd
    finally:
        os.close(fd)
