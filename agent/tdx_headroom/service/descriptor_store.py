# SPDX-License-Identifier: Apache-2.0
"""For systemd before 253, which has no ``OpenFile=``: opens as root what the agent may not open.

Run by ``ExecStartPre=+`` of the unit. The descriptors go into the unit's descriptor store, and the agent gets
them at its start (:mod:`tdx_headroom.service.descriptors`). This process does nothing else and ends.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tdx_headroom import log
from tdx_headroom.errors import AgentError, SourceError
from tdx_headroom.service.descriptors import open_privileged

if TYPE_CHECKING:
    from tdx_headroom.hostfs.files import HostFiles
    from tdx_headroom.service.notify import Notifier

BARRIER_SECONDS = 10.0


def store_files(root: HostFiles, notifier: Notifier) -> list[str]:
    """Open the privileged files and hand them to systemd; those of an earlier start are thrown out first.

    A file that cannot be opened is worth a line in the log: the agent works with the others.

    Args:
        root: of the running host.
        notifier: to systemd.

    Returns:
        Names of the files that were handed over.

    Raises:
        AgentError: there is no systemd to hand them to, or it does not listen.
    """
    if not notifier.connected:
        raise AgentError(
            "there is no systemd to hand the files to",
            hint="this is for ExecStartPre=+ of a unit that has NotifyAccess=exec",
            status=os.EX_USAGE,
        )
    stored = []
    for name, opened in open_privileged(root).items():
        # Also when it cannot be opened: an older descriptor of it would be one of an earlier boot's debugfs.
        notifier.unstore(name)
        if isinstance(opened, SourceError):
            log.get().warning("a file cannot be handed to the agent", error=str(opened))
            continue
        notifier.store(name, opened)
        os.close(opened)
        stored.append(name)
    if not notifier.barrier(BARRIER_SECONDS):
        raise AgentError(
            "systemd has not taken the files",
            hint="the unit needs NotifyAccess=exec and FileDescriptorStoreMax=",
            status=os.EX_UNAVAILABLE,
        )
    return stored
