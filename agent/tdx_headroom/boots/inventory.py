# SPDX-License-Identifier: Apache-2.0
"""All that is staged on a host: boot entries with their kernels, and which of them comes next."""

from __future__ import annotations

import os
import posixpath
import re
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, Self

from tdx_headroom.boots.deployments import deployment_pending
from tdx_headroom.boots.firmware.choice import OptionKind
from tdx_headroom.boots.firmware.reader import read_firmware
from tdx_headroom.boots.grub.reader import read_grub
from tdx_headroom.boots.kernels.image import damage, read_version
from tdx_headroom.boots.kernels.reader import KernelReader
from tdx_headroom.boots.kernels.scanner import Scanner, cache_path
from tdx_headroom.boots.kexec import with_kexec
from tdx_headroom.boots.menu import Menu
from tdx_headroom.boots.modprobe import read_kvm_loading
from tdx_headroom.boots.mounted import boot_folder_unseen, is_this_host
from tdx_headroom.boots.reasons import SOURCE, bounded, clause
from tdx_headroom.boots.running import differences, read_running, running_entry
from tdx_headroom.boots.systemd_boot.reader import read_systemd_boot
from tdx_headroom.boots.systemd_boot.uki import read_uki_entry
from tdx_headroom.boots.watched import MODULES
from tdx_headroom.boots.written import WrittenInventory
from tdx_headroom.errors import SourceError
from tdx_headroom.facts.boot_inventory import INVENTORY_PATH, parse_inventory
from tdx_headroom.facts.boots import BootEntry, BootInventory, KvmLoading, Loader, Role
from tdx_headroom.facts.command_line import asks_for_tdx, fitting
from tdx_headroom.sources.platform import relevant_arguments
from tdx_headroom.sources.reading import Reading, attempt

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tdx_headroom.boots.firmware.choice import BootOption
    from tdx_headroom.boots.menu import MenuEntry
    from tdx_headroom.boots.running import Running
    from tdx_headroom.boots.source import BootSource
    from tdx_headroom.facts.boots import KernelTraits
    from tdx_headroom.hostfs.files import HostFiles

MAX_ENTRIES = 200
"""Entries that are kept, the next one among them; a longer menu has the rest counted in the notes."""
_RELEASE = re.compile(r"[0-9]{1,3}\.[0-9]{1,4}[A-Za-z0-9.+~_-]{0,100}", re.ASCII)
_FIRMWARE = "sys/firmware"
_NETWORK = "network"


def boots_of(files: HostFiles) -> BootSource:
    """What tells of the boot entries of a host without taking long: what root has written, where it has.

    Args:
        files: of the host.
    """
    written = files.exists(INVENTORY_PATH) and is_this_host(files)
    return WrittenInventory() if written else BootReader.with_images()


class BootReader:
    """Takes the inventory of a host.

    Args:
        scanner: looks through the images of kernels; None: nobody does.
    """

    def __init__(self, scanner: Scanner | None = None) -> None:
        self._scanner = scanner

    @classmethod
    def with_images(cls) -> Self:
        """One that looks into the images of kernels, and remembers what it has found there."""
        return cls(Scanner(cache_path()))

    def read(
        self, files: HostFiles, release: str | None = None, line: str | None = None
    ) -> Reading[BootInventory]:
        """As :class:`BootSource`; of a captured host the inventory that was taken of it, where it has one."""
        running = read_running(files, release, line)
        if files.exists(INVENTORY_PATH):
            if not is_this_host(files):
                origin = files.locate(INVENTORY_PATH)
                return attempt(SOURCE, origin, lambda: parse_inventory(files.read(SOURCE, INVENTORY_PATH)))
            if os.geteuid() != 0:
                return WrittenInventory().read(files, release, line)
        found = with_kexec(self.take(files, running) or BootInventory(), files)
        return Reading(SOURCE, files.path, found if found.entries or found.unknown else None)

    def take(self, files: HostFiles, running: Running | None = None) -> BootInventory | None:
        """The inventory of what is on disk now, without a look at kexec; None where there is nothing.

        Args:
            files: of the host.
            running: the running boot; None: as ``/proc`` tells.
        """
        return _Taking(files, self._scanner, running or read_running(files)).inventory()


class _Choice(NamedTuple):
    """What boots next, as far as firmware and boot loaders tell.

    Args:
        menu: of the loader that runs; None where none can be read, or there is none.
        next: index of the entry in that menu.
        once: whether it boots so only once.
        unknown: why it cannot be told.
        network: whether the host boots from the network.
    """

    menu: Menu | None = None
    next: int | None = None
    once: bool = False
    unknown: str | None = None
    network: bool = False


