# SPDX-License-Identifier: Apache-2.0
"""What a boot loader would show, and which of it it would boot: what readers of boot loaders give."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tdx_headroom.facts.boots import Loader


class MenuEntry(NamedTuple):
    """One entry that boots a kernel, or something else.

    Args:
        id: as the loader's own commands take it, its path of submenus included (``advanced>kernel-1``).
        title: for people, without the titles of submenus.
        image: path of the kernel's image, relative to the host's root; None where there is none, or it lies
            where this host cannot look.
        initrds: the same of its initial RAM disks.
        line: the whole command line, as the kernel will get it; None: unknown, or no kernel is booted.
        release: where the entry itself tells it (a ``version``, the name of the image); None: ask the image.
        recovery: whether it is for recovery or rescue, or boots to a single user.
        offset: where the kernel's image begins in that file: a unified one has it in a section.
        unknown: why image, release or line are not known, or that the image is missing, a clause; None where
            all is well.
        file: that has its command line, relative to the host's root.
        lost_initrd: the first of its initial RAM disks that is not there, as the entry names it.
        hypervisor: name of the file of one that is started below the kernel; None: there is none.
    """

    id: str
    title: str = ""
    image: str | None = None
    initrds: tuple[str, ...] = ()
    line: str | None = None
    release: str | None = None
    recovery: bool = False
    offset: int = 0
    unknown: str | None = None
    file: str | None = None
    lost_initrd: str | None = None
    hypervisor: str | None = None


class Menu(NamedTuple):
    """A boot loader's menu.

    Args:
        loader: whose; None: the firmware starts the kernel itself.
        entries: in its order, those of submenus in their place.
        default: index of the entry that boots when nobody chooses; None where that cannot be told, or
            ``unknown`` says why.
        once: index of the entry that boots the next time only; None where nothing says so.
        known_from: paths of the files that were read, relative to the host's root.
        unknown: why it cannot be told what boots next, a clause such as ``boot/grub/grub.cfg: Permission
            denied``.
        notes: what else could not be read or understood, a clause each.
        takes_once: whether the entry that the loader's command names for one boot is known to come next then.
        takes_default: the same of the one that is named for good.
    """

    loader: Loader | None
    entries: tuple[MenuEntry, ...] = ()
    default: int | None = None
    once: int | None = None
    known_from: tuple[str, ...] = ()
    unknown: str | None = None
    notes: tuple[str, ...] = ()
    takes_once: bool = False
    takes_default: bool = False

    @property
    def next(self) -> int | None:
        """Index of the entry that boots next; None where that cannot be told."""
        if self.unknown is not None:
            return None
        return self.default if self.once is None else self.once
