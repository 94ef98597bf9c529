# SPDX-License-Identifier: Apache-2.0
"""Whether a tree is this running host, be it mounted into a container, and lacks what tells the next boot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.boots.reasons import SOURCE
from tdx_headroom.boots.watched import MODULES
from tdx_headroom.errors import SourceError
from tdx_headroom.hostfs.root import Root
from tdx_headroom.sources.platform import read_boot_id

if TYPE_CHECKING:
    from tdx_headroom.hostfs.files import HostFiles

_BOOT = "boot"


def is_this_host(files: HostFiles) -> bool:
    """Whether these are files of the host that runs, be it seen from a container; else they are captured."""
    if files.live:
        return True
    boot_id = read_boot_id(files)
    return boot_id is not None and boot_id == read_boot_id(Root("/"))


def boot_folder_unseen(files: HostFiles) -> str | None:
    """Why nothing can be said of a mounted host's boot entries, a clause; None where this is no such tree.

    A captured host without ``/boot`` has none that anybody knows of. One that is mounted has one for sure as
    long as nobody has looked: that nothing is staged must not be concluded from a folder that is not mounted.
    An empty one beside the host's modules is the host's own, as on a virtual machine whose kernel comes from
    outside.

    Args:
        files: of the host.
    """
    # A capture that is being made of the running host is not live, and reads what lies below / all the same.
    if files.live or files.path == "/" or not is_this_host(files):
        return None
    where = files.locate(_BOOT)
    try:
        if files.entries(SOURCE, _BOOT) or any(map(files.exists, MODULES)):
            return None
    except SourceError as error:
        return f"{where} is not mounted" if error.absent else error.reason
    return f"{where} is empty: nothing is mounted there"
