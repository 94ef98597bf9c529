# SPDX-License-Identifier: Apache-2.0
"""Unified kernel images: kernel, command line and os-release in one EFI program (UAPI.5, src/boot/stub.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.boots.firmware.efi_variables import read_value
from tdx_headroom.boots.firmware.pe import (
    X86_64,
    Program,
    Section,
    base_sections,
    find,
    profiles,
    read_program,
    read_text,
)
from tdx_headroom.boots.menu import MenuEntry
from tdx_headroom.boots.reasons import SOURCE, clause, reason_of
from tdx_headroom.boots.systemd_boot.order import last, parse_pairs
from tdx_headroom.errors import SourceError, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tdx_headroom.hostfs.files import HostFiles

MAX_PROFILES = 256
"""UNIFIED_PROFILES_MAX of systemd."""
MAX_ADDONS = 64
_SPACES = dict.fromkeys((*range(0x20), 0x7F), " ")


class Profile(NamedTuple):
    """One way to boot an image; most have one only.

    Args:
        number: of the profile.
        id: of the profile; empty without one.
        title: the system's name, and the profile's.
        sort_key: what systemd-boot sorts it by; None without an ID.
        version: the same.
        release: of the kernel; None where no ``.uname`` tells it.
        line: the image's own command line; None where it cannot be read.
        offset: where the kernel begins in the file.
        named: whether an os-release names a system: systemd-boot shows no image without.
        unknown: why something of it cannot be read, a clause.
    """

    number: int = 0
    id: str = ""
    title: str = ""
    sort_key: str | None = None
    version: str | None = None
    release: str | None = None
    line: str | None = None
    named: bool = False
    unknown: str | None = None
    offset: int = 0


def plain_line(text: str) -> str:
    """A command line as the stub hands it on: control characters become blanks, none at the ends."""
    return text.translate(_SPACES).strip(" ")


def is_unified(program: Program) -> bool:
    """Whether an EFI program is a unified image for this architecture."""
    return program.machine == X86_64 and program.find(".linux") is not None


def read_profiles(files: HostFiles, path: str, program: Program) -> list[Profile]:
    """All profiles of an image, as ``boot_entry_add_type2()`` finds them."""
    base = base_sections(program.sections)
    own = profiles(program.sections)[:MAX_PROFILES] or [()]
    return [_profile(files, path, number, base, sections) for number, sections in enumerate(own)]


def read_uki_entry(files: HostFiles, path: str) -> MenuEntry:
    """The entry of an image that the firmware starts by itself.

    Args:
        files: the host's.
        path: of the image, relative to the host's root.
    """
    name = path.rsplit("/", 1)[-1]
    try:
        program = read_program(files, path)
    except SourceError as error:
        return MenuEntry(name, image=path, unknown=reason_of(files, path, error))
    if not is_unified(program):
        return MenuEntry(name, image=path, unknown=clause(path, "it is no unified kernel image"))
    profile = read_profiles(files, path, program)[0]
    return menu_entry(name, path, profile, addons_clause(files, path))


def menu_entry(entry: str, path: str, profile: Profile, addons: str | None = None) -> MenuEntry:
    """A menu's entry for a profile of an image, whose line is not known where addons may add to it."""
    unknown = profile.unknown or addons
    line = profile.line if addons is None else None
    return MenuEntry(
        entry,
        profile.title,
        path,
        line=line,
        release=profile.release,
        offset=profile.offset,
        unknown=unknown,
        file=path,
    )


def addons_clause(files: HostFiles, path: str) -> str | None:
    """Why addons make an image's command line uncertain, a clause; None: there are none that have one.

    The stub appends the command lines of ``loader/addons`` and of ``IMAGE.extra.d`` (src/boot/stub.c); with
    Secure Boot only of those that it trusts, and only where their ``.uname`` fits.
    """
    partition = path[: path.lower().find("/efi/")] if "/efi/" in path.lower() else ""
    folders = [f"{path}.extra.d", *([f"{partition}/loader/addons"] if partition else [])]
    for addon in _addons(files, folders):
        try:
            program = read_program(files, addon)
        except SourceError as error:
            return f"an addon may add to the command line ({reason_of(files, addon, error)})"
        if program.find(".cmdline") is not None:
            return clause(addon, "this addon may add to the command line")
    return None


def secure_boot(files: HostFiles) -> bool | None:
    """Whether Secure Boot is on; None where that cannot be told."""
    try:
        value = read_value(files, "SecureBoot")
    except SourceError:
        return None
    return None if value is None else value[:1] == b"\1"


def _addons(files: HostFiles, folders: Sequence[str]) -> Iterator[str]:
    for folder in folders:
        try:
            names = files.entries(SOURCE, folder)
        except SourceError:
            continue
        addons = [name for name in names if name.lower().endswith(".addon.efi")]
        yield from (f"{folder}/{name}" for name in addons[:MAX_ADDONS])


def _profile(
    files: HostFiles, path: str, number: int, base: Sequence[Section], own: Sequence[Section]
) -> Profile:
    texts: dict[str, str | None] = {}
    unknown = None
    for name in (".osrel", ".profile", ".cmdline", ".uname"):
        section = find(own, name) or find(base, name)
        try:
            texts[name] = None if section is None else read_text(files, path, section)
        except SourceError as error:
            unknown = unknown or reason_of(files, path, error)
    linux = find(own, ".linux") or find(base, ".linux")
    system = parse_pairs(texts.get(".osrel") or "", "=")
    details = parse_pairs(texts.get(".profile") or "", "=")
    title = _first_of(system, ("PRETTY_NAME", "IMAGE_ID", "NAME", "ID"))
    identity = last(details, "ID") or ""
    release = (texts.get(".uname") or "").strip()
    return Profile(
        number,
        identity,
        printable(_title(title or "", number, identity, last(details, "TITLE"))),
        _first_of(system, ("IMAGE_ID", "ID")),
        _first_of(system, ("IMAGE_VERSION", "VERSION", "VERSION_ID", "BUILD_ID")),
        printable(release) or None,
        # No section is an empty line; one that cannot be read is not.
        plain_line(texts[".cmdline"] or "") if ".cmdline" in texts else None,
        named=title is not None,
        unknown=unknown,
        offset=0 if linux is None else linux.offset,
    )


def _first_of(fields: dict[str, list[str]], keys: Sequence[str]) -> str | None:
    return next((value for key in keys if (value := last(fields, key)) is not None), None)


def _title(name: str, number: int, identity: str, title: str | None) -> str:
    if title is not None:
        return f"{name} ({title})"
    if number == 0:
        return name
    return f"{name} ({identity or f'Profile #{number + 1}'})"
