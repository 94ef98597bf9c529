# SPDX-License-Identifier: Apache-2.0
"""Which of its entries systemd-boot takes, by the rules of the version that comes next.

Versions differ in what they call an entry (systemd's pull request 38897: without its boot counter) and in
what they know (40324: ``preferred``). Where it matters and the version is not known, nothing is claimed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.boots.systemd_boot.order import compare_entries, fold, matches, order, parse_tries
from tdx_headroom.errors import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tdx_headroom.boots.menu import MenuEntry
    from tdx_headroom.boots.systemd_boot.entries import Candidate
    from tdx_headroom.boots.systemd_boot.order import SortKey

SAVED = "@saved"
_VERSION_MATTERS = (
    "loader/loader.conf: its meaning depends on the version of systemd-boot, which is not known"
)
_VERSION = re.compile(r"systemd-boot ([0-9]{1,6})(?:\.([0-9]{1,6}))?")


class Era(NamedTuple):
    """What a version does.

    Args:
        counters: whether ids keep their boot counter.
        folds: whether the id of an image with a counter is in lower case.
        preferred: whether it knows ``preferred`` and LoaderEntryPreferred.
    """

    counters: bool
    folds: bool = True
    preferred: bool = False


_KEEPS = Era(counters=True)
_STRIPS = (Era(counters=False, folds=False),)
_PREFERS = (Era(counters=False, folds=False, preferred=True), Era(counters=False, preferred=True))


class Settings(NamedTuple):
    """What names an entry: EFI variables, and loader.conf; ids or globs in lower case, None where not set.

    Args:
        one_shot: LoaderEntryOneShot.
        preferred: LoaderEntryPreferred.
        conf_preferred: ``preferred`` of loader.conf.
        default: LoaderEntryDefault.
        conf_default: ``default`` of loader.conf.
        last_booted: LoaderEntryLastBooted, for which ``@saved`` stands.
        failed: LoaderEntrySysFail, for the boot after a failure of the system.
        set_variables: names of the variables among them that are set.
    """

    one_shot: str | None = None
    preferred: str | None = None
    conf_preferred: str | None = None
    default: str | None = None
    conf_default: str | None = None
    last_booted: str | None = None
    failed: str | None = None
    set_variables: tuple[str, ...] = ()


class Auto(NamedTuple):
    """An entry that systemd-boot adds by itself."""

    id: str
    entry: MenuEntry


class Choice(NamedTuple):
    """The entries in order, and which of them boot."""

    entries: tuple[MenuEntry, ...]
    default: int | None = None
    once: int | None = None
    unknown: str | None = None
    notes: tuple[str, ...] = ()


class _Picked(NamedTuple):
    """What one era picks: a place in the list of candidates and autos, or why it cannot be told."""

    at: int | None
    unknown: str | None = None


def eras_of(version: str | None, listed: Sequence[str], names: Sequence[str]) -> tuple[Era, ...]:
    """The rules that may hold for a version.

    257.9 and before keep the counter; 257.13 (measured: its program has the format), 258.3 and 259 strip it;
    for those between it is not known. Those that strip it leave the case of an image's name then (257.13:
    measured); whether later ones do is not known. ``preferred`` came with 260.

    Args:
        version: what systemd-boot calls itself, as in LoaderInfo.
        listed: the ids of LoaderEntries, which show what the one that ran did.
        names: of files: without a counter among them, nothing differs.
    """
    match = _VERSION.match(version or "")
    if match is None:
        eras: tuple[Era, ...] = (_KEEPS, *_STRIPS, *_PREFERS)
    else:
        number = (int(match[1]), int(match[2] or 0))
        if number <= (257, 9):
            eras = (_KEEPS,)
        elif number >= (260, 0):
            eras = _PREFERS
        elif (257, 13) <= number < (258, 0) or number >= (258, 3):
            eras = _STRIPS
        else:
            eras = (_KEEPS, *_STRIPS)
    if len({era.counters for era in eras}) > 1:
        counted = [name for name in names if parse_tries(name).left is not None]
        if any(parse_tries(one).left is not None for one in listed):
            eras = tuple(era for era in eras if era.counters)
        elif {fold(parse_tries(name).bare) for name in counted} & {fold(one) for one in listed}:
            eras = tuple(era for era in eras if not era.counters)
    return eras


def choose(
    candidates: Sequence[Candidate], autos: Sequence[Auto], settings: Settings, eras: Sequence[Era]
) -> Choice:
    """What boots next, where all rules that may hold agree."""
    finders = [_Finder(candidates, autos, era) for era in eras]
    once = _agreed([finder.pick([settings.one_shot]) for finder in finders])
    default = _agreed([_default(finder, settings) for finder in finders])
    positions = finders[-1].order
    entries = [
        candidates[i].entry._replace(id=one_line(finders[-1].ids[i]), file=candidates[i].file)
        for i in positions
    ]
    notes = _notes(settings, finders[-1])

    def place(index: int | None) -> int | None:
        if index is None or index < len(candidates):
            return None if index is None else positions.index(index)
        entries.append(autos[index - len(candidates)].entry)
        return len(entries) - 1

    if once.unknown is None and once.at is not None and default.unknown is not None:
        # The next boot is known all the same.
        next_only = place(once.at)
        return Choice(tuple(entries), None, next_only, notes=(default.unknown, *notes))
    unknown = once.unknown or default.unknown
    if unknown is None and once.at is None and default.at is None:
        unknown = "loader/entries: systemd-boot finds no entry here that boots a kernel"
    if unknown is not None:
        return Choice(tuple(entries), unknown=unknown, notes=notes)
    standing, next_only = place(default.at), place(once.at)
    return Choice(tuple(entries), standing, next_only, notes=notes)


def _agreed(picks: Sequence[_Picked]) -> _Picked:
    """What all eras pick."""
    hidden = next((pick for pick in picks if pick.unknown is not None), None)
    if hidden is not None:
        return hidden
    if len({pick.at for pick in picks}) > 1:
        return _Picked(None, _VERSION_MATTERS)
    return picks[0]


def _default(finder: _Finder, settings: Settings) -> _Picked:
    """What boots when nobody chooses, and there is no one-shot."""

    def named(pattern: str | None) -> str | None:
        return settings.last_booted if pattern == SAVED else pattern

    preferred = [named(settings.preferred), named(settings.conf_preferred)] if finder.era.preferred else []
    pick = finder.pick(preferred, skips_bad=True)
    if pick.at is None and pick.unknown is None:
        pick = finder.pick([named(settings.default), named(settings.conf_default)])
    return finder.first() if pick.at is None and pick.unknown is None else pick


def _id(one: Candidate, era: Era) -> str:
    """What a version calls an entry."""
    name = one.name if era.counters else one.tries.bare
    kept = one.tries.left is not None and not era.counters and not era.folds and fold(name).endswith(".efi")
    return (name if kept else fold(name)) + (f"@{one.profile_id}" if one.profile_id else "")


def _key(one: Candidate, era: Era) -> SortKey:
    return one.key._replace(id=_id(one._replace(profile_id=""), era))


class _Finder:
    """Looks for entries among those of a menu, and tells where it cannot know which comes first.

    Attributes:
        era: by whose rules.
        order: indices of the entries as they are shown.
        ids: what each is called.
    """

    def __init__(self, candidates: Sequence[Candidate], autos: Sequence[Auto], era: Era) -> None:
        self.era = era
        self._candidates = candidates
        self._keys = [_key(one, era) for one in candidates]
        self.order = order(self._keys)
        self.ids = [_id(one, era) for one in candidates]
        self._autos = [auto.id for auto in autos]

    def pick(self, patterns: Sequence[str | None], *, skips_bad: bool = False) -> _Picked:
        """The first entry that the first pattern matches which matches any."""
        for pattern in patterns:
            if pattern is None:
                continue
            fitting = [
                i
                for i in self.order
                if matches(pattern, self.ids[i]) and not (skips_bad and self._candidates[i].tries.left == 0)
            ]
            if fitting:
                return self._settle(fitting)
            for i, name in enumerate(self._autos):
                if matches(pattern, name):
                    return _Picked(len(self._candidates) + i)
        return _Picked(None)

    def first(self) -> _Picked:
        """The first of all."""
        return self._settle(self.order) if self.order else _Picked(None)

    def _settle(self, fitting: Sequence[int]) -> _Picked:
        """The first of some, unless something hides which that is."""
        hidden = next((self._candidates[i] for i in fitting if self._candidates[i].opaque), None)
        if hidden is not None:
            return _Picked(None, hidden.entry.unknown)
        first = self._candidates[fitting[0]]
        for i in fitting[1:]:
            other = self._candidates[i]
            if compare_entries(self._keys[fitting[0]], self._keys[i]):
                break
            if other.place == first.place and other.entry != first.entry:
                # systemd-boot leaves both as the directory has them.
                return _Picked(None, one_line(f"{first.file}: nothing puts it before or behind {other.name}"))
        return _Picked(fitting[0])


def _notes(settings: Settings, finder: _Finder) -> tuple[str, ...]:
    failed = settings.failed
    if failed is None or not any(matches(failed, name) for name in finder.ids):
        return ()
    return (one_line(f"LoaderEntrySysFail: {failed} boots instead after a failure of the system"),)
