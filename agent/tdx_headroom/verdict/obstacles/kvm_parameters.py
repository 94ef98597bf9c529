# SPDX-License-Identifier: Apache-2.0
"""A kernel that initializes TDX when KVM is loaded, and a KVM that is not told to."""

from __future__ import annotations

from tdx_headroom.facts.boot_arguments import arguments_of_kvm, enables_virtualization
from tdx_headroom.facts.boots import Starts
from tdx_headroom.facts.command_line import asks_for_tdx
from tdx_headroom.verdict.findings import FAILS, RISK, Certainty, Finding, Findings, Remedy, RemedyKind, Signs
from tdx_headroom.verdict.kernels import built_from, look_up
from tdx_headroom.verdict.this_kernel import likely_start

OFF = "kvm-tdx-off"
MAY_BE_OFF = "kvm-tdx-may-be-off"
NO_VIRTUALIZATION = "kvm-virtualization-off"
KINDS = (OFF, MAY_BE_OFF, NO_VIRTUALIZATION)
_ASK = Remedy(
    RemedyKind.ADD_ARGUMENTS,
    "Add kvm_intel.tdx=1 to the kernel's command line.",
    ("kvm_intel.tdx=1",),
)
_ENABLE = Remedy(
    RemedyKind.REMOVE_ARGUMENTS,
    "Take kvm.enable_virt_at_load=0 off the kernel's command line.",
    ("kvm.enable_virt_at_load=0",),
)
_ASK_BEFORE_DASHES = Remedy(
    RemedyKind.LOAD_KVM, "Put what is said of KVM on the command line before its --, and nothing behind."
)
_BEHIND_DASHES = (
    "Arguments of KVM stand behind a -- on its command line: they count where KVM is a module, and whether it"
    " is one is unknown."
)


def look(signs: Signs) -> Findings:
    """Only of a boot that is staged: in the running one the parameters themselves are looked at."""
    if signs.staged is None or likely_start(signs.facts).starts is not Starts.KVM_LOAD:
        return
    if signs.facts.command_line is None:
        return
    traits = signs.facts.traits
    module = None if traits is None else traits.kvm_module
    arguments = arguments_of_kvm(signs.facts.command_line, module=module)
    if arguments is None:
        yield Finding(MAY_BE_OFF, RISK, _BEHIND_DASHES, remedies=(_ASK_BEFORE_DASHES,))
        return
    if enables_virtualization(arguments) is False:
        text = (
            "kvm.enable_virt_at_load=0 is on its command line, and without it this kernel does not start TDX."
        )
        yield Finding(NO_VIRTUALIZATION, FAILS, text, remedies=(_ENABLE,), certainty=Certainty.ANY_MAP)
    asked, configured = asks_for_tdx(arguments), signs.staged.kvm_intel_tdx
    if asked is None and configured is None:
        yield from _not_asked(signs)
    elif False in (asked, configured):
        where = "its command line" if asked is False else "modprobe's configuration"
        if asked is configured or None in (asked, configured):
            text = f"kvm_intel.tdx is turned off on {where}."
            yield Finding(OFF, FAILS, text, remedies=(_ASK,), certainty=Certainty.ANY_MAP)
        else:
            text = "Command line and modprobe's configuration differ: one turns kvm_intel.tdx on, one off."
            yield Finding(MAY_BE_OFF, RISK, text, remedies=(_ASK,))


def _not_asked(signs: Signs) -> Findings:
    """Mainline's default is off; vendors' are not known, and someone else may load it with tdx=1."""
    staged, release = signs.staged, signs.facts.kernel_release
    if staged is None or staged.kvm_asked:
        return
    row = look_up(release) or built_from(release)
    mainline = row is not None and row.mainline
    if mainline and staged.modprobe_read:
        text = "kvm_intel.tdx=1 is neither on its command line nor in modprobe's configuration."
        yield Finding(OFF, FAILS, text, remedies=(_ASK,), certainty=Certainty.ANY_MAP)
    else:
        text = "kvm_intel.tdx=1 is not on its command line: whether KVM starts TDX depends on its default."
        yield Finding(MAY_BE_OFF, RISK, text, remedies=(_ASK,))
