# SPDX-License-Identifier: Apache-2.0
"""Records of boots as a file: what a capture has of them, and how the agent's state keeps them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tdx_headroom.errors import SourceError
from tdx_headroom.facts.boot_record import BootRecord
from tdx_headroom.facts.codec import DecodeError, decode, encode
from tdx_headroom.facts.document import document

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

RECORDS_PATH = "var/lib/tdx-headroom/boot-records.json"
"""Where a capture has them, relative to the host's root; the host itself has them in the agent's state."""
SCHEMA = "tdx-headroom/boot-records/1"
MAX_HISTORY = 1 << 20
"""Bytes of all records together."""
MAX_REGIONS = 100_000
"""Memory regions of all maps together: told by differences they take few bytes, and much memory unpacked."""
SOURCE = "boot-records"

FIRMWARE_VERSION = re.compile(r"[A-Za-z0-9 ._()\[\]/-]{1,64}")
"""What a capture may have of a firmware's version: all that such versions are made of."""
_RELEASE = re.compile(r"[0-9][A-Za-z0-9._+~-]{0,80}")


def write_records(records: Iterable[BootRecord]) -> str:
    """Their text.

    Args:
        records: the oldest first; of more than fit, the newest are written.
    """
    return json.dumps({"schema": SCHEMA, "records": packed([encode(record) for record in records])}) + "\n"


def parse_records(text: str) -> tuple[BootRecord, ...]:
    """The records in a text, the oldest first.

    Raises:
        SourceError: it holds none.
    """
    value = document(SOURCE, SCHEMA, text).get("records")
    try:
        records = unpacked(value)
        if not isinstance(records, list):
            raise SourceError(SOURCE, "its records are no list")
        return tuple(decode(BootRecord, record, f"record {n}") for n, record in enumerate(records, 1))
    except DecodeError as error:
        raise SourceError(SOURCE, str(error)) from None


def redacted(record: BootRecord, relevant: Callable[[str], Iterable[str]]) -> BootRecord:
    """The record without the id of its boot, and with nothing that names a machine.

    Args:
        record: of a boot.
        relevant: those of a command line's arguments that a capture may have.
    """
    arguments = None if record.arguments is None else tuple(relevant(" ".join(record.arguments)))
    return replace(
        record,
        boot_id=None,
        kernel_release=_matching(_RELEASE, record.kernel_release),
        arguments=arguments,
        bios_version=_matching(FIRMWARE_VERSION, record.bios_version),
    )


def _matching(pattern: re.Pattern[str], text: str | None) -> str | None:
    return text if text is not None and pattern.fullmatch(text) else None


def packed(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Records of boots with each memory map told by how it differs from that of the boot after it.

    As many of the newest as fit into :data:`MAX_HISTORY` bytes and :data:`MAX_REGIONS` regions.

    Args:
        records: as the codec writes them, the oldest first.
    """
    found: list[dict[str, Any]] = []
    size = count = 0
    newer: list[list[Any]] | None = None
    for record in reversed(records):
        regions = record["regions"]
        count += len(regions or ())
        kept = record
        if regions is not None and newer is not None:
            own, other = {tuple(region) for region in regions}, {tuple(region) for region in newer}
            come = [region for region in regions if tuple(region) not in other]
            gone = [region for region in newer if tuple(region) not in own]
            kept = {**record, "regions": {"come": come, "gone": gone}}
        newer = regions if regions is not None else newer
        size += len(json.dumps(kept))
        if size > MAX_HISTORY or count > MAX_REGIONS:
            break
        found.insert(0, kept)
    return found


def unpacked(records: object) -> object:
    """The records that were packed; what is none is left as it is, for the codec to refuse.

    Raises:
        DecodeError: they hold more memory regions than were ever packed.
    """
    if not isinstance(records, list):
        return records
    newer: list[Any] = []
    count = 0
    for record in reversed(records):
        regions = record.get("regions") if isinstance(record, dict) else None
        if isinstance(regions, dict):
            come, gone = regions.get("come"), regions.get("gone")
            if isinstance(come, list) and isinstance(gone, list):
                away = set(map(repr, gone))
                left = [region for region in newer if repr(region) not in away] if away else newer
                record["regions"] = sorted([*left, *come], key=_start)
        if isinstance(record, dict) and isinstance(record.get("regions"), list):
            newer = record["regions"]
            count += len(newer)
        if count > MAX_REGIONS:
            raise DecodeError(f"its maps have more than {MAX_REGIONS} memory regions together")
    return records


def _start(region: object) -> int:
    start = region[0] if isinstance(region, list) and region else 0
    return start if isinstance(start, int) else 0
