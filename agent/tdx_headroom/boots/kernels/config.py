# SPDX-License-Identifier: Apache-2.0
"""A kernel's build configuration (``config-RELEASE``): what of it decides about TDX and the command line."""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.boots.kernels.files import MODULES, is_release
from tdx_headroom.boots.reasons import SOURCE, reason_of
from tdx_headroom.errors import SourceError
from tdx_headroom.facts.boots import Lockdown
from tdx_headroom.textlines import lines_of

if TYPE_CHECKING:
    from tdx_headroom.hostfs.files import HostFiles

MAX_CONFIG = 4 << 20
"""Distributions have 0.3 MB."""

PLACES = ("boot/config-{}", *(f"{folder}/config" for folder in MODULES), "usr/lib/ostree-boot/config-{}")
RUNNING = "proc/config.gz"

_SWITCH = re.compile(r"CONFIG_([A-Za-z0-9_]+)=(.*)|# CONFIG_([A-Za-z0-9_]+) is not set", re.ASCII)
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_GENERATED = "# Automatically generated file; DO NOT EDIT."
_FORCED = ("LOCK_DOWN_KERNEL_FORCE_INTEGRITY", "LOCK_DOWN_KERNEL_FORCE_CONFIDENTIALITY")
_BY_SECURE_BOOT = (
    "LOCK_DOWN_IN_EFI_SECURE_BOOT",
    "LOCK_DOWN_IN_SECURE_BOOT",
    "EFI_SECURE_BOOT_LOCK_DOWN",
)
"""Distributions' own, in ``setup_arch()``: Debian, Ubuntu, Fedora and Red Hat have the first."""
_WANTED = frozenset(
    {
        *("INTEL_TDX_HOST", "KVM_INTEL", "KVM_INTEL_TDX", "MODULES", "HIBERNATION"),
        *("SECURITY_LOCKDOWN_LSM", "SECURITY_LOCKDOWN_LSM_EARLY", *_FORCED, *_BY_SECURE_BOOT),
        *("CMDLINE_BOOL", "CMDLINE", "CMDLINE_OVERRIDE", "CMDLINE_FROM_BOOTCONFIG"),
    }
)


class KernelConfig(NamedTuple):
    """What a configuration says; None where it has no line about a switch.

    A line ``# CONFIG_X is not set`` means that the kernel knows X, no line that it does not, or that
    something else rules X out: both leave it out of the kernel.

    Args:
        tdx_host: ``INTEL_TDX_HOST``.
        kvm_intel: ``y``, ``m`` or ``n``.
        kvm_intel_tdx: ``KVM_INTEL_TDX``, of 6.16 and later.
        hibernation: ``HIBERNATION``.
        lockdown: by ``SECURITY_LOCKDOWN_LSM_EARLY`` and what it is forced by.
        built_in: the arguments that come before the boot loader's, a text as on a command line.
        overrides: whether they replace those.
        bootconfig: whether more arguments were built in, from a file that the configuration only names.
    """

    tdx_host: bool = False
    kvm_intel: str | None = None
    kvm_intel_tdx: bool | None = None
    hibernation: bool | None = None
    lockdown: Lockdown | None = None
    built_in: str = ""
    overrides: bool = False
    bootconfig: bool = False


class ConfigReading(NamedTuple):
    """What was read of a kernel's configuration.

    Args:
        path: of the file that tells it, relative to the host's root; "" without one.
        config: None where there is none, or none that can be used.
        unread: why a file could not be used, a clause each.
    """

    path: str = ""
    config: KernelConfig | None = None
    unread: tuple[str, ...] = ()


