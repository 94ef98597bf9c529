# SPDX-License-Identifier: Apache-2.0
"""What of a boot decides whether KVM starts TDX, on a kernel on which KVM does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.facts.boot_arguments import arguments_of_kvm
from tdx_headroom.facts.boots import KvmLoading
from tdx_headroom.facts.command_line import TDX_SWITCH, switch
from tdx_headroom.verdict.findings import Remedy, RemedyKind
from tdx_headroom.verdict.this_boot import is_up

if TYPE_CHECKING:
    from tdx_headroom.verdict.findings import Signs


def is_built_in(signs: Signs) -> bool | None:
    """Whether KVM for Intel is part of the kernel that is judged; None: unknown."""
    return None if signs.facts.traits is None else signs.facts.traits.kvm_built_in


def loading(signs: Signs) -> KvmLoading:
    """What modprobe's configuration says of KVM; nothing where KVM is no module, or nobody has looked."""
    return KvmLoading() if signs.staged is None or is_built_in(signs) else signs.staged.kvm_loading


def configured(signs: Signs, name: str) -> bool | None:
    """What modprobe's configuration sets a switch of KVM to, named as on the command line; None: nothing."""
    if name == TDX_SWITCH:
        return None if signs.staged is None or is_built_in(signs) else signs.staged.kvm_intel_tdx
    return switch(loading(signs).options, name)


def arguments_of(signs: Signs) -> tuple[str, ...] | None:
    """The command line that is judged, as KVM takes it; None where it is unknown, or does not matter.

    Where no boot is staged, what-ifs ask about the memory map alone, and a host that shows nothing of TDX may
    be any.
    """
    any_line = signs.staged is None and (signs.what_if or signs.no_sign)
    if any_line or signs.facts.command_line is None:
        return None
    return arguments_of_kvm(signs.facts.command_line, module=is_built_in(signs) is False)


def line_is_proved(signs: Signs) -> bool:
    """Whether TDX is up with the very command line that is judged, so that nothing on it keeps TDX off."""
    runs = signs.staged is None or signs.staged.running
    return runs and is_up(signs.facts)


def of_modprobe(name: str) -> Remedy:
    """What to do about a switch that modprobe's configuration turns off.

    Args:
        name: of the switch, as on the command line.
    """
    module, _, option = name.partition(".")
    text = f"Take {option} off the options of {module} in modprobe's configuration"
    return Remedy(RemedyKind.LOAD_KVM, f"{text} (`grep -r {option} /etc/modprobe.d`).")
