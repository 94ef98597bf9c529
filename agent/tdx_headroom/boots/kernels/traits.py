# SPDX-License-Identifier: Apache-2.0
"""What a kernel does about TDX, from what was read of its own files.

By the history of arch/x86/virt/vmx/tdx and arch/x86/kvm/vmx/tdx.c: 6.8 brought host support that nothing
started; from 6.16 on kvm_intel starts it when it is loaded with ``tdx``; from 7.1 on the kernel itself does
at boot. Distributions have moved each of these to other versions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.boots.kernels.marks import ImageMarks, Mark
from tdx_headroom.facts.boots import KernelTraits, Starts, TraitsFrom
from tdx_headroom.sources.platform import relevant_arguments

if TYPE_CHECKING:
    from tdx_headroom.boots.kernels.config import ConfigReading, KernelConfig
    from tdx_headroom.boots.kernels.module import ModuleReading


class MarksReading(NamedTuple):
    """What was read of a kernel's image.

    Args:
        path: of the image, relative to the host's root; "" without one.
        marks: None where the image was not looked through.
        unread: why not, a clause each.
    """

    path: str = ""
    marks: ImageMarks | None = None
    unread: tuple[str, ...] = ()


class _Told(NamedTuple):
    """When the module is initialized, and why that is unknown."""

    starts: Starts
    unread: tuple[str, ...] = ()


def traits_of(
    config: ConfigReading, module: ModuleReading | None, image: MarksReading | None
) -> KernelTraits:
    """What a kernel does.

    Args:
        config: its configuration.
        module: its KVM for Intel; None where it was not looked at.
        image: its image; None where it was not looked at.
    """
    options = config.config
    marks = image.marks if image else None
    arguments = relevant_arguments(options.built_in) if options else ()
    unread = config.unread if options is None else ()
    if options is not None and options.bootconfig:
        unread += (f"{config.path}: arguments that CONFIG_CMDLINE_FROM_BOOTCONFIG builds in are not in it",)
    told, known_from = _Told(Starts.UNKNOWN), None
    if options is not None and not options.tdx_host:
        told, known_from = _Told(Starts.NOT_BUILT), TraitsFrom.CONFIG
    elif marks is not None and image is not None:
        told = _by_image(config, module, image.path, marks)
        known_from = TraitsFrom.IMAGE if Mark.MESSAGES in marks.found else None
    elif image is not None:
        told = _Told(Starts.UNKNOWN, image.unread)
    walks, reads, dynamic = _looks(told.starts, marks)
    return KernelTraits(
        starts=told.starts,
        known_from=known_from,
        walks_cmrs=walks,
        reads_cmrs=reads,
        dynamic_pamt=dynamic,
        hibernation=options.hibernation if options else None,
        lockdown=options.lockdown if options else None,
        tdx_host=_tdx_host(told.starts, config, marks),
        kvm_built_in=_kvm_built_in(options, module, marks),
        built_in=arguments,
        overrides=bool(options and options.overrides),
        unread=tuple(dict.fromkeys((*unread, *told.unread))),
    )


def _tdx_host(starts: Starts, config: ConfigReading, marks: ImageMarks | None) -> bool | None:
    """Whether it is built with TDX for hosts, by its configuration or by its first message about it."""
    if starts is Starts.NOT_BUILT:
        return False
    built = config.config is not None and config.config.tdx_host
    return True if built or (marks is not None and Mark.KEYIDS in marks.found) else None


def _kvm_built_in(
    options: KernelConfig | None, module: ModuleReading | None, marks: ImageMarks | None
) -> bool | None:
    """Whether KVM is in the image: by the configuration, the module, or the name of its parameter."""
    if options is not None and options.kvm_intel in ("y", "m"):
        return options.kvm_intel == "y"
    if module is not None and module.built_in is not None:
        return module.built_in
    return True if marks is not None and Mark.KVM_PARAMETER in marks.found else None


def _looks(starts: Starts, marks: ImageMarks | None) -> tuple[bool | None, bool | None, bool | None]:
    """Whether it walks CMRs, reads them, and can use Dynamic PAMT."""
    if starts is Starts.NOT_BUILT:
        return False, False, False
    if marks is None:
        return None, None, None
    return _shows(marks, Mark.CMR_WALK), _reads_cmrs(marks), _dynamic_pamt(marks)


def _shows(marks: ImageMarks, mark: Mark) -> bool | None:
    """Whether a format is there; None where the kernel has no messages."""
    if mark in marks.found:
        return True
    return False if Mark.MESSAGES in marks.found else None


def _reads_cmrs(marks: ImageMarks) -> bool | None:
    """By a message, or by the struct that they are read into, which only a kernel with BTF shows."""
    if Mark.CMR_LIST in marks.found or {Mark.CMR_BASE, Mark.CMR_SIZE} <= marks.found:
        return True
    return False if marks.types else None


def _dynamic_pamt(marks: ImageMarks) -> bool | None:
    if not marks.found.isdisjoint((Mark.DYNAMIC_PAMT, Mark.PAMT_BITMAP)):
        return True
    return False if marks.types else None


def _by_image(config: ConfigReading, module: ModuleReading | None, path: str, marks: ImageMarks) -> _Told:
    """By the formats of its messages, the names that it exports, and KVM."""
    if Mark.MESSAGES not in marks.found:
        return _unknown(path, "the kernel has no messages in it")
    if Mark.KEYIDS not in marks.found:
        if marks.found - {Mark.MESSAGES, Mark.KVM_PARAMETER}:
            return _unknown(path, "it has some of the messages about TDX, and not the first")
        if config.config is not None:
            return _unknown(path, f"there is no TDX in it, and {config.path} says CONFIG_INTEL_TDX_HOST=y")
        return _Told(Starts.NOT_BUILT)
    at_boot = Mark.INITIALIZED_AT_BOOT in marks.found
    if at_boot == (Mark.INITIALIZED in marks.found):
        which = "both kinds" if at_boot else "neither kind"
        return _unknown(path, f"it has {which} of message about the module's initialization")
    enable = Mark.ENABLE in marks.found
    if at_boot:
        if enable:
            return _unknown(path, "it initializes the module at boot, and lets others do it")
        return _Told(Starts.BOOT)
    return _by_kvm(config, module, path, marks)


def _by_kvm(config: ConfigReading, module: ModuleReading | None, path: str, marks: ImageMarks) -> _Told:
    """Of a kernel that initializes the module when it is asked to: whether KVM asks it.

    Some distributions start it from a KVM of their own, which exports may not show: what counts is whether
    kvm_intel takes ``tdx``.
    """
    options = config.config
    switch = options.kvm_intel_tdx if options else None
    parameter, why = _parameter(config, module, marks)
    if parameter is None:
        return _Told(Starts.UNKNOWN, why) if switch is None else _Told(_kvm(asks=switch))
    if switch is not None and switch != parameter:
        has = "has" if parameter else "does not have"
        return _unknown(config.path, f"CONFIG_KVM_INTEL_TDX and kvm_intel differ: that {has} tdx")
    if marks.exports and Mark.ENABLE not in marks.found and Mark.KVM_PARAMETER not in marks.found:
        if parameter:
            return _unknown(path, "kvm_intel takes tdx, and the kernel does not let it start it")
        if options is None or options.kvm_intel_tdx is None:
            return _unknown(path, "it is not known what initializes the module")
    return _Told(_kvm(asks=parameter))


def _kvm(*, asks: bool) -> Starts:
    return Starts.KVM_LOAD if asks else Starts.NEVER


def _parameter(
    config: ConfigReading, module: ModuleReading | None, marks: ImageMarks
) -> tuple[bool | None, tuple[str, ...]]:
    """Whether kvm_intel takes ``tdx``, and why that is unknown."""
    if Mark.KVM_PARAMETER in marks.found:
        return True, ()
    if module is not None and module.parameter is not None:
        return module.parameter, ()
    kvm = config.config.kvm_intel if config.config else None
    if kvm in ("y", "n") or not marks.exports:
        # KVM is built in, if anywhere: its parameter's name would be in the image.
        return False, ()
    if module is None:
        return None, ("kvm-intel was not looked at",)
    return None, module.unread


def _unknown(path: str, why: str) -> _Told:
    return _Told(Starts.UNKNOWN, (f"{path}: {why}",))
