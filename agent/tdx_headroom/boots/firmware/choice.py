# SPDX-License-Identifier: Apache-2.0
"""What a firmware starts next: values only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from tdx_headroom.facts.boots import Loader


class OptionKind(StrEnum):
    """What a boot option starts."""

    GRUB = "grub"
    SYSTEMD_BOOT = "systemd-boot"
    UKI = "uki"
    """A unified kernel image, without a loader."""
    NETWORK = "network"
    UPDATE = "firmware-update"
    OTHER = "other"
    """Something that is known to boot no kernel of this host, or not known at all."""


_LOADERS = {OptionKind.GRUB: Loader.GRUB, OptionKind.SYSTEMD_BOOT: Loader.SYSTEMD_BOOT}


@dataclass(frozen=True, slots=True)
class BootOption:
    """A ``Boot####`` of the firmware.

    Args:
        number: its own.
        description: for people.
        starts: what it starts.
        file: the program's path on its partition, with backslashes; of what shim is told to start, if so.
        image: the same relative to the host's root; None where it is not found on a mounted partition.
        unknown: why it cannot be told which kernel it boots, a clause.
    """

    number: int
    description: str
    starts: OptionKind
    file: str = ""
    image: str | None = None
    unknown: str | None = None

    @property
    def loader(self) -> Loader | None:
        """The boot loader, where it is one that is understood."""
        return _LOADERS.get(self.starts)


@dataclass(frozen=True, slots=True)
class FirmwareChoice:
    """What the firmware starts next.

    Args:
        efi: whether the host was started by an EFI firmware; all else is unset where not.
        option: what comes next; None where ``unknown`` says why.
        one_shot: whether only BootNext says so.
        firmware_update: the firmware that is staged, in words.
        unknown: why it cannot be told what comes next, a clause.
        notes: what else is amiss, a clause each.
    """

    efi: bool
    option: BootOption | None = None
    one_shot: bool = False
    firmware_update: str | None = None
    unknown: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def loader(self) -> Loader | None:
        """The boot loader that comes next, where it is one that is understood."""
        return None if self.option is None else self.option.loader

    @property
    def network(self) -> bool:
        """Whether the network tells what boots next."""
        return self.option is not None and self.option.starts is OptionKind.NETWORK
