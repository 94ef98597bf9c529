# SPDX-License-Identifier: Apache-2.0
"""Whether a kernel's KVM for Intel has the parameter ``tdx``, by its module or by what is built in.

What a module takes is in its section ``.modinfo`` (include/linux/moduleparam.h); of what is built in, the
build writes the same into ``modules.builtin.modinfo``.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.address import show_size
from tdx_headroom.boots.kernels import elf
from tdx_headroom.boots.kernels.files import MODULES, is_release
from tdx_headroom.boots.kernels.unpack import pieces_of, unpacked
from tdx_headroom.boots.reasons import SOURCE, reason_of
from tdx_headroom.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tdx_headroom.hostfs.files import HostFiles

MAX_MODULE = 64 << 20
"""Packed or not; 1 MB is usual, 20 MB with all debugging information."""
MAX_LIST = 8 << 20

_IN_TREE = "kernel/arch/x86/kvm/kvm-intel.ko"
_PACKED = ("", ".xz", ".zst", ".gz")
_NAMES = frozenset(f"{name}.ko{packed}" for name in ("kvm-intel", "kvm_intel") for packed in _PACKED)
_PARAMETER = b"parmtype=tdx:bool"
_BUILT_IN = b"kvm_intel."


class ModuleReading(NamedTuple):
    """What was read of KVM for Intel.

    Args:
        path: of the file that tells it, relative to the host's root; "" without one.
        parameter: whether it has the parameter ``tdx``; None: unknown.
        built_in: whether it is part of the kernel; None: unknown.
        unread: why a file could not be used, a clause each.
    """

    path: str = ""
    parameter: bool | None = None
    built_in: bool | None = None
    unread: tuple[str, ...] = ()


def module_has_parameter(data: bytes) -> bool:
    """Whether a module that is not packed has the parameter.

    Raises:
        SourceError: it is no module for x86-64, or damaged.
    """
    header = elf.parse_header(data)
    sections = elf.parse_sections(header, lambda offset, size: data[offset : offset + size])
    where = sections.get(".modinfo")
    info = data[where.start : where.end].split(b"\0") if where else []
    if where is None or where.end > len(data) or b"name=kvm_intel" not in info:
        raise SourceError(SOURCE, "it is not the module kvm_intel")
    return _PARAMETER in info


def built_in_parameter(data: bytes) -> bool | None:
    """The same from ``modules.builtin.modinfo``; None where KVM for Intel is not built in."""
    own = [entry for entry in data.split(b"\0") if entry.startswith(_BUILT_IN)]
    return _BUILT_IN + _PARAMETER in own if own else None


def path_in_modules(text: str) -> str | None:
    """Where modprobe finds the module, from ``modules.dep``: an update of it may lie elsewhere."""
    for line in text.split("\n"):
        path, colon, _ = line.partition(":")
        if colon and path.rpartition("/")[2] in _NAMES:
            return path
    return None


def read_module(files: HostFiles, release: str) -> ModuleReading:
    """What a kernel's KVM for Intel takes.

    Args:
        files: of the host.
        release: of the kernel.
    """
    if not is_release(release):
        return ModuleReading(unread=("the kernel's release is no file name",))
    unread: list[str] = []
    for folder in (place.format(release) for place in MODULES):
        for path in _candidates(files, folder, unread):
            try:
                return ModuleReading(path, module_has_parameter(_unpack(files, path)), built_in=False)
            except SourceError as error:
                if not error.absent or error.hint:
                    unread.append(reason_of(files, path, error))
        found = _read_built_in(files, f"{folder}/modules.builtin.modinfo", unread)
        if found is not None:
            return found
    return ModuleReading(unread=tuple(unread) or (f"{MODULES[1].format(release)}: there is no kvm-intel",))


def _candidates(files: HostFiles, folder: str, unread: list[str]) -> Iterator[str]:
    """Where the module may be: modprobe's own list first, as far as that leads into the folder."""
    listed = f"{folder}/modules.dep"
    try:
        path = path_in_modules(files.read(SOURCE, listed, limit=MAX_LIST))
        if path is not None and not path.startswith("/") and ".." not in path.split("/"):
            yield f"{folder}/{path}"
            return
    except SourceError as error:
        if not error.absent:
            unread.append(reason_of(files, listed, error))
    yield from (f"{folder}/{_IN_TREE}{packed}" for packed in _PACKED)


def _read_built_in(files: HostFiles, path: str, unread: list[str]) -> ModuleReading | None:
    try:
        parameter = built_in_parameter(files.read_bytes(SOURCE, path, limit=MAX_LIST))
    except SourceError as error:
        if not error.absent:
            unread.append(reason_of(files, path, error))
        return None
    return None if parameter is None else ModuleReading(path, parameter, built_in=True)


def _unpack(files: HostFiles, path: str) -> bytes:
    """The whole module.

    Raises:
        SourceError: it cannot be read or unpacked, or is too large.
    """
    fd = files.open(SOURCE, path)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise SourceError(SOURCE, "it is not a regular file")
        if status.st_size > MAX_MODULE:
            raise SourceError(SOURCE, f"it is larger than {show_size(MAX_MODULE)}")
        pieces = pieces_of(fd, 0, status.st_size)
        if path.endswith(".ko"):
            return b"".join(pieces)
        return b"".join(unpacked(pieces, MAX_MODULE))
    finally:
        os.close(fd)
