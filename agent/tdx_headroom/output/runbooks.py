# SPDX-License-Identifier: Apache-2.0
"""Which runbook of docs/runbooks is about which findings, as the table in docs/verdict.md has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.verdict.findings import Severity

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tdx_headroom.verdict.findings import Finding

RUNBOOKS = {
    "TDXNextInitWillFail": (
        "too-few-keyids",
        "module-not-loaded",
        "seamcall-faults",
        "module-too-old",
        "module-lacks-feature",
        "cpu-feature-missing",
        "call-fails",
        "kvm-refused",
        "hibernation",
        "tdmrs",
        "pamt-memory",
        "misaligned-area",
        "kernel-without-tdx",
        "hypervisor-below",
        "kvm-tdx-off",
        "kvm-virtualization-off",
        "kvm-option-off",
        "kvm-not-loaded",
        "cpu-feature-off",
        "map-does-not-boot",
    ),
    "TDXNextInitAtRisk": (
        "unlikely-convertible",
        "in-no-single-cmr",
        "kvm-option-may-be-off",
        "kvm-may-not-be-loaded",
        "cpus-left-out",
        "map-uncertain",
        "kvm-tdx-may-be-off",
    ),
    "TDXNextBootAtRisk": ("kernel-may-lack-tdx", "firmware-update"),
    "TDXReservedAreasExhausted": ("reserved-areas",),
    "TDXHeadroomVaries": ("varies",),
    "TDXReservedAreasLow": ("few-reserved-areas", "pamt-places-uncertain"),
    "TDXModuleWillReject": ("rejected-by-module", "cmr-table-invalid", "full-tdmr"),
    "TDXInitFailed": ("fails-again", "failed-in-this-boot"),
    "TDXGoneSinceLastBoot": ("gone-since-last-boot",),
}
"""Kinds of findings by the name of their runbook."""

_OF_KIND = {kind: name for name, kinds in RUNBOOKS.items() for kind in kinds}


def runbooks_of(findings: Iterable[Finding]) -> list[str]:
    """The runbooks about what fails or is a risk, each once, in the findings' order."""
    telling = (found.kind for found in findings if found.severity is not Severity.NOTE)
    return list(dict.fromkeys(_OF_KIND[kind] for kind in telling if kind in _OF_KIND))
