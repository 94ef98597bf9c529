# SPDX-License-Identifier: Apache-2.0
"""Tells systemd how the agent is: sd_notify(3) and the watchdog.

Nothing here raises an error: a service manager that is gone is one line in the log, and the agent carries on.
"""

from __future__ import annotations

import os
import select
import socket
import time
from array import array
from typing import TYPE_CHECKING

from tdx_headroom import log
from tdx_headroom.errors import one_line

if TYPE_CHECKING:
    from collections.abc import MutableMapping, Sequence

SEND_SECONDS = 0.5
"""The longest that a message may wait for room in the service manager's queue, which holds hundreds."""

_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Notifier:
    """What the daemon tells its service manager; without one, every call does nothing.

    Args:
        environment: where NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID are, which are taken out of it; None:
            the process's own.
    """

    def __init__(self, environment: MutableMapping[str, str] | None = None) -> None:
        environment = os.environ if environment is None else environment
        given = {name: environment.pop(name, "") for name in _VARIABLES}
        self._address = _address(given["NOTIFY_SOCKET"])
        self._socket: socket.socket | None = None
        self._lost = False
        self._reloading = False
        self.watchdog_interval = _watchdog_interval(given) if self._address else None
        """Seconds between two calls of :meth:`watchdog`; None when nobody waits for them."""

    def ready(self, status: str = "") -> None:
        """Started: assessed once, and listening."""
        self._send("READY=1", *_status(status))

    def status(self, text: str) -> None:
        """One line for ``systemctl status``."""
        self._send(*_status(text))

    def reloading(self) -> None:
        """SIGHUP is being answered; :meth:`reloaded` must follow."""
        self._reloading = True
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def reloaded(self, status: str = "") -> None:
        """SIGHUP has been answered; does nothing when none was."""
        if self._reloading:
            self._reloading = False
            self.ready(status)

    def stopping(self, status: str = "") -> None:
        """About to end: the last message."""
        self._send("STOPPING=1", *_status(status))
        self.close()

    def watchdog(self) -> None:
        """Still alive."""
        self._send("WATCHDOG=1")

    def store(self, name: str, fd: int) -> None:
        """Ask systemd to keep a descriptor for the next start, under a name.

        ``FDPOLL=0``: a file of /proc is always readable, and would be thrown out at once.
        """
        self._send("FDSTORE=1", f"FDNAME={name}", "FDPOLL=0", descriptors=(fd,))

    def unstore(self, name: str) -> None:
        """Ask systemd to drop all descriptors of this name."""
        self._send("FDSTOREREMOVE=1", f"FDNAME={name}")

    def barrier(self, seconds: float) -> bool:
        """Wait until all that was sent has been dealt with; whether it has.

        A process that ends right after sending may be gone before the service manager has found out whose
        message it was.
        """
        reading, writing = os.pipe2(os.O_CLOEXEC)
        try:
            self._send("BARRIER=1", descriptors=(writing,))
        finally:
            os.close(writing)
        # What nobody has got ends at once too.
        return _wait_for_end(reading, seconds) and not self._lost

    def close(self) -> None:
        """Give the socket back."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    @property
    def connected(self) -> bool:
        """Whether there is a service manager, and it could be reached so far."""
        return self._address is not None and not self._lost

    def _send(self, *lines: str, descriptors: Sequence[int] = ()) -> None:
        if self._address is None or not lines:
            return
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                self._socket.settimeout(SEND_SECONDS)
            # Not connected: the socket may be replaced while the agent runs.
            # And by sendmsg(): socket.send_fds() takes an address and ignores it.
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))] if descriptors else []
            self._socket.sendmsg(["\n".join(lines).encode()], rights, 0, self._address)
        except (OSError, ValueError) as error:
            if not self._lost:
                log.get().warning("systemd cannot be told", error=str(error), message=lines[0])
            self._lost = True
        else:
            self._lost = False


def _address(text: str) -> str | None:
    """The address for connect(); ``@`` stands for the NUL of an abstract one. None: nobody to tell."""
    if not text:
        return None
    if text.startswith("@") and len(text) > 1:
        return "\0" + text[1:]
    if text.startswith("/"):
        return text
    log.get().warning("NOTIFY_SOCKET cannot be used", problem=f"{one_line(text, 80)!r} is no AF_UNIX address")
    return None


def _status(text: str) -> tuple[str, ...]:
    return (f"STATUS={one_line(text)}",) if text else ()


def _watchdog_interval(given: MutableMapping[str, str]) -> float | None:
    """Half of what the service manager waits for, as sd_watchdog_enabled(3) advises."""
    text, pid = given["WATCHDOG_USEC"], given["WATCHDOG_PID"]
    if not text or (pid and pid != str(os.getpid())):
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and int(text) > 0):
        log.get().warning("WATCHDOG_USEC cannot be used", problem=f"{one_line(text, 80)!r} is no time")
        return None
    return int(text) / 2e6


def _wait_for_end(fd: int, seconds: float) -> bool:
    """Whether the other end of the pipe was closed in time; closes this one."""
    poll = select.poll()
    poll.register(fd, 0)
    try:
        return bool(poll.poll(seconds * 1000))
    finally:
        os.close(fd)
