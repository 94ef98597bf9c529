# SPDX-License-Identifier: Apache-2.0
"""A failure of this boot whose cause neither the memory map nor another try changes."""

from __future__ import annotations

from tdx_headroom.facts.kernel_report import KVM_REASONS, FailureReason
from tdx_headroom.verdict.decode import describe_failure, is_persistent, remedies_for
from tdx_headroom.verdict.findings import FAILS, NOTE, RISK, Certainty, Finding, Findings, Signs
from tdx_headroom.verdict.not_loaded import steps

_KIND_OF = {
    FailureReason.KEYIDS: "too-few-keyids",
    FailureReason.NOT_LOADED: "module-not-loaded",
    FailureReason.EXCEPTION: "seamcall-faults",
    FailureReason.RBP_BUG: "module-too-old",
    FailureReason.METADATA: "module-lacks-feature",
    FailureReason.CPU_FEATURE: "cpu-feature-missing",
    FailureReason.SEAMCALL: "call-fails",
    **dict.fromkeys(KVM_REASONS, "kvm-refused"),
}
# Hibernation lasts too, and is an obstacle of its own, found also without the log.
KINDS = tuple(dict.fromkeys(_KIND_OF.values()))


def look(signs: Signs) -> Findings:
    """What stopped TDX, and is still there."""
    log = signs.facts.kernel_log
    if log is None or log.reason not in _KIND_OF or not is_persistent(log):
        return
    if signs.not_tdx and log.reason is not FailureReason.CPU_FEATURE:
        # Only what the CPU lacks may merely be switched off.
        return
    elsewhere = signs.staged is not None and not signs.staged.running
    if log.reason in KVM_REASONS and elsewhere:
        # What had turned it off in this boot is not known: by then it may be gone.
        text = "KVM has given TDX up in this boot, and will again if what made it do so is still there: {{}}."
        yield Finding(
            _KIND_OF[log.reason], RISK, text.format(describe_failure(log)), remedies=remedies_for(log)
        )
        return
    remedies = remedies_for(log)
    if log.reason is FailureReason.NOT_LOADED:
        platform = signs.facts.platform
        remedies = steps(log.keyids, sgx=None if platform is None else platform.sgx)
    yield Finding(
        _KIND_OF[log.reason],
        NOTE if signs.not_tdx else FAILS,
        f"What stopped TDX in this boot is still there: {describe_failure(log)}.",
        remedies=remedies,
        certainty=Certainty.ANY_MAP,
    )
