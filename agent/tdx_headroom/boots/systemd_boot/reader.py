# SPDX-License-Identifier: Apache-2.0
"""systemd-boot's menu, and what of it boots next (``config_select_default_entry()`` of src/boot/boot.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.boots.firmware import esp
from tdx_headroom.boots.firmware.efi_variables import (
    FOLDER,
    LOADER,
    parse_texts,
    read_loader_text,
    read_value,
    variable_path,
)
from tdx_headroom.boots.firmware.pe import read_loader_magic
from tdx_headroom.boots.firmware.reader import loader_of, variables_missing
from tdx_headroom.boots.menu import Menu, MenuEntry
from tdx_headroom.boots.reasons import SOURCE, bounded, clause, reason_of
from tdx_headroom.boots.systemd_boot.choice import Auto, Settings, choose, eras_of
from tdx_headroom.boots.systemd_boot.entries import Candidate, read_partition
from tdx_headroom.boots.systemd_boot.order import fold, parse_pairs
from tdx_headroom.errors import SourceError
from tdx_headroom.facts.boots import Loader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tdx_headroom.boots.bls import Fields
    from tdx_headroom.hostfs.files import HostFiles

CONF = "loader/loader.conf"
_PROGRAMS = (r"\EFI\systemd\systemd-bootx64.efi", r"\EFI\BOOT\BOOTX64.EFI", r"\EFI\BOOT\grubx64.efi")
"""Where systemd-boot is installed; the last as the second stage of shim."""
_MAX_CONF = 1 << 20
_FALSE = frozenset({"0", "no", "n", "false", "f", "off"})
_TRUE = frozenset({"1", "yes", "y", "true", "t", "on"})


class _Partitions(NamedTuple):
    """Where systemd-boot looks: the ESP that it lies on, and XBOOTLDR.

    Args:
        esp: where it is mounted; None where it is not found.
        others: what may be XBOOTLDR.
        version: what the program on it calls itself; None where no program tells.
        hidden: why a partition cannot be looked at, a clause.
    """

    esp: str | None
    others: tuple[str, ...]
    version: str | None
    hidden: str | None = None


def read_systemd_boot(files: HostFiles, *, expected: bool = False) -> Menu | None:
    """The menu of systemd-boot; None where nothing is seen of it.

    Entries alone are no sign of it: GRUB of Fedora and EL reads them too.

    Args:
        files: the host's.
        expected: whether the firmware starts it: then there is a menu, be it only with the reason why it is
            not known.
    """
    notes: list[str] = []
    ran = _text(files, "LoaderInfo", notes)
    ran = ran if loader_of(ran) is Loader.SYSTEMD_BOOT else None
    partitions = _partitions(files)
    if partitions.esp is None:
        if ran is None and not expected:
            return None
        unknown = partitions.hidden or clause(
            esp.PLACES[0], "systemd-boot's partition is not here, nor in boot"
        )
        return Menu(Loader.SYSTEMD_BOOT, unknown=unknown, notes=bounded(notes))
    return _menu(files, partitions, ran, notes)


def _menu(files: HostFiles, partitions: _Partitions, ran: str | None, notes: list[str]) -> Menu:
    place = partitions.esp or ""
    candidates: list[Candidate] = []
    reasons: list[str] = []
    known = [found.path for at in (place, *partitions.others) for found in _folders(files, at)]
    for at in (place, *partitions.others):
        partition = read_partition(files, at)
        candidates += [one for one in partition.candidates if not _repeated(one, candidates)]
        reasons += [partition.unknown] if partition.unknown else []
        notes += partition.notes
    conf, why = _conf(files, place)
    if conf is not None:
        known.insert(0, conf[0])
    fields = conf[1] if conf is not None else {}
    settings = _settings(files, fields, reasons)
    reasons += [reason for reason in (why, variables_missing(files)) if reason is not None]
    eras = eras_of(partitions.version or ran, _listed(files, notes), [one.name for one in candidates])
    choice = choose(candidates, _autos(files, place, fields), settings, eras)
    known += [variable_path(name, LOADER) for name in settings.set_variables]
    unknown = reasons[0] if reasons else choice.unknown
    return Menu(
        Loader.SYSTEMD_BOOT,
        choice.entries,
        None if unknown else choice.default,
        None if unknown else choice.once,
        tuple(known),
        unknown,
        bounded([*reasons[1:], *choice.notes, *notes]),
        # bootctl writes EFI variables; what is preferred comes before the default.
        takes_once=unknown is None and files.exists(FOLDER),
        takes_default=unknown is None
        and files.exists(FOLDER)
        and settings.preferred is None
        and settings.conf_preferred is None,
    )


def _partitions(files: HostFiles) -> _Partitions:
    """By systemd-boot's program, else by its configuration."""
    places = esp.mounted(files)
    programs = {place: _program(files, place) for place in places}
    first = next((place for place in places if programs[place] is not None), None)
    if first is None:
        first = next((place for place in places if esp.is_there(files, place, CONF)), None)
    others = tuple(place for place in places if place != first and _folders(files, place))
    version = programs.get(first) if first is not None else None
    return _Partitions(first, others, version or None, _hidden(files, places))


def _hidden(files: HostFiles, places: Sequence[str]) -> str | None:
    for place in places:
        found = esp.find(files, place, CONF)
        if found is not None and found.unknown is not None:
            return reason_of(files, found.path, found.unknown)
    return None


