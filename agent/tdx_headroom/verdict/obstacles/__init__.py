# SPDX-License-Identifier: Apache-2.0
"""Everything that can keep TDX from coming up: one obstacle a module, one row each, in one order.

docs/dev/adding.md shows how to add one.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.verdict.findings import AGENT_ERROR, FAILS, NOTE, RISK, Certainty
from tdx_headroom.verdict.model import State
from tdx_headroom.verdict.obstacles import (
    came_up,
    cpu_features_off,
    cpus_left_out,
    failed,
    few_tdmrs,
    gone,
    guests,
    hibernation,
    hypervisor,
    kernel_not_shown,
    kvm_not_loaded,
    kvm_options,
    kvm_parameters,
    lasting,
    log_limits,
    module_checks,
    movable_nodes,
    no_sign,
    not_convertible,
    not_tried,
    offline,
    other_kernels,
    plan_fails,
    refused_call,
    remedy_in_place,
    reserved_areas,
    uncertain_map,
    unknown,
    varies,
)
from tdx_headroom.verdict.obstacles import contradictions as log
from tdx_headroom.verdict.obstacles import kernel_without_tdx as without_tdx
from tdx_headroom.verdict.obstacles import part_of_the_map as part_map

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tdx_headroom.verdict.findings import Finding, Findings, Severity, Signs


class Told(Enum):
    """The list of the verdict in which the sentence of a finding stands, besides its remedies."""

    WARNINGS = auto()
    CONTRADICTIONS = auto()
    MISSING = auto()


class Row(NamedTuple):
    """One obstacle.

    Args:
        look: the function that finds it, or does not.
        kinds: of its findings.
        part: what an answer lacks when that function fails.
        worst: the worst severity of its findings.
        told: where the sentences stand; None: nowhere, since the summary or the remedies say the same.
        doubts: what its findings overrule; None: nothing.
        told_in: the only verdicts in which they stand there; empty: all.
        without_tdx: it is looked for also on a host without TDX.
    """

    look: Callable[[Signs], Findings]
    kinds: tuple[str, ...]
    part: str
    worst: Severity = NOTE
    told: Told | None = Told.WARNINGS
    doubts: Certainty | None = None
    told_in: tuple[State, ...] = ()
    without_tdx: bool = False


_FITS, _PLAN, _HOLES = Certainty.FITS, Certainty.PLAN, Certainty.HOLES
_WARNED, _LOG, _MISSING = Told
_UP = (State.WILL_INITIALIZE, State.AT_RISK)
_DOWN = (State.WILL_FAIL,)

# Sentences and remedies stand in this order.
REGISTRY: tuple[Row, ...] = (
    Row(lasting.look, lasting.KINDS, "what stops TDX", FAILS, None, without_tdx=True),
    Row(failed.look, failed.KINDS, "what a failure in this boot means", FAILS, None),
    Row(came_up.look, (came_up.KIND,), "what a success in this boot means"),
    Row(refused_call.look, ("call-refused",), "what came of a refused call", NOTE, None, _FITS),
    Row(hibernation.look, (hibernation.KIND,), "whether hibernation stops TDX", FAILS, None),
    Row(log.itself, ("log-contradicts-itself",), "what the log contradicts", NOTE, _LOG, without_tdx=True),
    Row(log.hardware, (log.HARDWARE,), "whether log and hardware agree", NOTE, _LOG, _FITS, without_tdx=True),
    Row(
        log_limits.hiding,
        (log_limits.MAY_HIDE,),
        "what the log hides",
        NOTE,
        _WARNED,
        _FITS,
        without_tdx=True,
    ),
    Row(log_limits.unread, ("log-unread",), "which lines could not be read", without_tdx=True),
    Row(log_limits.early_end, ("log-ends-early",), "whether the log ends early", without_tdx=True),
    Row(part_map.look, (part_map.KIND,), "if the map is whole", NOTE, _WARNED, _PLAN, without_tdx=True),
    Row(module_checks.cmr_table, (module_checks.CMR_TABLE,), "whether the CMRs are valid", FAILS, None),
    Row(module_checks.full_tdmr, (module_checks.FULL_TDMR,), "what module 1.0 refuses", FAILS),
    Row(module_checks.dynamic_pamt, (module_checks.DYNAMIC_PAMT,), "the PAMT's form", NOTE, _WARNED, _PLAN),
    Row(kernel_not_shown.look, (kernel_not_shown.KIND,), "whether the kernel is known", NOTE, None, _HOLES),
    Row(no_sign.look, no_sign.KINDS, "whether there is TDX at all", NOTE, _WARNED, _FITS, _DOWN),
    Row(reserved_areas.look, reserved_areas.KINDS, "whether reserved areas suffice", FAILS, None),
    Row(varies.look, varies.KINDS, "whether the need varies", RISK),
    Row(plan_fails.look, plan_fails.KINDS, "whether kernel and module take the plan", FAILS, None),
    Row(not_convertible.refused_by_walk, (not_convertible.SEVERAL,), "what this kernel may refuse", RISK),
    Row(not_convertible.by_name, (not_convertible.BY_NAME,), "what may not be convertible", RISK),
    Row(without_tdx.look, without_tdx.KINDS, "whether this kernel does TDX", FAILS, told_in=_UP),
    Row(hypervisor.look, (hypervisor.KIND,), "whether a hypervisor runs below", FAILS, told_in=_UP),
    Row(kvm_parameters.look, kvm_parameters.KINDS, "whether KVM is to start TDX", FAILS),
    Row(kvm_options.look, kvm_options.KINDS, "whether KVM has what TDX needs of it", FAILS),
    Row(kvm_not_loaded.look, kvm_not_loaded.KINDS, "whether KVM is loaded", FAILS),
    Row(cpu_features_off.look, (cpu_features_off.KIND,), "which CPU features are off", FAILS),
    Row(cpus_left_out.look, (cpus_left_out.KIND,), "which CPUs are left out", RISK),
    Row(uncertain_map.not_simulated, (uncertain_map.UNKNOWN,), "the next memory map", NOTE, _WARNED, _PLAN),
    Row(uncertain_map.look, uncertain_map.KINDS, "what is open of the next memory map", FAILS),
    Row(uncertain_map.firmware_update, (uncertain_map.FIRMWARE,), "whether firmware is staged", RISK),
    Row(gone.look, (gone.KIND,), "whether TDX has gone", without_tdx=True),
    Row(other_kernels.look, (other_kernels.KIND,), "what other kernels would do"),
    Row(not_convertible.look, ("not-convertible",), "what is not convertible"),
    Row(remedy_in_place.look, remedy_in_place.KINDS, "which arguments keep TDX up"),
    Row(few_tdmrs.look, ("few-tdmrs",), "how many TDMRs are left"),
    Row(offline.memory, ("memory-offline",), "memory that is offline"),
    Row(offline.cpu_package, ("cpu-package-offline",), "CPUs that are offline"),
    Row(not_tried.look, not_tried.KINDS, "why TDX was not tried", NOTE, None),
    Row(movable_nodes.look, ("movable-nodes",), "which nodes hold no PAMT"),
    Row(guests.look, (guests.KIND,), "what keeps guests from starting", NOTE, None),
    Row(unknown.look, unknown.KINDS, "what is missing", NOTE, _MISSING),
)
DOUBTS = {*(kind for row in REGISTRY if row.doubts is not None for kind in row.kinds), AGENT_ERROR}
"""Kinds that can leave the next initialization unknown."""


def doubt_of(findings: Iterable[Finding]) -> str | None:
    """Why the next initialization is unknown, as far as a finding makes it so."""
    return next((finding.text for finding in findings if finding.kind in DOUBTS), None)


class Found(NamedTuple):
    """What all obstacles together are.

    Args:
        findings: with the row of each, in the registry's order.
        doubt: what is overruled; None: nothing.
        hidden: whether an obstacle could not be looked for, so that nothing is known of it.
    """

    findings: list[tuple[Row, Finding]]
    doubt: Certainty | None
    hidden: bool


def ask(signs: Signs) -> Found:
    """Look for every obstacle; one that cannot be looked for loses itself alone."""
    findings: list[tuple[Row, Finding]] = []
    doubts: list[Certainty] = []
    hidden = blocked = False
    guard, not_tdx = signs.guard, signs.not_tdx
    for row in REGISTRY:
        # What the plan is worth is of no interest when TDX fails whatever the memory map.
        if (not_tdx and not row.without_tdx) or (blocked and row.doubts is not None and row.doubts > _FITS):
            continue
        try:
            found = tuple(row.look(signs))
        except Exception as error:  # noqa: BLE001  whatever it is, the other obstacles must be told
            guard.note(row.part, error)
            if row.worst is not NOTE or row.doubts is not None:
                hidden = True
                doubts.append(Certainty.PLAN)
            continue
        for finding in found:
            findings.append((row, finding))
            if finding.severity is FAILS and finding.certainty is Certainty.ANY_MAP:
                blocked = True
        if found and row.doubts is not None:
            doubts.append(row.doubts)
    return Found(findings, max(doubts, default=None), hidden)
