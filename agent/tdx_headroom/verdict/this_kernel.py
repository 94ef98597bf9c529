# SPDX-License-Identifier: Apache-2.0
"""What the kernel that facts are about does: by its own files where they tell, else by the table."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.facts.boots import Starts, TraitsFrom
from tdx_headroom.plan import Strategy
from tdx_headroom.verdict.kernels import built_from, look_up, why_unknown
from tdx_headroom.verdict.model import WHAT_TAKES_AREAS, Basis, StrategyFinding, capitalized

if TYPE_CHECKING:
    from tdx_headroom.facts.boots import KernelTraits
    from tdx_headroom.facts.host_facts import HostFacts

_TRIES = (Starts.BOOT, Starts.KVM_LOAD)


class KnownStart(NamedTuple):
    """When a kernel initializes TDX, and what tells it; UNKNOWN and None where nothing does."""

    starts: Starts
    known_from: TraitsFrom | None


_NOT_KNOWN = KnownStart(Starts.UNKNOWN, None)


def known_start(facts: HostFacts) -> KnownStart:
    """When the kernel of these facts initializes TDX."""
    traits = facts.traits
    if traits is not None and traits.known_from is not None and traits.starts is not Starts.UNKNOWN:
        return KnownStart(traits.starts, traits.known_from)
    row = look_up(facts.kernel_release)
    if row is None or row.starts is Starts.UNKNOWN:
        return _NOT_KNOWN
    return KnownStart(row.starts, TraitsFrom.TABLE)


def likely_start(facts: HostFacts) -> KnownStart:
    """The same; somebody's own build is taken to do what the mainline kernel of its version does."""
    own = built_from(facts.kernel_release)
    known = known_start(facts)
    return KnownStart(own.starts, TraitsFrom.MAINLINE) if known is _NOT_KNOWN and own is not None else known


def is_mainlines(facts: HostFacts) -> bool:
    """Whether the kernel's TDX code is mainline's, by its release; somebody's own build is taken to be so."""
    release = facts.kernel_release
    row = look_up(release) or built_from(release)
    return row is not None and row.mainline


def would_show_tdx(facts: HostFacts) -> bool:
    """Whether the kernel surely sets ``tdx_host_platform``, and names the KeyIDs, where there is TDX.

    That nothing shows TDX is another kernel's word, not the hardware's.
    """
    return known_start(facts).starts in _TRIES


def why_without_tdx(facts: HostFacts) -> str | None:
    """Why the kernel does not initialize TDX, whatever the memory map; None when it may."""
    start, release = known_start(facts), facts.kernel_release
    row = look_up(release)
    if start.known_from in (TraitsFrom.IMAGE, TraitsFrom.CONFIG):
        where = "configuration" if start.known_from is TraitsFrom.CONFIG else "image"
        if start.starts is Starts.NOT_BUILT:
            return f"Kernel {release} is built without TDX for hosts, as its {where} shows: boot another."
        if start.starts is Starts.NEVER:
            return (
                f"Kernel {release} never initializes TDX, since its KVM does not ask for it, as its {where}"
                " shows: this is about a kernel that does, with the same memory map."
            )
        return None
    if row is not None and row.starts is Starts.NOT_BUILT:
        return f"{row.name} builds its kernels without TDX for hosts ({release}): boot another vendor's."
    if row is not None and row.starts is Starts.NEVER:
        text = "never initializes TDX, since KVM does not ask for it: this is about a kernel that does"
        return f"{capitalized(row.name)} {text}, with the same memory map."
    if predates_tdx(facts):
        text = "Mainline has TDX for hosts since 6.8"
        return f"{text}: kernel {release} initializes it only if its vendor has put it in."
    return None


def predates_tdx(facts: HostFacts) -> bool:
    """Whether the kernel is older than mainline's TDX for hosts, and no vendor's that is known to have it."""
    release = facts.kernel_release
    if release is None or look_up(release) is not None or known_start(facts).known_from is not None:
        return False
    return re.match(r"[0-5]\.|6\.[0-7]\b", release) is not None


def known_strategy(facts: HostFacts) -> StrategyFinding:
    """How the kernel looks for holes, by its own image, the table, or as mainline does; in this order."""
    release = facts.kernel_release
    if facts.traits is not None and (found := _of_image(facts.traits, release)) is not None:
        return found
    row = look_up(release)
    if row is not None and row.strategy is not None:
        how = "Inferred from" if row.inferred else "Known from"
        text = f"Kernel {release} is in the table as {row.name}, and uses {_told(row.strategy)}"
        text += f" {how}: {row.source}."
        return StrategyFinding(row.strategy, Basis.TABLE, (text,))
    regions = Strategy.MEMORY_REGIONS
    known = why_unknown(release) or f"the kernel is unknown; mainline uses {regions}"
    return StrategyFinding(regions, Basis.MAINLINE, (f"{capitalized(known)}.",))


def _told(strategy: Strategy) -> str:
    """A strategy, and what it means."""
    return f"{strategy}: {WHAT_TAKES_AREAS[strategy]}."


def _of_image(traits: KernelTraits, release: str | None) -> StrategyFinding | None:
    """What an image shows of the strategy: one that reads CMRs may print them, or use them."""
    if traits.walks_cmrs:
        walk = Strategy.CMR_WALK
        text = f"The image of kernel {release} has the code of {_told(walk)}"
        return StrategyFinding(walk, Basis.IMAGE, (text,))
    if traits.reads_cmrs is False and traits.starts is not Starts.NOT_BUILT:
        regions = Strategy.MEMORY_REGIONS
        text = f"The image of kernel {release} has no code that reads CMRs, which leaves {_told(regions)}"
        return StrategyFinding(regions, Basis.IMAGE, (text,))
    return None
