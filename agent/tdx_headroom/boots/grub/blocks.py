# SPDX-License-Identifier: Apache-2.0
"""The environment blocks of a host's GRUB: read when they are asked for; what is saved stays in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.boots.grub.env import MAX_BLOCK, parse_block

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tdx_headroom.boots.grub.paths import Disk

Variables = dict[str, str]

NEXT = "next_entry"
SAVED = "saved_entry"
_ONE_SHOT = (NEXT, "prev_entry")
_CHOICES = (*_ONE_SHOT, SAVED, "prev_saved_entry")


class Blocks:
    """Environment blocks by their paths.

    Args:
        disk: the host's files.
        changed: blocks that stand for those of the files.
    """

    def __init__(self, disk: Disk, changed: Mapping[str, Variables] | None = None) -> None:
        self._disk = disk
        self._before: dict[str, Variables | None] = {
            path: dict(block) for path, block in (changed or {}).items()
        }
        self._now: dict[str, Variables | None] = {
            path: dict(block) for path, block in (changed or {}).items()
        }

    def load(self, relative: str) -> Variables | None:
        """The variables of a block; None: the file is no environment block.

        Raises:
            SourceError: it cannot be read.
        """
        if relative not in self._now:
            found = parse_block(self._disk.bytes(relative, MAX_BLOCK))
            self._before[relative] = found
            self._now[relative] = None if found is None else dict(found)
        return self._now[relative]

    def save(self, relative: str, name: str, value: str | None) -> None:
        """Save a variable, or delete it.

        Raises:
            SourceError: the block cannot be read.
        """
        block = self.load(relative)
        if block is None:
            return
        if value is None:
            block.pop(name, None)
        else:
            block[name] = value

    @property
    def used_up(self) -> dict[str, str]:
        """What named an entry for one boot only, and does so no more."""
        return {
            name: before[name]
            for path, before in self._before.items()
            for name in _ONE_SHOT
            if before is not None and before.get(name) and not (self._now[path] or {}).get(name)
        }

    @property
    def saved_entry_changed(self) -> bool:
        """Whether the saved entry was one for the next boot only, and is another one now."""
        return any(
            before is not None and before.get(SAVED) != (self._now[path] or {}).get(SAVED)
            for path, before in self._before.items()
        )

    def afterwards(self) -> dict[str, Variables]:
        """The blocks of the boot after the next one: what is for one boot only is gone, all else as it is."""
        found: dict[str, Variables] = {}
        for path, before in self._before.items():
            now = self._now[path]
            if before is not None and now is not None:
                found[path] = {
                    name: value
                    for name in {**before, **now}
                    if (value := (now if name in _CHOICES else before).get(name)) is not None
                }
        return found

    def naming(self, variable: str, entry: str) -> dict[str, Variables] | None:
        """The block as a command leaves it that names an entry; None: it is not known which block that is.

        Args:
            variable: which names it.
            entry: its id, behind those of its submenus.
        """
        blocks = {path: block for path, block in self._before.items() if block is not None}
        if len(blocks) != 1:
            return None
        kept = _CHOICES[2:] if variable == NEXT else ()
        return {
            path: {
                **{name: value for name, value in block.items() if name not in _CHOICES or name in kept},
                variable: entry,
            }
            for path, block in blocks.items()
        }