def _program(files: HostFiles, place: str) -> str | None:
    """What systemd-boot's program there calls itself; empty: it does not tell; None: it is not there."""
    for path in _PROGRAMS:
        found = esp.find(files, place, path)
        if found is None or found.unknown is not None:
            continue
        own = path == _PROGRAMS[0]
        try:
            magic = read_loader_magic(files, found.path)
        except SourceError:
            magic = None
        if magic is not None or own:
            return magic or ""
    # A program of another architecture, or shim in front of it.
    return "" if esp.is_there(files, place, "EFI/systemd") else None


def _folders(files: HostFiles, place: str) -> list[esp.Found]:
    found = (esp.find(files, place, folder) for folder in ("loader/entries", "EFI/Linux"))
    return [folder for folder in found if folder is not None]


def _repeated(one: Candidate, others: Sequence[Candidate]) -> bool:
    """Whether the same partition is mounted twice, and this was seen at the other place."""

    def shown(it: Candidate) -> object:
        entry = it.entry
        return it.name, it.key, it.profile_id, entry.line, (entry.image or "").removeprefix(it.place)

    return not one.opaque and any(
        other.place != one.place and other.name == one.name and shown(other) == shown(one) for other in others
    )


def _conf(files: HostFiles, place: str) -> tuple[tuple[str, Fields] | None, str | None]:
    """The path and content of loader.conf, and why it cannot be read."""
    found = esp.find(files, place, CONF)
    if found is None:
        return None, None
    try:
        raw = files.read_bytes(SOURCE, found.path, limit=_MAX_CONF)
    except SourceError as error:
        return None, reason_of(files, found.path, error)
    return (found.path, parse_pairs(raw.decode("utf-8", "ignore"))), None


def _settings(files: HostFiles, conf: Fields, reasons: list[str]) -> Settings:
    """What names an entry; a variable that is there and cannot be read is a reason to know nothing."""
    names = ("OneShot", "Preferred", "Default", "LastBooted", "SysFail")
    values = {name: _text(files, f"LoaderEntry{name}", reasons) for name in names}
    return Settings(
        _folded(values["OneShot"]),
        _folded(values["Preferred"]),
        _named(conf, "preferred"),
        _folded(values["Default"]),
        _named(conf, "default"),
        # Not folded: systemd-boot reads it after it has folded the others.
        values["LastBooted"],
        _folded(values["SysFail"]),
        tuple(f"LoaderEntry{name}" for name in names if values[name] is not None),
    )


def _folded(value: str | None) -> str | None:
    return None if value is None else fold(value)


def _named(conf: Fields, key: str) -> str | None:
    """The last value that is not a special one; ``@saved`` is the only one of those."""
    values = [fold(value) for value in conf.get(key, ())]
    return next((value for value in reversed(values) if value == "@saved" or value[:1] != "@"), None)


def _text(files: HostFiles, name: str, reasons: list[str]) -> str | None:
    try:
        return read_loader_text(files, name)
    except SourceError as error:
        reasons.append(reason_of(files, variable_path(name, LOADER), error))
        return None


def _listed(files: HostFiles, notes: list[str]) -> tuple[str, ...]:
    """The ids that systemd-boot found when it ran."""
    try:
        value = read_value(files, "LoaderEntries", LOADER)
        return () if value is None else parse_texts(value)
    except SourceError as error:
        notes.append(reason_of(files, variable_path("LoaderEntries", LOADER), error))
        return ()


def _autos(files: HostFiles, place: str, conf: Fields) -> tuple[Auto, ...]:
    """The entries that systemd-boot adds by itself, behind all others; they boot no kernel of this host."""
    autos: list[tuple[str, str]] = []
    if _flag(conf, "auto-entries", default=True):
        programs = (
            ("auto-windows", "Windows Boot Manager", r"\EFI\Microsoft\Boot\bootmgfw.efi"),
            ("auto-efi-shell", "EFI Shell", r"\shellx64.efi"),
        )
        autos += [(name, title) for name, title, path in programs if esp.find(files, place, path)]
        default = esp.find(files, place, _PROGRAMS[1])
        if default is not None and not any(_is_systemd_boot(files, place, path) for path in _PROGRAMS[1:]):
            autos.append(("auto-efi-default", "EFI Default Loader"))
    if _flag(conf, "auto-firmware", default=True) and _can_setup(files):
        autos.append(("auto-reboot-to-firmware-setup", "Reboot Into Firmware Interface"))
    if _flag(conf, "auto-poweroff", default=False):
        autos.append(("auto-poweroff", "Power Off The System"))
    if _flag(conf, "auto-reboot", default=False):
        autos.append(("auto-reboot", "Reboot The System"))
    return tuple(
        Auto(name, MenuEntry(name, title, unknown=f"{title} boots no kernel")) for name, title in autos
    )


def _is_systemd_boot(files: HostFiles, place: str, path: str) -> bool:
    found = esp.find(files, place, path)
    try:
        return found is not None and read_loader_magic(files, found.path) is not None
    except SourceError:
        return False


def _can_setup(files: HostFiles) -> bool:
    try:
        value = read_value(files, "OsIndicationsSupported")
    except SourceError:
        return False
    return bool((value or b"\0")[0] & 1)


def _flag(conf: Fields, key: str, *, default: bool) -> bool:
    value = next((v for v in reversed(conf.get(key, [])) if v in _TRUE | _FALSE), None)
    return default if value is None else value in _TRUE
