# SPDX-License-Identifier: Apache-2.0
"""EFI variables as efivarfs shows them: four bytes of attributes, then the value (fs/efivarfs/file.c).

The forms of values are those of the UEFI specification: EFI_LOAD_OPTION (3.1.3) and device paths (10.3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.boots.reasons import SOURCE
from tdx_headroom.errors import SourceError, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tdx_headroom.hostfs.files import HostFiles

EFI = "sys/firmware/efi"
FOLDER = f"{EFI}/efivars"
GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
"""Vendor of the firmware's own variables (EFI_GLOBAL_VARIABLE)."""
LOADER = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
"""Vendor of the variables of the Boot Loader Interface (systemd's BOOT_LOADER_INTERFACE)."""

MAX_VARIABLE = 1 << 20
_MAX_NODES = 256

ACTIVE = 0x1
CATEGORY = 0x1F00
"""Bits of a load option's attributes: whether it boots unasked; 0 in the category is a boot option."""


class DevicePath(NamedTuple):
    """What a device path tells of a boot option.

    Args:
        file: path of the file on its partition, with backslashes; empty: the device's default loader.
        network: whether it leads over a network: MAC, IPv4, IPv6, URI, Wi-Fi.
        firmware: whether it is an application inside the firmware (setup, shell).
        legacy: whether it is a BIOS boot (BBS).
    """

    file: str = ""
    network: bool = False
    firmware: bool = False
    legacy: bool = False


class LoadOption(NamedTuple):
    """A ``Boot####`` variable.

    Args:
        attributes: LOAD_OPTION_ACTIVE and the like.
        description: for people.
        path: where it leads to.
        data: what the loader gets as its load options.
    """

    attributes: int
    description: str
    path: DevicePath
    data: bytes = b""

    @property
    def boots(self) -> bool:
        """Whether the firmware tries it without being asked: it is active, and no application."""
        return bool(self.attributes & ACTIVE) and not self.attributes & CATEGORY


def parse_value(raw: bytes) -> bytes:
    """The value of a variable's file.

    Raises:
        SourceError: not even the attributes are there.
    """
    if len(raw) < 4:
        raise SourceError(SOURCE, f"an EFI variable of {len(raw)} bytes lacks its attributes")
    return raw[4:]


def parse_text(value: bytes) -> str:
    """A text up to its first NUL, as ``efivar_get_str16()`` takes it.

    Raises:
        SourceError: its length is odd, or it is no UTF-16.
    """
    if len(value) % 2:
        raise SourceError(SOURCE, f"a text of {len(value)} bytes is no UTF-16")
    try:
        return value.decode("utf-16-le").split("\0", 1)[0]
    except UnicodeDecodeError:
        raise SourceError(SOURCE, "the text is no UTF-16") from None


def parse_texts(value: bytes) -> tuple[str, ...]:
    """Texts that end with a NUL each, as in ``LoaderEntries``.

    Raises:
        SourceError: as :func:`parse_text`.
    """
    if len(value) % 2:
        raise SourceError(SOURCE, f"a list of texts of {len(value)} bytes is no UTF-16")
    try:
        return tuple(text for text in value.decode("utf-16-le").split("\0") if text)
    except UnicodeDecodeError:
        raise SourceError(SOURCE, "the text is no UTF-16") from None


def parse_numbers(value: bytes) -> tuple[int, ...]:
    """Numbers of boot options, as in ``BootOrder``.

    Raises:
        SourceError: the length is odd.
    """
    if len(value) % 2:
        raise SourceError(SOURCE, f"a list of {len(value)} bytes holds no whole numbers")
    return tuple(int.from_bytes(value[i : i + 2], "little") for i in range(0, len(value), 2))


def parse_number(value: bytes) -> int:
    """The one number of ``BootNext`` or ``BootCurrent``.

    Raises:
        SourceError: there is not exactly one.
    """
    if len(value) != 2:
        raise SourceError(SOURCE, f"{len(value)} bytes are not the number of one boot option")
    return int.from_bytes(value, "little")


def parse_load_option(value: bytes) -> LoadOption:
    """A boot option.

    Raises:
        SourceError: it ends too early, or its parts do not fit together.
    """
    if len(value) < 6:
        raise SourceError(SOURCE, f"a boot option of {len(value)} bytes is cut off")
    attributes = int.from_bytes(value[:4], "little")
    path_length = int.from_bytes(value[4:6], "little")
    end = next((i for i in range(6, len(value) - 1, 2) if value[i : i + 2] == b"\0\0"), None)
    if end is None:
        raise SourceError(SOURCE, "the description of a boot option does not end")
    start = end + 2
    if start + path_length > len(value):
        raise SourceError(SOURCE, "the device path of a boot option is cut off")
    description = value[6:end].decode("utf-16-le", "replace")
    path = parse_device_path(value[start : start + path_length])
    return LoadOption(attributes, printable(description), path, value[start + path_length :])


def parse_device_path(data: bytes) -> DevicePath:
    """What a packed device path tells; of several instances the first.

    Raises:
        SourceError: a node does not fit.
    """
    parts: list[str] = []
    network = firmware = legacy = False
    for kind, subkind, body in _nodes(data):
        match kind, subkind:
            case 3, 11 | 12 | 13 | 20 | 24 | 28:
                network = True
            case 4, 4:
                parts.append(body.decode("utf-16-le", "replace").split("\0", 1)[0])
            case 4, 6 | 7:
                firmware = True
            case 5, _:
                legacy = True
    return DevicePath(printable(_joined(parts)), network, firmware, legacy)


def _nodes(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    at = 0
    for _ in range(_MAX_NODES):
        if at + 4 > len(data):
            # Some firmwares leave the end node out; nothing is missing then.
            if at == len(data):
                return
            raise SourceError(SOURCE, "a device path is cut off")
        kind, subkind = data[at], data[at + 1]
        length = int.from_bytes(data[at + 2 : at + 4], "little")
        if kind == 0x7F:
            return
        if length < 4 or at + length > len(data):
            raise SourceError(SOURCE, f"a node of {length} bytes does not fit into its device path")
        yield kind, subkind, data[at + 4 : at + length]
        at += length
    raise SourceError(SOURCE, f"a device path has more than {_MAX_NODES} nodes")


def _joined(parts: list[str]) -> str:
    """A file's path may be cut into several nodes, with or without a backslash at the seam."""
    path = ""
    for part in parts:
        path = f"{path.rstrip(chr(92))}\\{part.lstrip(chr(92))}" if path else part
    return path.replace("/", "\\")


def variable_path(name: str, vendor: str = GLOBAL) -> str:
    """The path of a variable's file."""
    return f"{FOLDER}/{name}-{vendor}"


def read_value(files: HostFiles, name: str, vendor: str = GLOBAL) -> bytes | None:
    """The value of a variable; None where there is none.

    Raises:
        SourceError: it is there and cannot be read.
    """
    try:
        raw = files.read_bytes(SOURCE, variable_path(name, vendor), limit=MAX_VARIABLE)
    except SourceError as error:
        if error.absent:
            return None
        raise
    # A variable that was just deleted, or never written, reads as an empty file.
    return parse_value(raw) if raw else None


def read_loader_text(files: HostFiles, name: str) -> str | None:
    """A text among the loader's variables; None where there is none.

    Raises:
        SourceError: it cannot be read, or is no text.
    """
    value = read_value(files, name, LOADER)
    return None if value is None else parse_text(value)
