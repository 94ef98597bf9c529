# SPDX-License-Identifier: Apache-2.0
"""One shot for node_exporter's textfile collector: the metrics in a file that is always whole."""

from __future__ import annotations

import contextlib
import os
import secrets
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest

from tdx_headroom.errors import AgentError
from tdx_headroom.output import metrics

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.core import Metric

    from tdx_headroom.assessment import Assessment

SUFFIX = ".prom"
MODE = 0o644


class _Once:
    """One view as a collector."""

    def __init__(self, assessment: Assessment, health: metrics.Health) -> None:
        self._view = assessment, health

    def collect(self) -> Iterable[Metric]:
        return metrics.collect(*self._view)

    def describe(self) -> Iterable[Metric]:
        return metrics.describe()


def render_textfile(assessment: Assessment, health: metrics.Health) -> bytes:
    """The agent's own metrics as text; none of its process, for node_exporter has those of its own."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Once(assessment, health))
    return generate_latest(registry)


def check_name(path: str) -> None:
    """Refuse a name that the collector would pass over.

    Raises:
        AgentError: it does not end in ``.prom``, or is hidden.
    """
    name = os.path.basename(path)  # noqa: PTH119  split as write_textfile() does
    if not name.endswith(SUFFIX) or name.startswith("."):
        raise AgentError(
            f"{path} is no file that node_exporter reads",
            hint="give a name such as /var/lib/prometheus/node-exporter/tdx-headroom.prom",
            status=os.EX_USAGE,
        )


def write_textfile(path: str, data: bytes) -> None:
    """Put the data in place of the file, at once: a reader sees the old file or the new one.

    The temporary file is in the same folder, has a name that cannot be guessed, and is created by this call
    or not at all; no link is followed: the folder may be writable by others.

    Args:
        path: the file; it may exist, and may be a link, which is replaced and not followed.
        data: its new content.

    Raises:
        AgentError: the folder cannot be written to, or is full; an old file stays as it is.
    """
    folder, name = os.path.split(path)
    try:
        folder_fd = os.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _failed(folder or ".", error, os.EX_CANTCREAT) from None
    temporary = f".{name}.{os.getpid()}.{secrets.token_hex(8)}"
    try:
        _write(folder_fd, temporary, data)
        os.rename(temporary, name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
        # The name is on disk only when the folder is.
        os.fsync(folder_fd)
    except OSError as error:
        raise _failed(path, error, os.EX_IOERR) from None
    finally:
        with contextlib.suppress(FileNotFoundError, OSError):
            os.unlink(temporary, dir_fd=folder_fd)
        os.close(folder_fd)


def _write(folder_fd: int, name: str, data: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(name, flags, 0o600, dir_fd=folder_fd)
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(fd, left) :]
        # Not by the mode of open(): the umask would have its say.
        os.fchmod(fd, MODE)
        os.fsync(fd)
    finally:
        os.close(fd)


def _failed(path: str, error: OSError, status: int) -> AgentError:
    hint = "run as a user that may write there" if isinstance(error, PermissionError) else None
    return AgentError(f"{path} cannot be written: {error.strerror}", hint=hint, status=status)
