# SPDX-License-Identifier: Apache-2.0
"""What the service of this host has on record of its boots, for who may read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.commands.arguments import file_name
from tdx_headroom.errors import SourceError
from tdx_headroom.hostfs.root import Root
from tdx_headroom.service.state_file import FILE, MAX_FILE, parse
from tdx_headroom.sources.machine import machine_marks

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from tdx_headroom.facts.boot_record import BootRecord

STATE_DIRECTORY = "/var/lib/tdx-headroom"
"""As the unit has it."""


def add_state_directory(parser: argparse.ArgumentParser) -> None:
    """The option that names the service's state."""
    parser.add_argument(
        "--state-directory",
        type=file_name,
        default=STATE_DIRECTORY,
        metavar="DIR",
        help=f"where the service of this host keeps its records (default {STATE_DIRECTORY})",
    )


def kept_records(
    directory: str = STATE_DIRECTORY, warn: Callable[[str], None] = lambda _: None
) -> tuple[BootRecord, ...]:
    """The boots on record, the oldest first; none of another machine, with whose disk image they came.

    Args:
        directory: where the service keeps its state.
        warn: told why a state that is there cannot be read.
    """
    path = f"{directory}/{FILE}"
    root = Root("/")
    try:
        state = parse(root.read_bytes("state", path.lstrip("/"), limit=MAX_FILE))
        return state.on_machine(machine_marks(root)).records
    except SourceError as error:
        if not error.absent:
            warn(str(error))
    except (ValueError, RecursionError) as error:
        warn(f"{path}: {error}")
    return ()
