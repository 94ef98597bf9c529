# SPDX-License-Identifier: Apache-2.0
"""TDX is up: what keeps a guest from starting all the same is not this host's memory or module."""

from __future__ import annotations

from tdx_headroom.facts.kernel_report import ModuleState
from tdx_headroom.verdict.findings import NOTE, Finding, Findings, Remedy, RemedyKind, Signs

KIND = "up-for-guests"
_QEMU = "QEMU: vm-type tdx not supported by KVM"
_ELSEWHERE = Remedy(
    RemedyKind.LOOK_FURTHER,
    f"Should a guest not start here ({_QEMU}), look at QEMU and libvirt: on the host's side TDX is up.",
)
_LOAD = Remedy(
    RemedyKind.LOAD_KVM,
    f"TDX is up, but KVM offers it to no guest ({_QEMU}): load kvm_intel with tdx=1.",
)

_GIVEN_UP = Remedy(
    RemedyKind.LOAD_KVM,
    "TDX is up, but KVM has said that it gives it to no guest: see why (`journalctl -k -b -g kvm_intel`), and"
    " load kvm_intel again.",
)


def look(signs: Signs) -> Findings:
    """What keeps guests off a host that is up; where there is only a log, also when nothing shows it."""
    log, platform = signs.facts.kernel_log, signs.facts.platform
    up = log is not None and log.state is ModuleState.INITIALIZED
    if signs.what_if or not (up or (platform is not None and platform.tdx_module_version is not None)):
        return
    if log is not None and log.kvm_failed:
        yield Finding(KIND, NOTE, _GIVEN_UP.text, remedies=(_GIVEN_UP,))
        return
    if platform is not None and platform.kvm_intel_tdx is False:
        yield Finding(KIND, NOTE, _LOAD.text, remedies=(_LOAD,))
    elif platform is None:
        yield Finding(KIND, NOTE, _ELSEWHERE.text, remedies=(_ELSEWHERE,))
