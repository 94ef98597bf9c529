# SPDX-License-Identifier: Apache-2.0
"""A process that the service waits for: bounded in time and output, and gone afterwards whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.child import child_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

END_SECONDS = 1.0
CHUNK = 1 << 16
MAX_SAID = 1 << 12
"""Bytes of its errors that are kept; nobody reads more of them in a line of the log."""


class TooMuchOutput(Exception):  # noqa: N818  as TimeoutError says what there was too much of
    """A child has printed more than it may."""


class Ended(NamedTuple):
    """How a child has ended by itself.

    Args:
        status: its exit status; negative: the signal that has ended it.
        said: the beginning of what it wrote to its standard error.
    """

    status: int
    said: str


async def run_child(
    command: Sequence[str], take: Callable[[bytes], None], *, seconds: float, most: int
) -> Ended:
    """Run a program, with no more of the environment than any child gets, and no descriptor.

    Args:
        command: a program, its path or a name in ``PATH``, and arguments.
        take: is given its output piece by piece: as a whole it may be more than the agent may take of memory.
            What it raises ends the child.
        seconds: that it may take.
        most: bytes that it may print.

    Raises:
        OSError: it cannot be started.
        TimeoutError: it has taken longer.
        TooMuchOutput: it has printed more.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=child_environment(),
        cwd="/",
        close_fds=True,
        start_new_session=True,
    )
    said: list[bytes] = []
    errors = asyncio.create_task(_keep_beginning(process.stderr, said))
    try:
        async with asyncio.timeout(seconds):
            size = 0
            while piece := await _read(process.stdout):
                size += len(piece)
                if size > most:
                    raise TooMuchOutput
                take(piece)
            await errors
            return Ended(await process.wait(), b"".join(said).decode("utf-8", "backslashreplace"))
    finally:
        await _end(process)
        errors.cancel()


async def _read(stream: asyncio.StreamReader | None) -> bytes:
    return b"" if stream is None else await stream.read(CHUNK)


async def _keep_beginning(stream: asyncio.StreamReader | None, kept: list[bytes]) -> None:
    """Read all of it: a child whose errors nobody reads stands still."""
    left = MAX_SAID
    while piece := await _read(stream):
        if left:
            kept.append(piece[:left])
            left -= len(kept[-1])


async def _end(process: asyncio.subprocess.Process) -> None:
    """End it, with what it has started, which may hold its output open.

    What it has written has to be read: until then wait() does not return, though it is dead.
    """
    if process.returncode is None or _is_free(process.pid):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(END_SECONDS):
            while await _read(process.stdout):
                pass
            await process.wait()


def _is_free(pid: int) -> bool:
    """Whether no process has this number, so that a group of it can only be the one that had it last.

    Once a child has been waited for, another process may get its number and lead a group of its own; but not
    while the child's group has members.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False
