# SPDX-License-Identifier: Apache-2.0
"""``tdx-headroom take-boots``: root's inventory of boot entries, for an agent that is not root.

``tdx-headroom-boots.service`` runs it when ``tdx-headroom-boots.path`` sees a change; no person has to.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tdx_headroom.boots.taking import take_inventory
from tdx_headroom.commands.arguments import add_rootfs, file_name
from tdx_headroom.commands.output_file import write
from tdx_headroom.facts.boot_inventory import INVENTORY_PATH, write_inventory
from tdx_headroom.hostfs.root import host_root

if TYPE_CHECKING:
    import argparse


def add(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument(
        "--output", type=file_name, default=f"/{INVENTORY_PATH}", metavar="F", help="- is stdout"
    )
    add_rootfs(parser)


def run(options: argparse.Namespace) -> int:
    """Take the inventory and write it, readable for everybody."""
    inventory, taken = take_inventory(host_root(options.rootfs))
    write(options.output, write_inventory(inventory, taken).encode())
    return os.EX_OK
