# SPDX-License-Identifier: Apache-2.0
"""The entries that systemd-boot finds on a partition: ``loader/entries/*.conf`` and ``EFI/Linux/*.efi``.

After ``config_load_type1_entries()`` and ``config_load_type2_entries()`` of systemd's src/boot/boot.c.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.boots.bls import MAX_ENTRY, Fields
from tdx_headroom.boots.firmware import esp
from tdx_headroom.boots.firmware.pe import X86_64, read_program
from tdx_headroom.boots.menu import MenuEntry
from tdx_headroom.boots.reasons import SOURCE, clause, reason_of
from tdx_headroom.boots.recovery import is_recovery
from tdx_headroom.boots.systemd_boot.order import SortKey, Tries, fold, last, parse_pairs, parse_tries
from tdx_headroom.boots.systemd_boot.uki import (
    Profile,
    addons_clause,
    is_unified,
    menu_entry,
    plain_line,
    read_profiles,
    secure_boot,
)
from tdx_headroom.errors import SourceError, printable

if TYPE_CHECKING:
    from tdx_headroom.hostfs.files import HostFiles

MAX_ENTRIES = 1024
"""In one folder; with more nothing is said. systemd-boot itself ends at 32767."""

_PROGRAMS = ("linux", "uki", "uki-url", "efi")
_RELEASE = r"[0-9]+\.[0-9]+[0-9A-Za-z._+~-]*"
_NAMED = re.compile(
    # NixOS puts a hash in front, and ``-bzImage`` behind.
    rf"(?:[0-9a-z]{{32}}-)?(?:vmlinuz|linux|kernel|bzImage)-(?P<release>{_RELEASE}?)(?:-bzImage)?(?:\.efi)?"
)
_FOLDER = re.compile(_RELEASE)
_SNAPSHOT = re.compile(r"[0-9]+@")
_HEADER = 0x210
"""Where a bzImage says where its release stands: a shorter file has none."""


class Candidate(NamedTuple):
    """An entry, before it is known what the loader calls it.

    Args:
        place: where its partition is mounted.
        file: path of its file, relative to the host's root.
        name: of the file, its counter included.
        tries: boot counting.
        key: what it is sorted by, but for the id.
        entry: what the menu shows; its id has no counter.
        profile_id: what is behind the ``@`` in the id of a further profile; empty for the first.
        opaque: whether its file cannot be read: then its place in the order is not known, nor if it is shown.
    """

    place: str
    file: str
    name: str
    tries: Tries
    key: SortKey
    entry: MenuEntry
    profile_id: str = ""
    opaque: bool = False


class Partition(NamedTuple):
    """What is on one: entries, why they are not all, and notes."""

    candidates: list[Candidate]
    unknown: str | None
    notes: list[str]


def read_partition(files: HostFiles, place: str) -> Partition:
    """All entries of a partition: unified images, then those of ``loader/entries``.

    Args:
        files: the host's.
        place: where it is mounted.
    """
    candidates: list[Candidate] = []
    unknown: list[str] = []
    notes: list[str] = []
    readers = (("EFI/Linux", ".efi", _read_image), ("loader/entries", ".conf", _read_type1))
    for folder, suffix, read in readers:
        found = esp.find(files, place, folder)
        if found is None:
            continue
        try:
            if found.unknown is not None:
                raise found.unknown
            names = [name for name in files.entries(SOURCE, found.path) if _is_entry(name, suffix)]
        except SourceError as error:
            unknown.append(reason_of(files, found.path, error))
            continue
        if len(names) > MAX_ENTRIES:
            unknown.append(clause(found.path, f"{len(names)} entries are more than {MAX_ENTRIES}"))
            continue
        for name in names:
            candidates += read(files, place, f"{found.path}/{name}", notes)
    return Partition(candidates, unknown[0] if unknown else None, [*unknown[1:], *notes])


def release_in(path: str) -> str | None:
    """The release that the path of a kernel's image tells: of its folder, or of its name."""
    folder, _, name = path.rpartition("/")
    if match := _NAMED.fullmatch(name):
        return match["release"]
    last_folder = folder.rpartition("/")[2]
    if name.lower().startswith(("linux", "vmlinuz", "bzimage", "kernel")) and _FOLDER.fullmatch(last_folder):
        return last_folder
    return None