class _Taking:
    """One inventory in the making."""

    def __init__(self, files: HostFiles, scanner: Scanner | None, running: Running) -> None:
        self._files = files
        self._running = running
        self._kernels = KernelReader(scanner, running.release)
        self._firmware = read_firmware(files)
        self._notes: list[str] = []
        self._traits: dict[tuple[str, str | None], KernelTraits] = {}

    def inventory(self) -> BootInventory | None:
        """All of it; None where nothing is known of this host's boots."""
        choice = self._choice()
        menu = choice.menu
        entries = (
            [] if menu is None else [self._entry(menu, i, choice) for i in self._kept(menu, choice.next)]
        )
        if choice.network:
            why = "it comes from the network"
            entries.append(BootEntry(roles=(Role.NEXT,), known_from=_NETWORK, unknown=why))
        configured = menu is not None or choice.unknown is not None or choice.network
        entries = self._with_running(entries, take_it=not configured)
        entries += self._installed({entry.release for entry in entries})
        if not entries and choice.unknown is None:
            return None
        kvm, read = self._modprobe()
        return BootInventory(
            entries=tuple(entries),
            unknown=choice.unknown,
            configured=configured,
            firmware_update=self._firmware.firmware_update,
            kvm_intel_tdx=asks_for_tdx(kvm.options),
            kvm_loading=kvm,
            modprobe_read=read,
            takes_once=menu is not None and menu.takes_once,
            takes_default=menu is not None and menu.takes_default,
            notes=bounded(self._notes),
        )

    def _choice(self) -> _Choice:
        """The loader that the firmware starts, and what that boots."""
        firmware = self._firmware
        self._notes += firmware.notes
        option = firmware.option
        if firmware.network:
            return _Choice(network=True)
        unknown = firmware.unknown or (None if option is None else option.unknown)
        if unknown is not None:
            return _Choice(unknown=unknown)
        if option is not None and option.starts is OptionKind.UKI:
            if option.image is None:
                return _Choice(unknown=f"the firmware starts {option.file} next, which is not found here")
            image = read_uki_entry(self._files, option.image)
            menu = Menu(None, (image,), default=0, known_from=(option.image,))
            return _Choice(menu, 0, firmware.one_shot)
        menus = self._menus()
        if len(menus) > 1:
            # One of them is a leftover, and nothing says which.
            names = " and ".join(str(menu.loader) for menu in menus)
            return _Choice(unknown=f"both {names} are there, and no EFI variable tells which of them runs")
        if not menus and (unseen := boot_folder_unseen(self._files)) is not None:
            return _Choice(unknown=unseen)
        if not menus and option is not None:
            what = option.description or option.file
            return _Choice(unknown=f"the firmware starts {what} next, whose configuration is not found")
        if not menus:
            return _Choice()
        (menu,) = menus
        self._notes += menu.notes
        if (pending := deployment_pending(self._files, menu)) is not None:
            return _Choice(menu, unknown=menu.unknown or pending)
        if (
            menu.loader is Loader.GRUB
            and self._files.exists("sos_commands")
            and not _has_block(menu.known_from)
        ):
            # Without it what grub-reboot and grub-set-default have chosen is not seen.
            return _Choice(menu, unknown=menu.unknown or "a sosreport does not hold GRUB's grubenv")
        return _Choice(menu, menu.next, menu.once is not None or firmware.one_shot, menu.unknown)

    def _menus(self) -> list[Menu]:
        """The menus of the loader that the firmware starts, or of all that there are."""
        loader, files = self._firmware.loader, self._files
        found: list[Menu | None] = []
        if loader is not Loader.GRUB and (self._firmware.efi or not files.live):
            found.append(read_systemd_boot(files, expected=loader is Loader.SYSTEMD_BOOT))
        if loader is not Loader.SYSTEMD_BOOT:
            found.append(read_grub(files, vendor=_vendor(self._firmware.option)))
        menus = [menu for menu in found if menu is not None]
        if len(menus) > 1 and not self._firmware.efi and files.exists(_FIRMWARE):
            # A BIOS starts no EFI program: the other one is a leftover.
            return [menu for menu in menus if menu.loader is Loader.GRUB]
        return menus

    def _kept(self, menu: Menu, following: int | None) -> list[int]:
        """Indices of the entries that are kept."""
        kept = list(range(min(len(menu.entries), MAX_ENTRIES)))
        if len(menu.entries) > MAX_ENTRIES:
            self._notes.append(f"{len(menu.entries) - MAX_ENTRIES} more entries are not listed")
            if following is not None and following not in kept:
                kept[-1] = following
        return kept

    def _entry(self, menu: Menu, index: int, choice: _Choice) -> BootEntry:
        found = menu.entries[index]
        image = found.image
        version = None if image is None else read_version(self._files, image, offset=found.offset)
        release = (None if version is None else version.partition(" ")[0]) or found.release
        roles: list[Role] = []
        if index == choice.next:
            roles = [Role.NEXT, *([Role.ONE_SHOT] if choice.once else [])]
        line = None if found.line is None else fitting(found.line)
        changed = [self._changed_ns(path) for path in found.initrds]
        return BootEntry(
            entry=found.id,
            title=found.title or None,
            release=release,
            arguments=None if line is None else relevant_arguments(line),
            loader=menu.loader,
            roles=tuple(roles) or (Role.INSTALLED,),
            known_from=_files_told(menu.known_from),
            recovery=found.recovery,
            differs=differences(
                self._running, release, line, version, changed, hypervisor=found.hypervisor is not None
            ),
            traits=self._traits_of(release, image, found.offset),
            unknown=found.unknown or self._fault(menu, found),
            file=found.file,
            hypervisor=found.hypervisor,
        )

    def _fault(self, menu: Menu, found: MenuEntry) -> str | None:
        """Why the loader cannot start an entry whose image is there, a clause; None: nothing shows that.

        GRUB stops at an initial RAM disk that it does not find (normal/menu.c boots only without an error),
        and so do systemd-boot and the kernel's EFI stub. A captured tree may have none of them at all.
        """
        image = found.image
        if image is not None and (why := damage(self._files, image, offset=found.offset)) is not None:
            return why
        if found.lost_initrd is None:
            return None
        kept = any(entry.initrds and entry.lost_initrd is None for entry in menu.entries)
        known = kept or is_this_host(self._files)
        return clause(found.lost_initrd, "this initial RAM disk is missing") if known else None

    def _traits_of(self, release: str | None, image: str | None, offset: int = 0) -> KernelTraits | None:
        if release is None:
            return None
        image = image or self._image_of(release)
        key = (release, image)
        if key not in self._traits:
            self._traits[key] = self._kernels.traits(self._files, release, image, offset=offset)
        return self._traits[key]

    def _image_of(self, release: str) -> str | None:
        """Where distributions put the image of a kernel that no boot entry names."""
        places = (f"boot/vmlinuz-{release}", *(f"{folder}/{release}/vmlinuz" for folder in MODULES))
        return next((place for place in places if self._files.exists(place)), None)

    def _with_running(self, entries: list[BootEntry], *, take_it: bool) -> list[BootEntry]:
        """The entries with the running boot first: the one that it came from, or one of its own."""
        running = self._running
        if running.release is None:
            return entries
        same = [e for e in entries if e.differs is not None and not e.differs]
        came_from = next((e for e in same if Role.NEXT in e.roles), same[0] if same else None)
        if came_from is not None:
            roles = (Role.RUNNING, *(role for role in came_from.roles if role is not Role.INSTALLED))
            return [replace(came_from, roles=roles), *(e for e in entries if e is not came_from)]
        own = replace(running_entry(running), traits=self._traits_of(running.release, None))
        if take_it:
            own = replace(own, roles=(Role.RUNNING, Role.NEXT))
        return [own, *entries]

    def _installed(self, known: set[str | None]) -> Iterator[BootEntry]:
        """Kernels whose modules are there, and that no entry boots."""
        for folder in MODULES:
            for name in self._names(folder):
                if _RELEASE.fullmatch(name) and name not in known:
                    known.add(name)
                    traits = self._traits_of(name, None)
                    why = "no boot entry names it"
                    roles = (Role.INSTALLED,)
                    yield BootEntry(release=name, roles=roles, known_from=folder, traits=traits, unknown=why)

    def _names(self, folder: str) -> list[str]:
        try:
            return self._files.entries(SOURCE, folder)
        except SourceError:
            return []

    def _modprobe(self) -> tuple[KvmLoading, bool]:
        try:
            return read_kvm_loading(self._files), any(
                map(self._files.exists, ("etc/modprobe.d", "lib/modprobe.d"))
            )
        except SourceError as error:
            self._notes.append(error.reason)
            return KvmLoading(), False

    def _changed_ns(self, path: str) -> int:
        try:
            return self._files.status(SOURCE, path).mtime_ns
        except SourceError:
            return 0


def _vendor(option: BootOption | None) -> str | None:
    r"""The directory in ``EFI`` of a boot option's loader; None for the default one, ``\EFI\BOOT``."""
    folders = [] if option is None else option.file.strip("\\").split("\\")
    if len(folders) != 3 or folders[0].lower() != "efi" or folders[1].lower() == "boot":
        return None
    return folders[1]


def _has_block(paths: Sequence[str]) -> bool:
    return any(posixpath.basename(path) == "grubenv" for path in paths)


def _files_told(paths: Sequence[str]) -> str:
    """Paths in a row; of several in one folder only the folder."""
    folders = Counter(posixpath.dirname(path) for path in paths if path.endswith(".conf"))
    told = (
        f"{folder}/*.conf" if path.endswith(".conf") and folders[folder] > 1 else path
        for path in paths
        for folder in (posixpath.dirname(path),)
    )
    return ", ".join(dict.fromkeys(told))
