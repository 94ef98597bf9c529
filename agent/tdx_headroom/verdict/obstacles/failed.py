# SPDX-License-Identifier: Apache-2.0
"""TDX failed in this boot, for a reason that may be gone at the next one."""

from __future__ import annotations

from tdx_headroom.verdict.decode import failed_in_words, is_persistent, remedies_for
from tdx_headroom.verdict.findings import NOTE, RISK, Finding, Findings, Remedy, RemedyKind, Signs
from tdx_headroom.verdict.model import Basis, State

_RUN_HERE = Remedy(
    RemedyKind.LOOK_FURTHER,
    "Run tdx-headroom on this host as root, or give it the kernel log from its beginning"
    " (`journalctl -k -b`): it then says which holes to remove.",
)
_NOT_SHOWN = Remedy(
    RemedyKind.LOOK_FURTHER,
    "The recomputed plan does not show this failure: memory may have changed since, or a source be"
    " incomplete. The kernel tries again at the next boot, not when kvm_intel is loaded again.",
)


def look(signs: Signs) -> Findings:
    """The failure; where the plan fits all the same, something went wrong that the plan does not show."""
    log = signs.failed
    if log is None or is_persistent(log):
        return
    found = remedies_for(log)
    if signs.plan is None and not found:
        found = (_RUN_HERE,)
    elif signs.predicted is State.WILL_INITIALIZE and not found:
        found = (_NOT_SHOWN,)
    severity = NOTE if signs.strategy.basis is Basis.OVERRIDE else RISK
    yield Finding("failed-in-this-boot", severity, failed_in_words(log), remedies=found)
