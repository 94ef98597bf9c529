# SPDX-License-Identifier: Apache-2.0
"""What the firmware starts next: BootNext, else the first of BootOrder that is active (UEFI 3.1.1, 3.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.boots.firmware import esp
from tdx_headroom.boots.firmware.choice import BootOption, FirmwareChoice, OptionKind
from tdx_headroom.boots.firmware.efi_variables import (
    EFI,
    FOLDER,
    LoadOption,
    parse_load_option,
    parse_number,
    parse_numbers,
    read_loader_text,
    read_value,
    variable_path,
)
from tdx_headroom.boots.firmware.pe import read_loader_magic, read_program
from tdx_headroom.boots.firmware.update import is_updater, read_firmware_update, read_stops_in_setup
from tdx_headroom.boots.reasons import SOURCE, bounded, clause, reason_of
from tdx_headroom.boots.systemd_boot.uki import is_unified
from tdx_headroom.errors import SourceError, printable
from tdx_headroom.facts.boots import Loader

if TYPE_CHECKING:
    from tdx_headroom.hostfs.files import HostFiles

_MAX_ORDER = 512
_MAX_VENDORS = 64
_BACKSLASH = "\\"
_DEFAULT = r"\efi\boot\bootx64.efi"


def read_firmware(files: HostFiles) -> FirmwareChoice:
    """What the firmware of this host starts next, and whether new firmware is staged."""
    if not files.exists(EFI):
        return FirmwareChoice(efi=False)
    return _Reader(files).choice()


class _Reader:
    """Reads the firmware's variables once, and notes what is amiss with them."""

    def __init__(self, files: HostFiles) -> None:
        self._files = files
        self._notes: list[str] = []
        self._ran: Loader | None = None
        self._current: int | None = None

    def choice(self) -> FirmwareChoice:
        files = self._files
        update = read_firmware_update(files)
        if no_variables := variables_missing(files):
            return FirmwareChoice(efi=True, firmware_update=update, unknown=no_variables)
        self._ran = loader_of(self._attempt_text("LoaderInfo"))
        self._current = self._attempt_number("BootCurrent")
        stops = read_stops_in_setup(files)
        option, unknown = self._once()
        one_shot = option is not None
        if option is not None and option.starts is OptionKind.UPDATE:
            # It installs the firmware and resets: the boot that follows is the one that counts here.
            update = update or f"BootNext starts {option.description or option.file}"
            option, one_shot = None, False
        if option is None and unknown is None:
            option, unknown = self._standing()
        return FirmwareChoice(
            efi=True,
            option=option,
            one_shot=one_shot,
            firmware_update=update,
            unknown=option.unknown if option is not None else unknown,
            notes=bounded([*([stops] if stops else []), *self._notes]),
        )

    def _once(self) -> tuple[BootOption | None, str | None]:
        """What BootNext names, or why it cannot be told; neither where it is not set."""
        where = variable_path("BootNext")
        try:
            number = self._number("BootNext")
        except SourceError as error:
            return None, reason_of(self._files, where, error)
        if number is None:
            return None, None
        option = self._load(number)
        if isinstance(option, str):
            return None, option
        if option is None:
            # EDK2 goes on with BootOrder then; others may not.
            return None, clause(where, f"it names Boot{number:04X}, which is not there")
        return self._option(number, option), None

    def _standing(self) -> tuple[BootOption | None, str | None]:
        """The first of BootOrder that is active, or why there is none."""
        where = variable_path("BootOrder")
        try:
            value = read_value(self._files, "BootOrder")
            numbers = () if value is None else parse_numbers(value)
        except SourceError as error:
            return None, reason_of(self._files, where, error)
        for number in numbers[:_MAX_ORDER]:
            option = self._load(number)
            if isinstance(option, str):
                # The firmware may understand it: what comes after it is not what surely boots.
                return None, option
            if option is not None and option.boots:
                return self._option(number, option), None
        return None, clause(where, "no active boot option is in it" if numbers else "it is not set")

    def _load(self, number: int) -> LoadOption | str | None:
        """A boot option; None where there is none, a clause where it cannot be read."""
        name = f"Boot{number:04X}"
        try:
            value = read_value(self._files, name)
            return None if value is None else parse_load_option(value)
        except SourceError as error:
            return reason_of(self._files, variable_path(name), error)

    def _option(self, number: int, option: LoadOption) -> BootOption:
        where = f"Boot{number:04X}"
        title = option.description
        if option.path.network:
            return BootOption(
                number, title, OptionKind.NETWORK, unknown=clause(where, f"{title} boots from the network")
            )
        if option.path.firmware or option.path.legacy:
            what = "a program of the firmware" if option.path.firmware else "what a BIOS would boot"
            return BootOption(
                number, title, OptionKind.OTHER, unknown=clause(where, f"{title} starts {what}")
            )
        file = _second_stage(option) or option.path.file or _DEFAULT.upper()
        if is_updater(title, file):
            return BootOption(number, title, OptionKind.UPDATE, file)
        starts, image = self._starts(number, file)
        unknown = None
        if starts is OptionKind.OTHER:
            unknown = clause(where, f"{title} starts {file}, of which it is not known what it boots")
        return BootOption(number, title, starts, file, image, unknown)

    def _starts(self, number: int, file: str) -> tuple[OptionKind, str | None]:
        """What a program is: by what lies in the file, by its name, or by what it left when it ran."""
        folder, _, name = file.lower().rpartition(_BACKSLASH)
        image, by_content = self._look(file)
        if by_content is not None:
            return by_content, image
        ran = self._ran if number == self._current else None
        if "shim" in name or file.lower() == _DEFAULT:
            # Both may start any loader: shim takes grubx64.efi of its own folder, whatever that is.
            beside, content = self._look(f"{folder}{_BACKSLASH}grubx64.efi")
            if content is not None:
                return content, beside
            if ran is not None:
                return OptionKind(ran.value), image
            if file.lower() == _DEFAULT:
                known = beside is not None or self._falls_back()
                return (OptionKind.GRUB if known else OptionKind.OTHER), image
        if folder == r"\efi\systemd" or name.startswith("systemd-boot"):
            return OptionKind.SYSTEMD_BOOT, image
        if folder == r"\efi\linux":
            return OptionKind.UKI, image
        if name.startswith(("shim", "grub")):
            return OptionKind.GRUB, image
        return (OptionKind.OTHER if ran is None else OptionKind(ran.value)), image

    def _falls_back(self) -> bool:
        """Whether shim's fallback lies beside the default loader: it starts a vendor's, that its GRUB."""
        for place in esp.mounted(self._files):
            if esp.is_there(self._files, place, r"EFI\BOOT\fbx64.efi"):
                found = esp.find(self._files, place, "EFI")
                names = self._files.entries(SOURCE, found.path) if found else []
                vendors = [name for name in names[:_MAX_VENDORS] if name.lower() != "boot"]
                with_shim = [
                    one for one in vendors if esp.is_there(self._files, place, f"EFI/{one}/shimx64.efi")
                ]
                return len(with_shim) == 1 and esp.is_there(
                    self._files, place, f"EFI/{with_shim[0]}/grubx64.efi"
                )
        return False

    def _look(self, file: str) -> tuple[str | None, OptionKind | None]:
        """A program where a partition is mounted, and what it is by its content, if that tells."""
        for place in esp.mounted(self._files):
            found = esp.find(self._files, place, file)
            if found is None or found.unknown is not None:
                continue
            try:
                if read_loader_magic(self._files, found.path) is not None:
                    return found.path, OptionKind.SYSTEMD_BOOT
                program = read_program(self._files, found.path)
            except SourceError:
                return found.path, None
            if is_unified(program):
                return found.path, OptionKind.UKI
            # GRUB's modules are in a section of that name (util/mkimage.c).
            return found.path, OptionKind.GRUB if program.find("mods") else None
        return None, None

    def _number(self, name: str) -> int | None:
        value = read_value(self._files, name)
        return None if value is None else parse_number(value)

    def _attempt_number(self, name: str) -> int | None:
        try:
            return self._number(name)
        except SourceError as error:
            self._notes.append(reason_of(self._files, variable_path(name), error))
            return None

    def _attempt_text(self, name: str) -> str | None:
        try:
            return read_loader_text(self._files, name)
        except SourceError as error:
            self._notes.append(reason_of(self._files, FOLDER, error))
            return None


