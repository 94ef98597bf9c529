# SPDX-License-Identifier: Apache-2.0
"""Drops what a process inherits and does not need: open descriptors, and the environment."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from tdx_headroom import log
from tdx_headroom.child import OF_CHILDREN

if TYPE_CHECKING:
    from collections.abc import Iterable, MutableMapping

STANDARD = 3
"""Standard input, output and error are 0 to 2."""

_AT_ONCE = 1 << 20
"""Descriptors below are closed in one step; no kernel allows more unless it is told to."""

KEPT = re.compile(
    OF_CHILDREN
    # what a service manager tells (sd_notify, sd_listen_fds and systemd.exec)
    + r"|NOTIFY_SOCKET|WATCHDOG_(?:USEC|PID)|LISTEN_(?:PID|FDS|FDNAMES|PIDFDID)|JOURNAL_STREAM|INVOCATION_ID"
    r"|(?:STATE|CREDENTIALS)_DIRECTORY"
    # the administrator's policy for TLS, which must not get weaker
    r"|OPENSSL_(?:CONF|MODULES)"
)
"""Names of the variables that the agent or a library of it makes use of."""


def drop_inherited(keep: Iterable[int]) -> None:
    """Close all descriptors but these and the standard ones, and forget all variables that are not needed.

    An open descriptor outlives every change of the user: what root had open when it started the agent, an
    attacker inside the agent could read. Standard input, which the agent does not read, is /dev/null then.

    Args:
        keep: descriptors that the agent was given, or has opened itself.
    """
    _close_others(sorted(fd for fd in set(keep) if fd >= STANDARD))
    _replace_standard()
    clean_environment(os.environ)
    _wipe_first_environment()


def clean_environment(environment: MutableMapping[str, str]) -> None:
    """Take out what is not :data:`KEPT`."""
    for name in [name for name in environment if not KEPT.fullmatch(name)]:
        del environment[name]


def _close_others(keep: list[int]) -> None:
    start = STANDARD
    for fd in keep:
        os.closerange(start, fd)
        start = fd + 1
    os.closerange(start, max(start, _AT_ONCE))
    # And those beyond one by one: where each takes a call, a closerange() over all numbers takes minutes.
    with contextlib.suppress(OSError):
        for name in [path.name for path in Path("/proc/self/fd").iterdir()]:
            if name.isdigit() and int(name) >= _AT_ONCE and int(name) not in keep:
                with contextlib.suppress(OSError):
                    os.close(int(name))


def _replace_standard() -> None:
    """/dev/null as standard input, and as what is closed: the next file would take its place."""
    try:
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        log.get().warning("standard input cannot be replaced", error=str(error))
        return
    for fd in range(STANDARD):
        if fd != 0 and _is_open(fd):
            continue
        os.dup2(null, fd)
    if null >= STANDARD:
        os.close(null)


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _wipe_first_environment() -> None:
    """Overwrite the variables as the process was started with them, which /proc/PID/environ shows.

    unsetenv() only forgets where they are: they stay in memory, for anybody who can read it. Those that are
    kept are set again first, so that the process uses copies elsewhere; only they are still shown here.
    """
    kept = dict(os.environ)
    os.environ.clear()
    os.environ.update(kept)
    try:
        # env_start and env_end, see proc_pid_stat(5); the name of the program may hold spaces and brackets.
        fields = Path("/proc/self/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        start, end = int(fields[47]), int(fields[48])
        memory = os.open("/proc/self/mem", os.O_WRONLY | os.O_CLOEXEC)
    except (OSError, ValueError, IndexError) as error:
        log.get().debug("the first environment stays in memory", error=str(error))
        return
    shown = b"".join(os.fsencode(f"{name}={value}") + b"\0" for name, value in kept.items())
    try:
        if 0 < start < end:
            os.pwrite(memory, shown[: end - start].ljust(end - start, b"\0"), start)
    except OSError as error:
        log.get().debug("the first environment stays in memory", error=str(error))
    finally:
        os.close(memory)
