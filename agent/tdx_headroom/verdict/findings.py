# SPDX-License-Identifier: Apache-2.0
"""What an obstacle looks at, what it is told as, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.facts.kernel_report import FailureReason
from tdx_headroom.plan import Outcome
from tdx_headroom.plan.regions import in_no_single, tdx_memory_list

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tdx_headroom.facts.host_facts import HostFacts
    from tdx_headroom.facts.kernel_report import KernelReport, SeamcallFailure
    from tdx_headroom.plan import Plan, Strategy
    from tdx_headroom.verdict.guard import Guard
    from tdx_headroom.verdict.model import CrossCheck, State, StrategyFinding
    from tdx_headroom.verdict.staged import Staged

MAP_REASONS = (FailureReason.RESERVED_AREAS, FailureReason.TDMRS, FailureReason.AREAS_OR_TDMRS)
CONFIG_ERRORS = range(0xC0000A00, 0xC0000A22)
"""Upper 32 bits of the completion statuses by which TDH.SYS.CONFIG refuses TDMRs, PAMTs or reserved areas."""
_NO_FIGURES: Mapping[str, int] = MappingProxyType({})


def is_the_maps(log: KernelReport) -> bool:
    """Whether the memory map, with the CMRs, alone has decided that TDX failed."""
    if log.reason is FailureReason.SEAMCALL:
        return log.seamcall is not None and log.seamcall.status >> 32 in CONFIG_ERRORS
    return log.reason in (*MAP_REASONS, FailureReason.NOT_CONVERTIBLE)


class Severity(StrEnum):
    """What a finding means for the next initialization, the worst first."""

    FAILS = "fails"
    RISK = "risk"
    NOTE = "note"


FAILS, RISK, NOTE = Severity


class Certainty(IntEnum):
    """How much a prediction rests on; a doubt overrules what is no more certain than itself."""

    FITS = 0
    """Nothing that is known makes TDX fail; what is not known may."""
    PLAN = 1
    """The plan fails, with the PAMTs where they are predicted."""
    HOLES = 2
    """Holes alone are too many: more memory mends nothing."""
    ANY_MAP = 3
    """TDX fails whatever the memory map."""


class RemedyKind(StrEnum):
    """What a remedy asks for."""

    ADD_ARGUMENTS = "add-arguments"
    REMOVE_ARGUMENTS = "remove-arguments"
    OTHER_KERNEL = "other-kernel"
    CHANGE_KERNEL = "change-kernel"
    FEWER_AREAS = "fewer-areas"
    FEWER_TDMRS = "fewer-tdmrs"
    FIRMWARE_MAP = "firmware-map"
    FIRMWARE_SETTING = "firmware-setting"
    UPDATE_MODULE = "update-module"
    CONVERTIBLE_MEMORY = "convertible-memory"
    INITIALIZE_EARLY = "initialize-early"
    LOAD_KVM = "load-kvm"
    BOOT_AGAIN = "boot-again"
    LOOK_FURTHER = "look-further"


class Remedy(NamedTuple):
    """One thing to do about a finding.

    Args:
        kind: what is asked for.
        text: the sentence for people.
        arguments: of the kernel's command line, to be added or taken away.
        areas_freed: reserved areas that the fullest TDMR has more of then; None where that is not computed.
        bytes_given_up: memory that it costs; None where that is not known.
        computed: whether the plan with it was tried and is better; otherwise it is likely to help.
        left: reserved areas that are left then, where that was computed.
        instead: what may stand in the place of arguments that are taken away.
    """

    kind: RemedyKind
    text: str
    arguments: tuple[str, ...] = ()
    areas_freed: int | None = None
    bytes_given_up: int | None = None
    computed: bool = False
    left: int | None = None
    instead: tuple[str, ...] = ()


class Finding(NamedTuple):
    """Something that keeps TDX from coming up, may do so, or is worth knowing.

    Args:
        kind: which obstacle; the registry lists all kinds.
        severity: what it means for the next initialization.
        text: the sentence for people.
        figures: what was counted, by name; nothing that must not leave the host.
        remedies: what to do about it, the surest first.
        certainty: of a finding that fails, what it rests on.
    """

    kind: str
    severity: Severity
    text: str
    figures: Mapping[str, int] = _NO_FIGURES
    remedies: tuple[Remedy, ...] = ()
    certainty: Certainty = Certainty.PLAN


Findings = Iterator[Finding]
AGENT_ERROR = "agent-error"
"""No obstacle of the registry: a part of the answer that an error of the agent's own has cost."""


class Signs(NamedTuple):
    """All that an obstacle looks at.

    Args:
        facts: of the host.
        plans: one a strategy.
        strategy: the one that this kernel is taken to use, and how that is known.
        plan: of that strategy.
        predicted: what that plan alone makes of the next initialization.
        check: recomputed against logged.
        what_if: the facts are not the host's own any more, so what happened on it does not count.
        not_tdx: kernel or CPU say that TDX is not available here.
        failed: the log of this boot, when TDX failed in it.
        no_sign: nothing shows TDX.
        refused: the call that the module has refused, when nothing shows what came of it.
        guard: for parts of a finding that may fail alone.
        staged: what is open about the boot that is judged; None where an initialization is judged, whichever
            kernel tries it.
        asks_what_to_do: whether remedies are wanted: computing them takes longer than all else.
    """

    facts: HostFacts
    plans: Mapping[Strategy, Plan | None]
    strategy: StrategyFinding
    plan: Plan | None
    predicted: State | None
    check: CrossCheck
    what_if: bool
    not_tdx: bool
    failed: KernelReport | None
    no_sign: bool
    refused: SeamcallFailure | None
    guard: Guard
    staged: Staged | None = None
    asks_what_to_do: bool = True

    @property
    def log_is_to_blame(self) -> bool:
        """Whether TDX failed in this boot for a reason in which the plan that is made here has no part."""
        return self.failed is not None and not self._explains(self.failed)

    def _explains(self, log: KernelReport) -> bool:
        """Whether the plan shows the failure; of holes and TDMRs it need not: PAMTs may lie elsewhere."""
        if log.reason in MAP_REASONS:
            return True
        if self.plan is None or not is_the_maps(log):
            return False
        if log.reason is FailureReason.NOT_CONVERTIBLE and self.facts.cmrs is not None:
            regions = tdx_memory_list(self.facts.memory_regions or ())
            return bool(in_no_single(regions, self.facts.cmrs))
        return self.plan.outcome is Outcome.REJECTED