def _is_entry(name: str, suffix: str) -> bool:
    lower = name.lower()
    # FAT has no names that are no text.
    return _is_text(name) and lower.endswith(suffix) and not lower.startswith((".", "auto-"))


def _opaque(place: str, path: str, why: str) -> Candidate:
    name = path.rpartition("/")[2]
    tries = parse_tries(name)
    key = SortKey("", tries_left=tries.left, tries_done=tries.done)
    entry = MenuEntry(printable(fold(tries.bare)), title=printable(tries.bare), unknown=why)
    return Candidate(place, path, name, tries, key, entry, opaque=True)


def _read_image(files: HostFiles, place: str, path: str, notes: list[str]) -> list[Candidate]:
    """The profiles of a unified image, each an entry (``boot_entry_add_type2()``)."""
    try:
        if files.status(SOURCE, path).directory:
            return []
        program = read_program(files, path)
    except SourceError as error:
        why = reason_of(files, path, error)
        # Without a reason of this host's the loader sees the same: what is no program is not shown.
        if _is_ours(files, path):
            return [_opaque(place, path, why)]
        notes.append(why)
        return []
    if program.machine != X86_64:
        notes.append(clause(path, "it is for another architecture"))
        return []
    tries = parse_tries(path.rpartition("/")[2])
    addons = addons_clause(files, path)
    shown: list[Candidate] = []
    for profile in read_profiles(files, path, program):
        if not profile.named:
            notes.append(profile.unknown or clause(path, "no os-release in it names a system"))
            continue
        shown.append(_image_candidate(place, path, tries, profile, addons))
    return shown


def _is_ours(files: HostFiles, path: str) -> bool:
    """Whether a file cannot even be opened here."""
    try:
        os.close(files.open(SOURCE, path))
    except SourceError:
        return True
    return False


def _image_candidate(place: str, path: str, tries: Tries, profile: Profile, addons: str | None) -> Candidate:
    profile_id = (profile.id or str(profile.number)) if profile.number else ""
    entry_id = fold(tries.bare) + (f"@{profile_id}" if profile_id else "")
    key = SortKey(
        "",
        profile.sort_key,
        version=profile.version,
        profile=profile.number,
        tries_left=tries.left,
        tries_done=tries.done,
    )
    entry = menu_entry(printable(entry_id), path, profile, addons)
    entry = entry._replace(recovery=is_recovery(entry.title, entry.line))
    return Candidate(place, path, path.rpartition("/")[2], tries, key, entry, profile_id)


def _read_type1(files: HostFiles, place: str, path: str, notes: list[str]) -> list[Candidate]:
    """An entry of ``loader/entries``; none where systemd-boot drops it (``boot_entry_add_type1()``)."""
    try:
        if files.status(SOURCE, path).directory:
            return []
        raw = files.read_bytes(SOURCE, path, limit=MAX_ENTRY)
    except SourceError as error:
        return [_opaque(place, path, reason_of(files, path, error))]
    # What is no UTF-8 is told apart by its surrogates: in a title it does not matter.
    fields = parse_pairs(raw.decode("utf-8", "surrogateescape"))
    kinds = [kind for kind in _PROGRAMS if kind in fields]
    if any(fold(value) != "x64" for value in fields.get("architecture", ())):
        return []
    if len(kinds) != 1:
        notes.append(
            clause(path, "it has no program to boot" if not kinds else "it has several programs to boot")
        )
        return []
    used = (*_PROGRAMS, "sort-key", "version", "machine-id")
    if any(not _is_text(value) for key in used for value in fields.get(key, ())):
        return [_opaque(place, path, clause(path, "it is not UTF-8"))]
    entry = _entry_of(files, place, path, kinds[0], fields)
    if entry is None:
        notes.append(clause(path, f"{last(fields, kinds[0])} is not on this partition"))
        return []
    name = path.rpartition("/")[2]
    tries = parse_tries(name)
    key = SortKey(
        "",
        last(fields, "sort-key"),
        last(fields, "machine-id"),
        last(fields, "version"),
        tries_left=tries.left,
        tries_done=tries.done,
    )
    title = printable((last(fields, "title") or tries.bare).encode("utf-8", "replace").decode())
    entry = entry._replace(
        id=printable(fold(tries.bare)), title=title, recovery=is_recovery(title, entry.line)
    )
    return [Candidate(place, path, name, tries, key, entry)]