def variables_missing(files: HostFiles) -> str | None:
    """Why no EFI variable can be read, a clause; None: they can."""
    try:
        names = files.entries(SOURCE, FOLDER)
    except SourceError as error:
        return reason_of(files, FOLDER, error)
    return None if names else clause(FOLDER, "it is empty")


def loader_of(info: str | None) -> Loader | None:
    """The loader that wrote a LoaderInfo: ``systemd-boot 257.9-1``, ``GRUB 2.12``; None: another, or none."""
    name = (info or "").partition(" ")[0]
    return {"systemd-boot": Loader.SYSTEMD_BOOT, "GRUB": Loader.GRUB}.get(name)


def _second_stage(option: LoadOption) -> str | None:
    r"""The program that shim is told to start by its load options, such as ``\EFI\Linux\a.efi``."""
    folder, _, name = option.path.file.rpartition(_BACKSLASH)
    if "shim" not in name.lower() or len(option.data) < 4 or len(option.data) % 2:
        return None
    text = option.data.decode("utf-16-le", "replace").split("\0", 1)[0].strip()
    # Anything else is a command line, or what the firmware keeps there for itself.
    if not text.lower().endswith(".efi") or not text.isprintable() or " " in text:
        return None
    text = printable(text).replace("/", _BACKSLASH)
    return (
        text
        if text.startswith(_BACKSLASH + "EFI") or text.count(_BACKSLASH) > 1
        else (f"{folder}{_BACKSLASH}{text.lstrip(_BACKSLASH)}")
    )
