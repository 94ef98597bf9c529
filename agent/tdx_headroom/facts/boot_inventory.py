# SPDX-License-Identifier: Apache-2.0
"""An inventory as a file: what a capture has in place of boot configurations, which may hold secrets."""

from __future__ import annotations

import json
import re
from dataclasses import replace

from tdx_headroom.errors import SourceError
from tdx_headroom.facts.boots import BootInventory
from tdx_headroom.facts.codec import DecodeError, decode, encode

INVENTORY_PATH = "run/tdx-headroom-boots/boots.json"
"""Where it lies, relative to the host's root."""
SCHEMA = "tdx-headroom/boots/1"
_SOURCE = "boots"

# UUIDs of file systems, and machine ids.
_UNIQUE = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9a-fA-F]{16,64}")


def write_inventory(inventory: BootInventory) -> str:
    """Its text."""
    return json.dumps({"schema": SCHEMA, **encode(inventory)}, indent=1) + "\n"


def parse_inventory(text: str) -> BootInventory:
    """The inventory in a text.

    Raises:
        SourceError: it is none.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SourceError(_SOURCE, f"it is no JSON: {error}") from None
    schema = value.get("schema") if isinstance(value, dict) else None
    if schema != SCHEMA:
        raise SourceError(_SOURCE, f"its schema is {schema!r}", hint=f"this agent reads {SCHEMA}")
    try:
        found: BootInventory = decode(BootInventory, value, _SOURCE)
    except DecodeError as error:
        raise SourceError(_SOURCE, str(error)) from None
    return found


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
    """The text with ids that no two machines share replaced by ``…``."""
    return _UNIQUE.sub("…", text)
