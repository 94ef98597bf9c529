# SPDX-License-Identifier: Apache-2.0
"""Entries of the Boot Loader Specification, type 1: what GRUB and systemd-boot share in reading them."""

from __future__ import annotations

MAX_ENTRY = 64 << 10
"""Bytes of an entry; larger ones are refused."""

Fields = dict[str, list[str]]
"""The values of each key, in order: some keys may be given several times."""


def first(fields: Fields, key: str) -> str | None:
    """The first value of a key; None without one."""
    values = fields.get(key)
    return values[0] if values else None
