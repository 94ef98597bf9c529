# SPDX-License-Identifier: Apache-2.0
"""The entry to boot instead of one with which TDX does not come up."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.errors import one_line
from tdx_headroom.facts.boots import Role
from tdx_headroom.verdict.model import State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tdx_headroom.verdict.assessment import Assessment
    from tdx_headroom.verdict.boots import Boot


class WayOut(NamedTuple):
    """A boot that is better than the next one.

    Args:
        boot: that one.
        for_good: whether it is to be the default: what is for one boot comes before that.
    """

    boot: Boot
    for_good: bool


def way_out(assessment: Assessment) -> WayOut | None:
    """The entry to boot instead: the running one first, then its kernel's others, and a risk at last.

    None where the next boot is fine or cannot be told, or where no entry is known to be better.

    Args:
        assessment: of any host.
    """
    coming = assessment.coming
    if coming is None or coming.state not in (State.WILL_FAIL, State.AT_RISK):
        return None
    boots = assessment.boots or ()
    running = running_release(boots)
    ids = Counter(boot.entry.entry for boot in boots)
    found: list[tuple[int, Boot]] = []
    for boot in boots:
        entry = boot.entry
        better = boot.state is State.WILL_INITIALIZE or (
            boot.state is State.AT_RISK and coming.state is State.WILL_FAIL
        )
        # An id that two have names only one of them.
        named = entry.entry is not None and ids[entry.entry] == 1
        if not named or not better or boot.is_next or entry.recovery or entry.unknown is not None:
            continue
        rank = 4 * (boot.state is State.AT_RISK) + 2 * (entry.release != running)
        found.append((rank + (Role.RUNNING not in entry.roles), boot))
    if not found:
        return None
    best = min(found, key=lambda one: one[0])[1]
    return WayOut(best, for_good=Role.ONE_SHOT not in coming.entry.roles)


def in_words(way: WayOut, coming: Boot) -> str:
    """What to boot instead, and what TDX does then, in a sentence without commands.

    Args:
        way: out.
        coming: the next boot.
    """
    entry = way.boot.entry
    what = f"kernel {one_line(entry.release or '', 60)}"
    if entry.release == coming.entry.release:
        what = f"the entry {one_line(entry.entry or '', 100)}"
    does = "is at risk" if way.boot.state is State.AT_RISK else "comes up"
    left = None if way.boot.plan is None else way.boot.plan.headroom
    areas = "" if left is None else f" ({left} reserved area{'' if left == 1 else 's'} left)"
    return f"Boot {what} instead, with which TDX {does}{areas}"


def told(assessment: Assessment) -> list[str]:
    """The sentence for people who do not have the commands before them; none where there is no way out."""
    way, coming = way_out(assessment), assessment.coming
    return (
        [] if way is None or coming is None else [f"{in_words(way, coming)}: `tdx-headroom remedy` says how."]
    )


def running_release(boots: Sequence[Boot]) -> str | None:
    """The release of the running kernel."""
    return next((boot.entry.release for boot in boots if Role.RUNNING in boot.entry.roles), None)