def _is_text(value: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in value)


def _entry_of(files: HostFiles, place: str, path: str, kind: str, fields: Fields) -> MenuEntry | None:
    """What an entry boots; None where its program is not there."""
    program = last(fields, kind) or ""
    if kind == "uki-url":
        return MenuEntry("", unknown=clause(path, f"it boots an image from {program}"))
    found = esp.find(files, place, program)
    if found is None:
        return None
    if found.unknown is not None:
        return MenuEntry("", image=found.path, unknown=reason_of(files, found.path, found.unknown))
    initrds = tuple(fields.get("initrd", ())) if kind == "linux" else ()
    options = " ".join(fields.get("options", ()))
    if not _is_text(options) or not all(map(_is_text, initrds)):
        return MenuEntry("", image=found.path, unknown=clause(path, "its options are not UTF-8"))
    paths = _initrds(files, place, initrds)
    line = " ".join([*(f"initrd={_efi_path(name)}" for name, _ in paths), *([options] if options else [])])
    image = _image(files, found.path, kind, fields, line)
    lost = next((name for name, _ in paths if esp.find(files, place, name) is None), None)
    return image._replace(
        initrds=tuple(path for _, path in paths), lost_initrd=None if lost is None else printable(lost)
    )


def _initrds(files: HostFiles, place: str, names: tuple[str, ...]) -> list[tuple[str, str]]:
    """Names and paths of the initrds that are handed over (``initrd_prepare()``).

    Empty ones are left out, as the newest versions do; 252 names them on the line (measured), 257.13 halts.
    """
    paths = []
    for name in names:
        found = esp.find(files, place, name)
        path = f"{place}/{name.strip('/')}" if found is None else found.path
        try:
            empty = found is not None and files.status(SOURCE, path).size == 0
        except SourceError:
            empty = False
        if not empty:
            paths.append((name, path))
    return paths


def _efi_path(path: str) -> str:
    return re.sub(r"\\+", r"\\", path.replace("/", "\\"))


def _image(files: HostFiles, path: str, kind: str, fields: Fields, line: str) -> MenuEntry:
    """A kernel, a unified image, or something else that is no kernel."""
    try:
        program = read_program(files, path)
    except SourceError:
        # A kernel need not be readable to be booted; what it is its own reader tells.
        program = None
    if program is not None and is_unified(program):
        return _unified(files, path, read_profiles(files, path, program), fields, line)
    if kind == "linux" or _is_kernel(files, path):
        return MenuEntry("", image=path, line=line, release=_release(files, path, fields))
    return MenuEntry("", unknown=clause(path, "this program is no kernel"))


def _unified(files: HostFiles, path: str, profiles: list[Profile], fields: Fields, line: str) -> MenuEntry:
    """A unified image with options of the entry, which replace its own unless Secure Boot forbids it."""
    number = last(fields, "profile") or "0"
    if not number.isascii() or not number.isdigit() or int(number[:9]) >= len(profiles):
        return MenuEntry("", image=path, unknown=clause(path, f"it has no profile {number}"))
    profile = profiles[int(number[:9])]
    entry = menu_entry("", path, profile, addons_clause(files, path))
    if not line or entry.unknown is not None or plain_line(line) == profile.line:
        return entry
    locked = secure_boot(files) if profile.line else False
    if locked is None:
        return entry._replace(
            line=None, unknown=clause(path, "whether Secure Boot keeps its command line is not known")
        )
    return entry if locked else entry._replace(line=plain_line(line))


def _is_kernel(files: HostFiles, path: str) -> bool:
    return _bytes_at(files, path, 0x202, 4) == b"HdrS"


def _release(files: HostFiles, path: str, fields: Fields) -> str | None:
    """The release by the path; by the entry's version only where no image can tell it."""
    if told := release_in(path):
        return told
    if len(_bytes_at(files, path, 0, _HEADER)) == _HEADER:
        return None
    version = _SNAPSHOT.sub("", last(fields, "version") or "", count=1)
    return version if _FOLDER.fullmatch(version) else None


def _bytes_at(files: HostFiles, path: str, offset: int, size: int) -> bytes:
    try:
        fd = files.open(SOURCE, path)
    except SourceError:
        return b""
    try:
        return os.pread(fd, size, offset)
    except OSError:
        return b""
    finally:
        os.close(fd)
