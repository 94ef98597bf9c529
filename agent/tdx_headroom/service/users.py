# SPDX-License-Identifier: Apache-2.0
"""The user that an agent started as root becomes: its own, or a number that nobody else has."""

from __future__ import annotations

import grp
import os
import pwd
import secrets
from dataclasses import dataclass

from tdx_headroom import log
from tdx_headroom.errors import AgentError, one_line

OWN = "tdx-headroom"
"""The agent's own user: the packages and the container image have it."""

DYNAMIC = range(61184, 65520)
"""Ids that systemd gives to services while they run, and that no distribution gives to a user."""

SHARED = 65534
"""The kernel's overflow id, ``nobody``: whatever has no user of its own runs as this one."""

MAX_ID = (1 << 32) - 2


@dataclass(frozen=True, slots=True)
class User:
    """Whom to become.

    Args:
        name: as in the user database; a number where it has none.
        uid: its user id.
        gid: its own group.
        groups: all of its groups, the own one among them.
    """

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]


def find_user(name: str | None = None, prefer: int | None = None) -> User:
    """Look a user up.

    Args:
        name: of the user, or its number, which need not be in the user database; None: the agent's own user,
            where there is none a number that nobody else has.
        prefer: the number to take in that case if it is free, because files of an earlier start have it.

    Raises:
        AgentError: there is no user of that name, or no number is free.
    """
    entry = _entry(OWN if name is None else name)
    if entry is not None:
        groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
        return User(entry.pw_name, entry.pw_uid, entry.pw_gid, tuple(sorted(set(groups))))
    if name is None:
        return _numbered(_free_id(prefer))
    if name.isascii() and name.isdigit() and len(name) <= 10 and int(name) <= MAX_ID:
        return _numbered(int(name))
    raise AgentError(
        f"there is no user {one_line(name, 80)} to become",
        hint="name one with --user, or leave it out",
        status=os.EX_NOUSER,
    )


def warn_of_others(user: User) -> None:
    """Say so where the agent will not be the only one of this user.

    Whoever has the same user id may connect to its unix socket, which shows full addresses, and write to its
    state, which the next verdict rests on.
    """
    if user.uid == SHARED:
        why = "it is the user of whatever has none of its own"
    elif user.name != OWN and user.uid in _running():
        why = "other processes run as this user"
    else:
        return
    log.get().warning(
        "this user is not the agent's own, others of it may use the agent's unix socket and write its state",
        user=user.name,
        reason=why,
        hint="leave --user out, or make a user for the agent alone",
    )


def _entry(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except (KeyError, ValueError):
        pass
    try:
        return pwd.getpwuid(int(name)) if name.isascii() and name.isdigit() else None
    except (KeyError, OverflowError):
        return None


def _numbered(number: int) -> User:
    return User(str(number), number, number, (number,))


def _free_id(prefer: int | None) -> int:
    """A number that is no user's, no group's and no process's."""
    running = _running()
    wanted = [prefer] if prefer in DYNAMIC else []
    # Not the first that is free: two agents that start side by side would take the same.
    wanted += secrets.SystemRandom().sample(DYNAMIC, len(DYNAMIC))
    for number in wanted:
        if number is not None and number not in running and not _is_known(number):
            return number
    raise AgentError(
        f"no user id from {DYNAMIC[0]} to {DYNAMIC[-1]} is free",
        hint=f"make a user {OWN}, or name one with --user",
        status=os.EX_NOUSER,
    )


def _is_known(number: int) -> bool:
    """Whether a user or group has it, or systemd has given it to a service."""
    for look_up in (pwd.getpwuid, grp.getgrgid):
        try:
            look_up(number)
        except KeyError:
            continue
        return True
    # systemd-nspawn and the like: those that run it have no NSS module that would know.
    return os.path.lexists(f"/run/systemd/dynamic-uid/{number}")


def _running() -> set[int]:
    """User and group ids of all processes but this one, as far as they can be seen."""
    # Loaded here: it is 1.3 MB, and the agent's own user does not need it.
    import psutil  # noqa: PLC0415

    ids: set[int] = set()
    try:
        for process in psutil.process_iter():
            try:
                if process.pid != os.getpid():
                    ids |= {*process.uids(), *process.gids()}
            except psutil.Error:
                continue
    except (OSError, IndexError) as error:
        # psutil takes the first of all processes: where /proc is not mounted, there is none.
        problem = "/proc shows no processes" if isinstance(error, IndexError) else str(error)
        log.get().warning("it cannot be seen which user ids are in use", error=problem)
    return ids
