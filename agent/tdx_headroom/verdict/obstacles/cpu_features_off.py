# SPDX-License-Identifier: Apache-2.0
"""A command line that turns off what TDX needs of the CPU."""

from __future__ import annotations

from tdx_headroom.errors import one_line
from tdx_headroom.facts.boot_arguments import features_off
from tdx_headroom.facts.boots import Starts
from tdx_headroom.verdict.findings import FAILS, RISK, Certainty, Finding, Findings, Remedy, RemedyKind, Signs
from tdx_headroom.verdict.kvm_start import arguments_of, line_is_proved
from tdx_headroom.verdict.this_kernel import is_mainlines, likely_start

KIND = "cpu-feature-off"
_ALL_KERNELS = ("MOVDIR64B",)
"""What every kernel that initializes TDX looks at; of the others some vendors' do not look at all."""


def look(signs: Signs) -> Findings:
    """Each feature; kernels look at them whether KVM starts TDX or they do so at boot."""
    arguments = arguments_of(signs)
    if likely_start(signs.facts).starts not in (Starts.KVM_LOAD, Starts.BOOT) or line_is_proved(signs):
        return
    for argument, feature in features_off(arguments or ()):
        shown = one_line(argument, 60)
        remedy = Remedy(
            RemedyKind.REMOVE_ARGUMENTS, f"Take {shown} off the kernel's command line.", (argument,)
        )
        text = f"{shown} on its command line turns {feature} off"
        if feature in _ALL_KERNELS or is_mainlines(signs.facts):
            text = f"{text}, without which no kernel initializes TDX."
            yield Finding(KIND, FAILS, text, remedies=(remedy,), certainty=Certainty.ANY_MAP)
        else:
            text = f"{text}: whether this vendor's kernel initializes TDX without it is unknown."
            yield Finding(KIND, RISK, text, remedies=(remedy,))
