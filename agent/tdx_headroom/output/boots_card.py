# SPDX-License-Identifier: Apache-2.0
"""The page's section about boot entries, and the one that comes next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tdx_headroom.errors import one_line
from tdx_headroom.output.addresses import public
from tdx_headroom.output.boots_report import STARTS, TAKEN, WORDS, is_taken, told_differences, told_roles
from tdx_headroom.output.moods import MOODS
from tdx_headroom.verdict import State
from tdx_headroom.verdict.boots import why_none_comes

if TYPE_CHECKING:
    from tdx_headroom.facts.boots import BootEntry
    from tdx_headroom.verdict.assessment import Assessment
    from tdx_headroom.verdict.boots import Boot

MAX_ROWS = 24


def next_boot_state(assessment: Assessment) -> State | None:
    """What TDX does in the boot that is staged; None where nothing is known to be, or there is no TDX."""
    boots = assessment.facts.boots
    if boots is None or not boots.configured or assessment.verdict.state is State.NOT_TDX:
        return None
    return State.CANNOT_TELL if assessment.coming is None else assessment.coming.state


def next_boot_text(assessment: Assessment, *, full_addresses: bool) -> str:
    """Why, in a sentence."""
    if assessment.coming is not None:
        return public(assessment.coming.why, full_addresses=full_addresses)
    why = one_line(why_none_comes(assessment.facts))
    return public(f"Which boots next cannot be told: {why}.", full_addresses=full_addresses)


def boots_section(assessment: Assessment, *, full_addresses: bool) -> dict[str, Any] | None:
    """What the template shows; None where nobody has looked for boot entries."""
    boots = assessment.boots
    if boots is None:
        return None
    coming = assessment.coming
    return {
        "mood": "warn" if coming is None else MOODS[coming.state],
        "word": "Cannot tell" if coming is None else WORDS[coming.state].capitalize().replace("tdx", "TDX"),
        "text": next_boot_text(assessment, full_addresses=full_addresses),
        "which": None if coming is None else _which(coming.entry),
        "known_from": None
        if coming is None or is_taken(coming.entry)
        else public(coming.entry.known_from, full_addresses=full_addresses),
        "rows": [_row(boot, full_addresses=full_addresses) for boot in boots[:MAX_ROWS]],
        "more": max(len(boots) - MAX_ROWS, 0),
    }


def _which(entry: BootEntry) -> str:
    """Which boot comes next, beside the running one."""
    return TAKEN if is_taken(entry) else told_differences(entry.differs)


def _row(boot: Boot, *, full_addresses: bool) -> dict[str, Any]:
    entry = boot.entry
    # A title may have the host's name in it.
    name = (entry.title if full_addresses else None) or entry.entry or entry.known_from
    return {
        "next": boot.is_next,
        "roles": told_roles(entry.roles),
        "kernel": one_line(entry.release or "unknown", 60),
        "mood": MOODS[boot.state],
        "word": WORDS[boot.state],
        "left": None if boot.plan is None else boot.plan.headroom,
        "starts": STARTS[boot.start.starts],
        "entry": one_line(public(name, full_addresses=full_addresses), 80),
    }
