# SPDX-License-Identifier: Apache-2.0
"""A kernel that initializes TDX when KVM is loaded, and a KVM that is not told to."""

from __future__ import annotations

from tdx_headroom.facts.boot_arguments import (
    KVM_VIRTUALIZATION,
    enables_virtualization,
    matters_behind_dashes,
)
from tdx_headroom.facts.boots import Starts
from tdx_headroom.facts.command_line import TDX_SWITCH, asks_for_tdx
from tdx_headroom.verdict.findings import FAILS, RISK, Certainty, Finding, Findings, Remedy, RemedyKind, Signs
from tdx_headroom.verdict.kvm_start import arguments_of, configured, is_built_in, of_modprobe
from tdx_headroom.verdict.this_kernel import is_mainlines, likely_start

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
    arguments = arguments_of(signs)
    if arguments is None:
        return
    if is_built_in(signs) is None and matters_behind_dashes(signs.facts.command_line or ()):
        yield Finding(MAY_BE_OFF, RISK, _BEHIND_DASHES, remedies=(_ASK_BEFORE_DASHES,))
        return
    yield from _virtualization(signs, arguments)
    asked, otherwise = asks_for_tdx(arguments), configured(signs, TDX_SWITCH)
    if asked is None and otherwise is None:
        yield from _not_asked(signs)
    elif False in (asked, otherwise):
        where = "its command line" if asked is False else "modprobe's configuration"
        if asked is otherwise or None in (asked, otherwise):
            text = f"kvm_intel.tdx is turned off on {where}."
            yield Finding(OFF, FAILS, text, remedies=(_ASK,), certainty=Certainty.ANY_MAP)
        else:
            text = "Command line and modprobe's configuration differ: one turns kvm_intel.tdx on, one off."
            yield Finding(MAY_BE_OFF, RISK, text, remedies=(_ASK,))


def _virtualization(signs: Signs, arguments: tuple[str, ...]) -> Findings:
    """Whether KVM turns virtualization on when it is loaded, without which no call reaches the module."""
    without = "without it this kernel does not start TDX"
    asked, otherwise = enables_virtualization(arguments), configured(signs, KVM_VIRTUALIZATION)
    if asked is False:
        text = f"kvm.enable_virt_at_load=0 is on its command line, and {without}."
        yield Finding(NO_VIRTUALIZATION, FAILS, text, remedies=(_ENABLE,), certainty=Certainty.ANY_MAP)
    elif asked is None and otherwise is False:
        text = f"modprobe's configuration turns kvm.enable_virt_at_load off, and {without}."
        remedy = of_modprobe(KVM_VIRTUALIZATION)
        yield Finding(NO_VIRTUALIZATION, FAILS, text, remedies=(remedy,), certainty=Certainty.ANY_MAP)


def _not_asked(signs: Signs) -> Findings:
    """Mainline's default is off; vendors' are not known, and someone else may load it with tdx=1."""
    staged = signs.staged
    if staged is None or staged.kvm_asked:
        return
    if is_mainlines(signs.facts) and staged.modprobe_read:
        text = "kvm_intel.tdx=1 is neither on its command line nor in modprobe's configuration."
        yield Finding(OFF, FAILS, text, remedies=(_ASK,), certainty=Certainty.ANY_MAP)
    else:
        text = "kvm_intel.tdx=1 is not on its command line: whether KVM starts TDX depends on its default."
        yield Finding(MAY_BE_OFF, RISK, text, remedies=(_ASK,))
