# SPDX-License-Identifier: Apache-2.0
"""The boot that runs, as far as an entry of the boot loader can be compared with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.errors import SourceError
from tdx_headroom.facts.boots import RUNNING_KERNEL, BootEntry, Change, Role
from tdx_headroom.sources.platform import parse_boot_time, read_release, relevant_arguments

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tdx_headroom.hostfs.files import HostFiles

SOURCE = "running boot"
_LOADERS_OWN = ("BOOT_IMAGE=", "initrd=", "vt.handoff=")
"""What a boot loader puts into the line itself; a changed image or initrd is looked at as a file.

The last is Ubuntu's, whose GRUB decides on it by the graphics card.
"""


class Running(NamedTuple):
    """The running boot.

    Args:
        release: ``uname -r``; None: unknown, as in all below.
        line: its command line.
        version: ``/proc/version``, which names the build of the kernel.
        booted_ns: when it was booted, in ns since the epoch.
        hypervisor: what runs below it; None: nothing is seen of one.
    """

    release: str | None = None
    line: str | None = None
    version: str | None = None
    booted_ns: int | None = None
    hypervisor: str | None = None


def read_running(files: HostFiles, release: str | None = None, line: str | None = None) -> Running:
    """What ``/proc`` tells of the running boot, and the log otherwise.

    Args:
        files: of the host.
        release: of the running kernel, as the log shows it.
        line: its command line, the same.
    """
    stat = _text(files, "proc/stat")
    booted = None if stat is None else parse_boot_time(stat)
    return Running(
        release=read_release(files) or release,
        line=_text(files, "proc/cmdline") or line,
        version=_text(files, "proc/version"),
        booted_ns=None if booted is None else int(booted * 1e9),
        hypervisor=_hypervisor(files),
    )


def _hypervisor(files: HostFiles) -> str | None:
    """Xen, where this is its dom0 (drivers/xen/sys-hypervisor.c); what boots an HVM guest starts none."""
    if _text(files, "sys/hypervisor/type") != "xen":
        return None
    return "Xen" if _text(files, "sys/hypervisor/guest_type") in ("PV", "PVH") else None


def running_entry(running: Running) -> BootEntry:
    """The running boot as an entry of its own, where none of a boot loader's is known to be it."""
    return BootEntry(
        release=running.release,
        arguments=None if running.line is None else relevant_arguments(running.line),
        roles=(Role.RUNNING,),
        known_from=RUNNING_KERNEL,
        differs=(),
        hypervisor=running.hypervisor,
    )


def differences(
    running: Running,
    release: str | None,
    line: str | None,
    build: str | None,
    changed_ns: Iterable[int],
    *,
    hypervisor: bool = False,
) -> tuple[Change, ...] | None:
    """In what an entry differs from the running boot; None where that cannot be told.

    Args:
        running: the running boot.
        release: of the entry's kernel.
        line: its command line.
        build: the whole version in the header of its image, which names builder and time of the build.
        changed_ns: when its initial RAM disks were written, in ns since the epoch.
        hypervisor: whether it starts one below its kernel.
    """
    if release is None or running.release is None or line is None or running.line is None:
        return None
    found = []
    if release != running.release:
        found.append(Change.KERNEL)
    elif build is not None and running.version is not None and not _of_the_build(build, running.version):
        found.append(Change.IMAGE)
    if words_of(line) != words_of(running.line):
        found.append(Change.COMMAND_LINE)
    same = release == running.release
    if same and running.booted_ns is not None and any(changed > running.booted_ns for changed in changed_ns):
        found.append(Change.INITRD)
    if hypervisor is (running.hypervisor is None):
        found.append(Change.HYPERVISOR)
    return tuple(found)


def _of_the_build(build: str, version: str) -> bool:
    """Whether ``/proc/version`` is that of a build: between builder and number it names the compiler too.

    ``linux_banner`` (init/version-timestamp.c) and ``kernel_version`` (arch/x86/boot/version.c).
    """
    _, number, when = build.partition(" #")
    return not number or f"#{when}".strip() in version


def words_of(line: str) -> list[str]:
    """The words of a command line but for those that the boot loader itself adds."""
    return [word for word in line.split() if not word.startswith(_LOADERS_OWN)]


def _text(files: HostFiles, path: str) -> str | None:
    try:
        return files.read(SOURCE, path).strip()
    except SourceError:
        return None
