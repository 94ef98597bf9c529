# SPDX-License-Identifier: Apache-2.0
"""A kernel that starts TDX with KVM, and a KVM without something that TDX needs of it."""

from __future__ import annotations

from tdx_headroom.errors import one_line
from tdx_headroom.facts.boot_arguments import KVM_NEEDS
from tdx_headroom.facts.boots import Starts
from tdx_headroom.facts.command_line import name_and_value, switch
from tdx_headroom.verdict.findings import FAILS, RISK, Certainty, Finding, Findings, Remedy, RemedyKind, Signs
from tdx_headroom.verdict.kvm_start import arguments_of, configured, line_is_proved, of_modprobe
from tdx_headroom.verdict.this_kernel import is_mainlines, likely_start

OFF = "kvm-option-off"
MAY_BE_OFF = "kvm-option-may-be-off"
KINDS = (OFF, MAY_BE_OFF)
_ALL_KERNELS = ("kvm_intel.ept",)
"""What every kernel whose KVM starts TDX looks at; of the others some vendors' do not look at all."""


def look(signs: Signs) -> Findings:
    """Each switch that is off, or may be."""
    arguments = arguments_of(signs)
    if arguments is None or likely_start(signs.facts).starts is not Starts.KVM_LOAD:
        return
    proved = line_is_proved(signs)
    for name, what in KVM_NEEDS.items():
        asked = None if proved else switch(arguments, name)
        otherwise = configured(signs, name)
        remedies: list[Remedy] = []
        if asked is False:
            remedies.append(_of_line(name, arguments))
        if otherwise is False:
            remedies.append(of_modprobe(name))
        if not remedies:
            continue
        where = "Its command line" if asked is False else "Modprobe's configuration"
        if True in (asked, otherwise):
            text = f"Command line and modprobe's configuration differ: one turns {name} on, one off, and"
            text += f" KVM does not start TDX without {what}."
        elif name in _ALL_KERNELS or is_mainlines(signs.facts):
            text = f"{where} turns {name} off, and without {what} KVM does not start TDX."
            yield Finding(OFF, FAILS, text, remedies=tuple(remedies), certainty=Certainty.ANY_MAP)
            continue
        else:
            text = f"{where} turns {name} off, and this vendor's KVM may not start TDX without {what}."
        yield Finding(MAY_BE_OFF, RISK, text, remedies=tuple(remedies))


def _of_line(name: str, arguments: tuple[str, ...]) -> Remedy:
    off = tuple(dict.fromkeys(argument for argument in arguments if name_and_value(argument)[0] == name))
    text = f"Take {' '.join(one_line(argument, 60) for argument in off)} off the kernel's command line."
    return Remedy(RemedyKind.REMOVE_ARGUMENTS, text, off)
