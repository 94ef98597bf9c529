# SPDX-License-Identifier: Apache-2.0
"""Takes the inventory of a host while its boot configuration may be changing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tdx_headroom.boots.inventory import BootReader
from tdx_headroom.boots.watched import state_of_files
from tdx_headroom.facts.boot_inventory import Taken
from tdx_headroom.facts.boots import BootInventory
from tdx_headroom.sources.platform import read_boot_id

if TYPE_CHECKING:
    from tdx_headroom.hostfs.files import HostFiles

SECONDS = 120.0
"""How long to look again. An upgrade writes for long (an initial RAM disk, grub.cfg), and what changes while
this runs starts no path unit of systemd's (measured: 257). A look takes 0.5 s, and 20 s on an emulated
processor: the unit gives all of them 300 s."""
PAUSE = 0.2


def take_inventory(files: HostFiles) -> tuple[BootInventory, Taken]:
    """The inventory, and the state of the files that it was taken of: looked at again where that has changed.

    Args:
        files: of the running host.
    """
    reader = BootReader.with_images()
    state = state_of_files(files)
    until = time.monotonic() + SECONDS
    while True:
        found = reader.take(files)
        before, state = state, state_of_files(files)
        if before == state or time.monotonic() > until:
            break
        time.sleep(PAUSE)
        state = state_of_files(files)
    return found or BootInventory(), Taken(read_boot_id(files) or "", before)
