# SPDX-License-Identifier: Apache-2.0
"""A kernel that starts TDX with KVM, and a KVM that is not loaded."""

from __future__ import annotations

from tdx_headroom.errors import one_line
from tdx_headroom.facts.boot_arguments import (
    KVM_MODULES,
    argument_of,
    barred_modules,
    bars_all_modules,
    passed_over_modules,
)
from tdx_headroom.facts.boots import Starts
from tdx_headroom.verdict.findings import FAILS, RISK, Certainty, Finding, Findings, Remedy, RemedyKind, Signs
from tdx_headroom.verdict.kvm_start import arguments_of, line_is_proved, loading
from tdx_headroom.verdict.this_kernel import likely_start

NOT_LOADED = "kvm-not-loaded"
MAY_NOT_BE = "kvm-may-not-be-loaded"
KINDS = (NOT_LOADED, MAY_NOT_BE)
_WITHOUT = "this kernel starts TDX when kvm_intel is loaded"


def look(signs: Signs) -> Findings:
    """What keeps kvm_intel out, or leaves it to somebody who loads it by its name."""
    arguments, traits = arguments_of(signs), signs.facts.traits
    if arguments is None or likely_start(signs.facts).starts is not Starts.KVM_LOAD:
        return
    if traits is not None and traits.kvm_built_in:
        return
    if not line_is_proved(signs):
        yield from _by_command_line(signs, arguments)
    yield from _by_modprobe(signs)


def _by_command_line(signs: Signs, arguments: tuple[str, ...]) -> Findings:
    if bars_all_modules(arguments):
        yield _barred("loads no module at all", argument_of(arguments, "nomodule"))
    barred = [module for module in KVM_MODULES if module in barred_modules(arguments)]
    if barred:
        yield _barred(f"does not load {' and '.join(barred)}", argument_of(arguments, "module_blacklist"))
    passed = [module for module in KVM_MODULES if module in passed_over_modules(arguments)]
    if passed and not (signs.staged is not None and signs.staged.kvm_comes):
        argument = argument_of(arguments, "modprobe.blacklist") or ""
        text = f"Its command line has {one_line(argument, 60)}"
        yield _passed_over(text, _off(argument))


def _by_modprobe(signs: Signs) -> Findings:
    found = loading(signs)
    if found.never:
        modules = " and ".join(found.never)
        text = f"modprobe's configuration has a command that does nothing in place of loading {modules}"
        remedy = _of_configuration("install", found.never[0])
        yield Finding(
            NOT_LOADED, FAILS, f"{text}, and {_WITHOUT}.", remedies=(remedy,), certainty=Certainty.ANY_MAP
        )
    if found.passed_over:
        text = f"modprobe's configuration blacklists {' and '.join(found.passed_over)}"
        yield _passed_over(text, _of_configuration("blacklist", found.passed_over[0]))


def _barred(what: str, argument: str | None) -> Finding:
    argument = argument or ""
    text = f"With {one_line(argument, 60)} on its command line the kernel {what}, and {_WITHOUT}."
    return Finding(NOT_LOADED, FAILS, text, remedies=(_off(argument),), certainty=Certainty.ANY_MAP)


def _passed_over(text: str, remedy: Remedy) -> Finding:
    rest = "so that TDX comes up only if something loads kvm_intel by its name, as libvirt or a unit may"
    return Finding(MAY_NOT_BE, RISK, f"{text}, {rest}.", remedies=(remedy,))


def _off(argument: str) -> Remedy:
    rest = ", or KVM out of it" if "," in argument else ""
    text = f"Take {one_line(argument, 60)} off the kernel's command line{rest}."
    return Remedy(RemedyKind.REMOVE_ARGUMENTS, text, (argument,))


def _of_configuration(command: str, module: str) -> Remedy:
    text = f"Take the line `{command} {module}` out of modprobe's configuration"
    return Remedy(RemedyKind.LOAD_KVM, f"{text} (`grep -r {command} /etc/modprobe.d`).")
