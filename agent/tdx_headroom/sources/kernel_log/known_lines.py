# SPDX-License-Identifier: Apache-2.0
"""Which messages the agent understands at all: those about TDX, and those about memory at boot."""

from __future__ import annotations

import re

from tdx_headroom.sources.kernel_log import boot_lines
from tdx_headroom.sources.kernel_log.kmsg import HEAD
from tdx_headroom.sources.kernel_log.tdx_lines import CANDIDATE, HARMLESS, TDX_PREFIX, match_tdx_line
from tdx_headroom.sources.platform import relevant_arguments

# A program's name, 15 bytes at most, and its number: what it is called says nothing.
CRASH = re.compile(r".{1,15}\[[0-9]+\]: ")
# A bridge or a module may be called tdx as well, so not everywhere.
_SAYS_TDX = re.compile(rf"(?:{HEAD})?{TDX_PREFIX.pattern}")


def matters(text: str) -> bool:
    """Whether a message begins as one that is understood.

    For counting and for telling a log from prose. It is no reason to keep a message: a bridge may be called
    ``tdx``, and a program ``Command line: ``.
    """
    stripped = text.strip()
    return CANDIDATE.match(stripped) is not None or boot_lines.begins_like_one(stripped)


def is_known(text: str) -> bool:
    """Whether a message is, as a whole, one that is understood."""
    stripped = text.strip()
    return match_tdx_line(stripped) is not None or boot_lines.is_one(stripped)


def is_unread(message: str) -> bool:
    """Whether a message is one of the kernel's about TDX that is not understood, and may mean something."""
    if not _SAYS_TDX.match(message) or HARMLESS.match(message) or CRASH.match(message):
        return False
    return match_tdx_line(message) is None


def in_short(text: str) -> str:
    """A known message with no more than the agent reads of it; a name of a machine or a user is not in it."""
    if version := boot_lines.VERSION.fullmatch(text):
        return f"Linux version {version[1]}"
    if command_line := boot_lines.COMMAND_LINE.fullmatch(text):
        image = boot_lines.BOOT_IMAGE.search(command_line[2])
        loaded = [f"BOOT_IMAGE=/vmlinuz-{image[1]}"] if image else []
        return " ".join([f"{command_line[1]} line:", *loaded, *relevant_arguments(command_line[2])])
    return text
