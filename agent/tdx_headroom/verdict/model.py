# SPDX-License-Identifier: Apache-2.0
"""What a verdict consists of."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, Self

from tdx_headroom.address import Range, show
from tdx_headroom.plan import Outcome, Strategy

if TYPE_CHECKING:
    from tdx_headroom.plan import Plan
    from tdx_headroom.verdict.findings import Finding

AT_RISK_HEADROOM = 2
"""With no more areas than this left over, one more hole or PAMT may exhaust them."""


class State(StrEnum):
    """The verdict in one word."""

    WILL_INITIALIZE = "will-initialize"
    AT_RISK = "at-risk"
    WILL_FAIL = "will-fail"
    INITIALIZED = "initialized"
    FAILED = "failed"
    NOT_TDX = "not-tdx"
    CANNOT_TELL = "cannot-tell"


def capitalized(clause: str) -> str:
    """A clause as a sentence begins; its other letters stay as they are."""
    return clause[:1].upper() + clause[1:]


WHAT_TAKES_AREAS = {
    Strategy.MEMORY_REGIONS: "every gap between memory regions takes a reserved area",
    Strategy.CMR_SUBREGION: "a gap between memory regions takes a reserved area unless one CMR holds it",
    Strategy.CMR_WALK: "only what no CMR covers takes a reserved area",
}
"""What a hole is under each strategy, in a clause."""

FORETOLD = (State.WILL_INITIALIZE, State.AT_RISK, State.WILL_FAIL)
"""What can be said of an initialization to come."""


class Basis(StrEnum):
    """Why a kernel is taken to use a strategy."""

    EVIDENCE = "evidence"
    SEVERAL = "several"
    """What happened leaves several, and not the one that the kernel is known for: the worst is taken."""
    TABLE = "table"
    MAINLINE = "mainline"
    OVERRIDE = "override"
    IMAGE = "image"


class Sentence(str):
    """A text with something in it that must not leave the host, such as the size of a single hole.

    One end of a hole may be known, as where its TDMR ends: its size is an address then.

    Attributes:
        public: the same without it.
    """

    __slots__ = ("public",)
    public: str

    def __new__(cls, text: str, *, public: str) -> Self:
        """A text and what of it anybody may read."""
        sentence = super().__new__(cls, text)
        sentence.public = public
        return sentence


class PartFailure(NamedTuple):
    """A part of the verdict that failed by an error of the agent's own, and is left out.

    Args:
        part: which.
        error: type and message, for the log.
        place: the innermost lines of the agent's code: ``verdict/remedies.py:80 in _joins``.
    """

    part: str
    error: str
    place: str


@dataclass(frozen=True, slots=True)
class StrategyFinding:
    """Which hole strategy a kernel uses, and how that is known.

    Args:
        strategy: the one.
        basis: why it is taken to be the one.
        evidence: sentences that say what speaks for it.
        contradiction: a sentence when what happened contradicts the table.
    """

    strategy: Strategy
    basis: Basis
    evidence: tuple[str, ...]
    contradiction: str | None = None


@dataclass(frozen=True, slots=True)
class CrossCheck:
    """What was recomputed against what the kernel logged.

    ``matches`` is None when the log says nothing to compare with; ``details`` says what agrees or differs.
    """

    matches: bool | None
    details: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Estimate:
    """TDMRs and PAMT as the CMRs alone suggest them, where the memory regions are unknown."""

    tdmrs: tuple[Range, ...]
    pamt_kib: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer for one host.

    Args:
        state: in one word; what happened, where something has happened in this boot.
        next_boot: what the next initialisation with this memory map would do; None when unknown.
        strategy: the hole strategy that this is said for.
        summary: the answer as a sentence.
        evidence: what it rests on, a sentence each.
        remedies: what to do about it.
        warnings: what would go wrong elsewhere: another kernel, a guest's page, a full TDMR list.
        finding: which strategy, and how that is known.
        cross_check: recomputed against logged.
        estimate: from the CMRs, where nothing better is known.
        missing: what would make the answer surer, with the commands that tell it.
        contradictions: where the log contradicts itself or the hardware.
        findings: all obstacles, in the registry's order; the sentences above are theirs.
        failures: parts that an error of the agent's own has cost; the warnings name them too.
        decides: what the next initialization comes to; None where that cannot be told.
        preface: what has to be said before all else; empty where that is nothing.
    """

    state: State
    next_boot: State | None
    strategy: Strategy
    summary: str
    evidence: tuple[str, ...]
    remedies: tuple[str, ...]
    warnings: tuple[str, ...]
    finding: StrategyFinding
    cross_check: CrossCheck
    estimate: Estimate | None = None
    missing: tuple[str, ...] = ()
    contradictions: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    failures: tuple[PartFailure, ...] = ()
    decides: str | None = None
    preface: str = ""

    @property
    def told(self) -> str:
        """The summary behind what has to be said before it."""
        summary, preface = self.summary, self.preface
        public = summary.public if isinstance(summary, Sentence) else summary
        return Sentence(f"{preface}{summary}", public=f"{preface}{public}") if preface else summary


