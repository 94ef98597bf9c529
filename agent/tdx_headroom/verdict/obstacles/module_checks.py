# SPDX-License-Identifier: Apache-2.0
"""What depends on the TDX module and its platform: CMR tables, full TDMRs under module 1.0, Dynamic PAMT."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tdx_headroom.address import show
from tdx_headroom.facts.kernel_report import ModuleState
from tdx_headroom.plan import Outcome
from tdx_headroom.plan.module import accepts_cmrs
from tdx_headroom.verdict.decode import PLATFORM_SET_UP, UPDATE
from tdx_headroom.verdict.findings import FAILS, NOTE, RISK, Certainty, Finding, Findings, Signs

if TYPE_CHECKING:
    from tdx_headroom.plan import Tdmr

CMR_TABLE = "cmr-table-invalid"
FULL_TDMR = "full-tdmr"
DYNAMIC_PAMT = "dynamic-pamt-unsure"
_FIRST_MODULE = re.compile(r"1\.0(?:\..*)?")
_MOST_BITS = 48
"""Physical address bits with which posted kernels (v6) use Dynamic PAMT."""


def _is_up(signs: Signs) -> bool:
    """Whether TDX has come up in this boot, which shows more than a rule does."""
    log = signs.facts.kernel_log
    return log is not None and log.state is ModuleState.INITIALIZED and not signs.what_if


def cmr_table(signs: Signs) -> Findings:
    """A table that TDH.SYS.INIT refuses."""
    cmrs = signs.facts.cmrs
    if cmrs is None or accepts_cmrs(cmrs) or _is_up(signs):
        return
    text = (
        "The CMRs are not in order, overlap, or are not page aligned: the TDX module refuses such a table"
        " (TDH.SYS.INIT, TDX_CMR_LIST_INVALID), whatever the kernel."
    )
    yield Finding(CMR_TABLE, FAILS, text, remedies=(PLATFORM_SET_UP,), certainty=Certainty.ANY_MAP)


def full_tdmr(signs: Signs) -> Findings:
    """A TDMR that has its last area at its very end, which module 1.0 takes only beside a CMR."""
    plan, log, cmrs = signs.plan, signs.facts.kernel_log, signs.facts.cmrs
    if plan is None or plan.outcome is not Outcome.OK or log is None or _is_up(signs):
        return
    if not _FIRST_MODULE.fullmatch(log.module_version or ""):
        return
    for tdmr in filter(_is_full, plan.tdmrs):
        if cmrs is None or not any(base <= tdmr.end <= base + size for base, size in cmrs if size):
            takes = "takes that only beside a CMR" if cmrs is None else "refuses it (TDX_TDMR_OUTSIDE_CMRS)"
            text = (
                f"TDMR {show(tdmr.base, tdmr.end)} has all {tdmr.limit} reserved areas in use, the last one"
                f" at its end, and TDX module 1.0 {takes}."
            )
            severity = RISK if cmrs is None else FAILS
            yield Finding(FULL_TDMR, severity, text, remedies=(UPDATE,))
            return


def _is_full(tdmr: Tdmr) -> bool:
    last = tdmr.reserved_areas[-1] if tdmr.reserved_areas else None
    return last is not None and tdmr.headroom == 0 and last.offset + last.size == tdmr.size


def dynamic_pamt(signs: Signs) -> Findings:
    """A plan with Dynamic PAMT, where nothing shows that this CPU has few enough address bits for it."""
    facts, log = signs.facts, signs.facts.kernel_log
    if facts.limits.pamt_page_bitmap_entry_bits is None or not facts.sources:
        return
    if log is not None and log.dynamic_pamt:
        return
    bits = None if facts.platform is None else facts.platform.physical_address_bits
    if bits is not None and bits <= _MOST_BITS:
        return
    has = (
        "how many this one has is unknown: `grep 'address sizes' /proc/cpuinfo`"
        if bits is None
        else f"this one has {bits}"
    )
    text = f"Dynamic PAMT is used only on a CPU with at most {_MOST_BITS} physical address bits, and {has}."
    yield Finding(DYNAMIC_PAMT, NOTE, text)