def parse_config(text: str) -> KernelConfig:
    """What a configuration says; where it has several lines about a switch, the last counts (confdata.c).

    Args:
        text: as kconfig writes it, or some lines of that.

    Raises:
        SourceError: it is no configuration, or cut short before what decides.
    """
    found: dict[str, str] = {}
    switches, whole = 0, False
    for line in lines_of(text):
        match = _SWITCH.fullmatch(line.rstrip())
        if match is None:
            whole = whole or line.startswith(_GENERATED)
            continue
        switches += 1
        if (name := match[1] or match[3]) in _WANTED:
            found[name] = match[2] or "n"
    if not switches:
        raise SourceError(SOURCE, "it is no kernel's configuration")
    if whole and "MODULES" not in found:
        # Every kernel that knows INTEL_TDX_HOST has a line about modules, some hundred lines behind it.
        raise SourceError(SOURCE, "it is cut short")
    kvm_intel = found.get("KVM_INTEL", "n" if whole else "")
    built_in = _unquoted(found.get("CMDLINE", "")) if found.get("CMDLINE_BOOL") == "y" else ""
    return KernelConfig(
        tdx_host=found.get("INTEL_TDX_HOST") == "y",
        kvm_intel=kvm_intel if kvm_intel in ("y", "m", "n") else None,
        kvm_intel_tdx=_switch(found, "KVM_INTEL_TDX"),
        hibernation=_switch(found, "HIBERNATION", absent=False if whole else None),
        lockdown=_lockdown(found, whole=whole),
        built_in=built_in,
        overrides=bool(built_in) and found.get("CMDLINE_OVERRIDE") == "y",
        bootconfig=found.get("CMDLINE_FROM_BOOTCONFIG") == "y",
    )


def _lockdown(found: dict[str, str], *, whole: bool) -> Lockdown | None:
    """By what is in force at ``tdx_init()``, between ``early_security_init()`` and ``security_init()``."""
    early = found.get("SECURITY_LOCKDOWN_LSM_EARLY", "n" if whole else "")
    if "n" in (early, found.get("SECURITY_LOCKDOWN_LSM")):
        return Lockdown.NEVER
    for names, kind in ((_FORCED, Lockdown.ALWAYS), (_BY_SECURE_BOOT, Lockdown.SECURE_BOOT)):
        if any(found.get(name) == "y" for name in names):
            return kind
    return Lockdown.ASKED if whole else None


def _switch(found: dict[str, str], name: str, *, absent: bool | None = None) -> bool | None:
    return found[name] == "y" if name in found else absent


def _unquoted(value: str) -> str:
    """A text without its quotes, which kconfig escapes, as it does the backslash itself."""
    match = _QUOTED.fullmatch(value)
    return re.sub(r"\\(.)", r"\1", match[1]) if match else ""


def read_config(files: HostFiles, release: str, *, running: bool = False) -> ConfigReading:
    """The configuration of a kernel that is installed.

    Args:
        files: of the host.
        release: of the kernel.
        running: whether it is the one that runs: it may show its configuration itself.
    """
    unread: list[str] = []
    if running:
        try:
            packed = files.read_bytes(SOURCE, RUNNING, limit=MAX_CONFIG)
            return ConfigReading(RUNNING, parse_config(_gunzip(packed)))
        except SourceError as error:
            if not error.absent:
                unread.append(reason_of(files, RUNNING, error))
    if not is_release(release):
        return ConfigReading(unread=(*unread, "the kernel's release is no file name"))
    for path in (place.format(release) for place in PLACES):
        try:
            text = files.read(SOURCE, path, limit=MAX_CONFIG)
            return ConfigReading(path, parse_config(text), tuple(unread))
        except SourceError as error:
            if not error.absent:
                unread.append(reason_of(files, path, error))
    absent = f"{PLACES[0].format(release)}: there is no configuration"
    return ConfigReading(unread=tuple(unread) or (absent,))


def _gunzip(packed: bytes) -> str:
    unpacker = zlib.decompressobj(wbits=31)
    try:
        text = unpacker.decompress(packed, MAX_CONFIG)
    except zlib.error:
        raise SourceError(SOURCE, "it cannot be unpacked") from None
    if not unpacker.eof:
        raise SourceError(SOURCE, "it is cut short, or too large")
    return text.decode("utf-8", "backslashreplace")