def predict(plan: Plan) -> State:
    """What an initialisation under this plan will do."""
    if plan.outcome is not Outcome.OK:
        return State.WILL_FAIL
    least, worst = plan.headroom, plan.headroom_worst
    if least is None or worst is None or (least > AT_RISK_HEADROOM and worst >= 0):
        return State.WILL_INITIALIZE
    return State.AT_RISK


def describe(plan: Plan) -> str:
    """A plan's outcome as a sentence: which check, which TDMR, by how much."""
    outcome = plan.outcome
    if outcome is Outcome.RESERVED_AREAS and plan.failed_tdmr is not None:
        return _describe_areas(plan, plan.failed_tdmr)
    if outcome is Outcome.TDMRS:
        return f"The memory map needs {plan.tdmrs_needed} TDMRs of {len(plan.tdmrs)}."
    if outcome is Outcome.NO_MEMORY and plan.tdmrs:
        lost = next(t for t in plan.tdmrs if t.pamt.base is None)
        bounds = show(lost.base, lost.end)
        return f"No contiguous {lost.pamt.size >> 10} KiB are free for the PAMT of TDMR {bounds}."
    if outcome is Outcome.NO_MEMORY:
        return "There is no memory above 1 MiB."
    if outcome is Outcome.MISALIGNED:
        return "A reserved area is not page aligned."
    if outcome is Outcome.REJECTED and plan.module is not None:
        index = plan.module.tdmr or 0
        tdmr = plan.tdmrs[index]
        return f"The TDX module rejects TDMR {show(tdmr.base, tdmr.end)}: {plan.module.status}."
    return _describe_fit(plan)


def _describe_areas(plan: Plan, index: int) -> str:
    tdmr = plan.tdmrs[index]
    needed = tdmr.needed or 0
    pamts = f", {tdmr.needed_pamts} of them for PAMTs" if tdmr.needed_pamts else ""
    short = needed - tdmr.limit
    bounds = show(tdmr.base, tdmr.end)
    return f"TDMR {bounds} needs {needed} reserved areas of {tdmr.limit}{pamts}: {short} too many."


def _describe_fit(plan: Plan) -> str:
    least, worst = plan.headroom, plan.headroom_worst
    fit = f"All {len(plan.tdmrs)} TDMRs fit" if len(plan.tdmrs) != 1 else "The one TDMR fits"
    left = "no reserved area" if least == 0 else f"{least} reserved area{'' if least == 1 else 's'}"
    text = f"{fit}; the fullest has {left} left"
    if worst is not None and least is not None and worst < 0:
        text += f", and would be {-worst} short if every PAMT that could land there did"
    return text + "."
