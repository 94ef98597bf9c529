# SPDX-License-Identifier: Apache-2.0
"""The hosts of an audit in groups that have firmware, processor or kernel in common."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from tdx_headroom.verdict.firmware_steps import Need, need_of
from tdx_headroom.verdict.fleet import Fit

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tdx_headroom.verdict.firmware_steps import FirmwareStep
    from tdx_headroom.verdict.fleet import HostAudit
    from tdx_headroom.verdict.fleet_canary import LeftOut

FIRST_HOSTS = 3
"""So many hosts of a group are named."""
_MAX_REASONS = 100
_WORST_FIRST = (Fit.WILL_FAIL, Fit.AT_RISK, Fit.CANNOT_TELL)


class GroupBy(StrEnum):
    """What the hosts of a group have in common."""

    BIOS = "bios"
    CPU = "cpu"
    KERNEL = "kernel"


@dataclass(slots=True)
class Members:
    """Which hosts they are: how many, and the first by name."""

    hosts: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, audit: HostAudit | LeftOut) -> None:
        """Count one in."""
        self.hosts += 1
        if len(self.first) < FIRST_HOSTS:
            where = audit.name if audit.line is None else f"{audit.name} line {audit.line}"
            self.first.append(audit.host or where)


@dataclass(slots=True)
class TargetCounts:
    """How the hosts of a group go under one kernel.

    Args:
        fits: how many by fit.
        reasons: how many by fit and reason, of those that do not surely come up.
    """

    fits: Counter[Fit] = field(default_factory=Counter)
    reasons: Counter[tuple[Fit, str]] = field(default_factory=Counter)

    def add(self, fit: Fit, why: str) -> None:
        """Count one host in."""
        self.fits[fit] += 1
        # Of hosts that all differ, a hundred reasons are as good as all of them.
        if fit in _WORST_FIRST and ((fit, why) in self.reasons or len(self.reasons) < _MAX_REASONS):
            self.reasons[fit, why] += 1

    @property
    def why(self) -> str | None:
        """The commonest reason among the hosts that are worst off; None where all surely come up."""
        for fit in _WORST_FIRST:
            of_fit = [(count, why) for (known, why), count in self.reasons.items() if known is fit]
            if of_fit:
                return max(of_fit, key=lambda one: one[0])[1]
        return None


@dataclass(slots=True)
class Group:
    """Hosts that have something in common.

    Args:
        values: what that is, in the order that was asked for; None: unknown.
        members: which hosts.
        targets: how they go, by the target's label.
        needed, left: areas of the fullest TDMR of each host under its own kernel's strategy; how many hosts
            by the number.
    """

    values: tuple[str | None, ...]
    members: Members = field(default_factory=Members)
    targets: dict[str, TargetCounts] = field(default_factory=dict)
    needed: Counter[int] = field(default_factory=Counter)
    left: Counter[int] = field(default_factory=Counter)

    def add(self, audit: HostAudit) -> None:
        """Count one host in."""
        self.members.add(audit)
        for result in audit.targets:
            self.targets.setdefault(result.target.label, TargetCounts()).add(result.fit, result.why)
        if audit.areas is not None:
            self.needed[audit.areas.needed] += 1
            self.left[audit.areas.left] += 1


@dataclass(slots=True)
class FirmwareUpdate:
    """Hosts that have had both of two versions of the firmware, one after the other.

    Args:
        cpu_model: of these hosts: other machines number their versions as they like.
        before, after: the versions.
        members: which hosts.
        areas: how many more the fullest TDMR needs since, how many hosts by the number.
        sure: on how many hosts every boot since needs more than any before.
    """

    cpu_model: str | None
    before: str
    after: str
    members: Members = field(default_factory=Members)
    areas: Counter[int] = field(default_factory=Counter)
    sure: int = 0


class Groups:
    """Hosts in groups, and what updates of their firmware have cost.

    Args:
        by: what the hosts of a group have in common.

    Attributes:
        groups: the first that came first.
        updates: the same.
    """

    def __init__(self, by: Sequence[GroupBy]) -> None:
        self.by = tuple(by)
        self.groups: dict[tuple[str | None, ...], Group] = {}
        self.updates: dict[tuple[str | None, str, str], FirmwareUpdate] = {}

    def add(self, audit: HostAudit, steps: Iterable[FirmwareStep]) -> None:
        """Count one host in.

        Args:
            audit: of it.
            steps: updates of its firmware.
        """
        values = tuple(_value(audit, by) for by in self.by)
        self.groups.setdefault(values, Group(values)).add(audit)
        # A host that went forth and back and forth again is one host.
        for step in {(s.before, s.after): s for s in steps}.values():
            key = (audit.cpu_model, step.before, step.after)
            update = self.updates.setdefault(key, FirmwareUpdate(*key))
            update.members.add(audit)
            update.areas[step.areas] += 1
            update.sure += step.took > 0


def need_in(counts: Counter[int]) -> Need | None:
    """The least, median and most of numbers that are counted; None where there are none."""
    return need_of(list(counts.elements())) if counts else None


def _value(audit: HostAudit, by: GroupBy) -> str | None:
    of_host = {
        GroupBy.BIOS: audit.bios_version,
        GroupBy.CPU: audit.cpu_model,
        GroupBy.KERNEL: audit.kernel_release,
    }
    return of_host[by]
