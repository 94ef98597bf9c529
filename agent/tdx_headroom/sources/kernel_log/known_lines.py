# SPDX-License-Identifier: Apache-2.0
"""Which messages the agent understands at all: those about TDX, and those about memory at boot."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tdx_headroom.sources.kernel_log import boot_lines
from tdx_headroom.sources.kernel_log.kmsg import HEAD
from tdx_headroom.sources.kernel_log.tdx_lines import (
    CANDIDATE,
    HARMLESS,
    KVM_HARMLESS,
    KVM_SAYS_TDX,
    TDX_PREFIX,
    match_tdx_line,
    may_hide_failure,
)
from tdx_headroom.sources.platform import relevant_arguments

if TYPE_CHECKING:
    from tdx_headroom.sources.kernel_log.records import KernelLog

# A program's name, 15 bytes at most, and its number: what it is called says nothing.
CRASH = re.compile(r".{1,15}\[[0-9]+\]: ")
# A bridge or a module may be called tdx as well, so not everywhere.
_SAYS_TDX = re.compile(rf"(?:{HEAD})?{TDX_PREFIX.pattern}")

# No bridge says these.
_NO_NAME = ("virt/tdx: ", "tdx: module ", "tdx: TDX", "tdx: initialization", "private KeyID", "for PAMT")


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
    if is_unread_of_kvm(message):
        return True
    if not _SAYS_TDX.match(message) or HARMLESS.match(message) or CRASH.match(message):
        return False
    return match_tdx_line(message) is None


def is_unread_of_kvm(message: str) -> bool:
    """The same of KVM's messages about TDX; nearly all of them tell of something that does not work."""
    if not KVM_SAYS_TDX.match(message) or KVM_HARMLESS.fullmatch(message) or CRASH.match(message):
        return False
    return match_tdx_line(message) is None


def unread_of(log: KernelLog) -> tuple[str, ...]:
    """Lines of a log that tell of TDX and are not understood.

    In a log that only the kernel can have written, those of KVM alone: a bridge may be called ``tdx``, and
    what it prints names devices as a user likes.
    """
    if log.unread:
        return log.unread
    check = is_unread_of_kvm if log.verified else is_unread
    return tuple(record.text for record in log.records if check(record.text))


def hides_failure(log: KernelLog) -> bool:
    """Whether a line that could not be read may be a failure."""
    return any(map(may_hide_failure, unread_of(log)))


def holds_failure(message: str) -> bool:
    """Whether a line of a text holds what may be a failure of TDX, behind what is no form of a log."""
    # Most lines have none of these words.
    if "tdx: " not in message and "for PAMT" not in message:
        return False
    if not may_hide_failure(message) or not any(words in message for words in _NO_NAME):
        return False
    return not (CRASH.match(message) or HARMLESS.match(message) or is_known(message))


def in_short(text: str) -> str:
    """A known message with no more than the agent reads of it; a name of a machine or a user is not in it."""
    if version := boot_lines.VERSION.fullmatch(text):
        return f"Linux version {version[1]}"
    if command_line := boot_lines.COMMAND_LINE.fullmatch(text):
        image = boot_lines.BOOT_IMAGE.search(command_line[2])
        loaded = [f"BOOT_IMAGE=/vmlinuz-{image[1]}"] if image else []
        return " ".join([f"{command_line[1]} line:", *loaded, *relevant_arguments(command_line[2])])
    return text
