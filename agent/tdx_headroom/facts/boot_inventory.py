# SPDX-License-Identifier: Apache-2.0
"""An inventory as a file, in place of boot configurations, which only root may read and may hold secrets.

A capture has one, and ``tdx-headroom-boots.service`` writes one for the agent, which is not root.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.errors import SourceError
from tdx_headroom.facts.boots import BootInventory
from tdx_headroom.facts.codec import DecodeError, decode, encode
from tdx_headroom.facts.document import document

if TYPE_CHECKING:
    from collections.abc import Mapping

INVENTORY_PATH = "run/tdx-headroom-boots/boots.json"
"""Where it lies, relative to the host's root."""
SCHEMA = "tdx-headroom/boots/1"
MAX_INVENTORY = 4 << 20
"""Bytes; 200 entries with the longest command lines stay below it."""
MASK = "…"
_SOURCE = "boots"
_TAKEN = "taken"

# UUIDs of file systems, and machine ids.
_UNIQUE = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9a-fA-F]{16,64}")


class Taken(NamedTuple):
    """Of what an inventory was taken: it counts as long as that is so.

    Args:
        boot_id: of the boot that ran.
        state: of the files and directories that it depends on, by path: another one is another next boot.
    """

    boot_id: str
    state: Mapping[str, str]


def write_inventory(inventory: BootInventory, taken: Taken | None = None) -> str:
    """Its text.

    Args:
        inventory: to be written.
        taken: of what; None in a capture, whose boot is over.
    """
    of_what = {} if taken is None else {_TAKEN: taken._asdict()}
    return json.dumps({"schema": SCHEMA, **of_what, **encode(inventory)}, indent=1) + "\n"


def parse_inventory(text: str) -> BootInventory:
    """The inventory in a text.

    Raises:
        SourceError: it is none.
    """
    return parse_taken(text)[0]


def parse_taken(text: str) -> tuple[BootInventory, Taken | None]:
    """The inventory in a text, and of what it was taken.

    Raises:
        SourceError: it is none.
    """
    value = document(_SOURCE, SCHEMA, text)
    try:
        found: BootInventory = decode(BootInventory, value, _SOURCE)
    except DecodeError as error:
        raise SourceError(_SOURCE, str(error)) from None
    return found, _parse_taken(value.get(_TAKEN))


def _parse_taken(value: object) -> Taken | None:
    if value is None:
        return None
    if isinstance(value, dict):
        boot_id, state = (value.get(name) for name in Taken._fields)
        if isinstance(boot_id, str) and isinstance(state, dict):
            return Taken(boot_id, {str(path): str(mark) for path, mark in state.items()})
    raise SourceError(_SOURCE, "of what it was taken cannot be read")


def redacted(inventory: BootInventory) -> BootInventory:
    """The inventory without what names a machine: titles, UUIDs of file systems, machine ids."""

    def masked(text: str | None) -> str | None:
        return None if text is None else mask(text)

    return replace(
        inventory,
        entries=tuple(
            replace(
                entry,
                entry=masked(entry.entry),
                title=None,
                known_from=mask(entry.known_from),
                unknown=masked(entry.unknown),
                file=masked(entry.file),
                traits=None
                if entry.traits is None
                else replace(entry.traits, unread=tuple(map(mask, entry.traits.unread))),
            )
            for entry in inventory.entries
        ),
        unknown=masked(inventory.unknown),
        firmware_update=masked(inventory.firmware_update),
        notes=tuple(map(mask, inventory.notes)),
    )


def mask(text: str) -> str:
    """The text with ids that no two machines share replaced by MASK."""
    return _UNIQUE.sub(MASK, text)
