# SPDX-License-Identifier: Apache-2.0
"""A guest's disk: an EFI system partition and Debian, the boot loader put in by its own programs."""

from __future__ import annotations

import shutil
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tests.kernel.tools import KernelTestError, new_folder, run
from tests.reboots.guest import Guest, boot_kernel
from tests.reboots.places import ESP, PACKAGES, SUITE, VARIABLES, cache_folder
from tests.vm import image

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.reboots.packages import Packages

MIB = 1 << 20
ESP_START = 1
ESP_SIZE = 320
ROOT_SIZE = 2048
"""MiB; the last one is left for the second table."""

DEBIAN = (
    *image.PACKAGES,
    *("initramfs-tools", "linux-base", "zstd", "efibootmgr", "kexec-tools"),
)
FSTAB = f"""\
/dev/vda2 / ext4 defaults 0 0
/dev/vda1 {ESP} vfat umask=0077 0 0
/dev/vdb {PACKAGES} ext4 ro 0 0
"""
LINE = "console=ttyS0 panic=0 nohibernate"
"""Of every kernel: only so does one that could hibernate bring TDX up."""

GRUB_DEFAULTS = f"""\
GRUB_DEFAULT=0
GRUB_TIMEOUT=0
GRUB_DISTRIBUTOR=Debian
GRUB_CMDLINE_LINUX_DEFAULT="quiet"
GRUB_CMDLINE_LINUX="{LINE}"
GRUB_TERMINAL=console
"""
KERNEL_LINE = f"root=/dev/vda2 rw quiet {LINE}\n"

FILES = {
    "etc/fstab": FSTAB,
    # What Debian's kernel needs to find its root file system, and no more: all is emulated here.
    "etc/initramfs-tools/conf.d/few": "MODULES=list\n",
    "etc/initramfs-tools/modules": "virtio_pci\nvirtio_blk\next4\n",
}


@dataclass(frozen=True, slots=True)
class Loader:
    """A boot loader.

    Args:
        name: on the command line.
        packages: that have it.
        files: that configure it.
        install: commands that put it onto the EFI system partition, with the first kernel there.
    """

    name: str
    packages: tuple[str, ...]
    files: Mapping[str, str]
    install: tuple[str, ...]


GRUB = Loader(
    "grub",
    ("grub-efi-amd64",),
    {"etc/default/grub": GRUB_DEFAULTS},
    (f"grub-install --target=x86_64-efi --efi-directory={ESP}", "update-grub"),
)
SYSTEMD_BOOT = Loader(
    "systemd-boot",
    ("systemd-boot",),
    {
        "etc/kernel/cmdline": KERNEL_LINE,
        "etc/kernel/install.conf": "layout=bls\n",
    },
    (f"bootctl --esp-path={ESP} install", f"echo timeout 0 >{ESP}/loader/loader.conf"),
)
UKI = replace(
    SYSTEMD_BOOT,
    name="uki",
    # The signed loader, which systemd-boot prefers, comes without the stub of unified images.
    packages=("systemd-boot", "systemd-boot-efi", "systemd-ukify"),
    files={**SYSTEMD_BOOT.files, "etc/kernel/install.conf": "layout=uki\n"},
)
"""systemd-boot again, with unified images that the guest builds itself."""

LOADERS = {loader.name: loader for loader in (GRUB, SYSTEMD_BOOT, UKI)}


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk and the firmware's variables that go with it.

    Args:
        path: the disk.
        variables: the firmware's store.
        seconds: what making them took; 0 when they were there.
    """

    path: Path
    variables: Path
    seconds: float


def get_disk(loader: Loader, packages: Packages, kernel: Path, series: str) -> Disk:
    """The disk of a loader with one kernel installed, from the cache or made now; never to be written to.

    Args:
        loader: to install.
        packages: the kernels.
        kernel: bzImage that installs the loader.
        series: of the kernel that the disk has.

    Raises:
        MissingError: mmdebstrap could not get the packages.
        KernelTestError: a step failed.
    """
    names = (*DEBIAN, *loader.packages)
    parts = [f"{path}={text}" for path, text in {**FILES, **loader.files}.items()]
    key = image.tree_key(SUITE, names, *parts, *loader.install, packages.disk.parent.name, str(ROOT_SIZE))
    folder = cache_folder() / "disks" / f"{loader.name}-{key}"
    if (folder / "disk").exists():
        return Disk(folder / "disk", folder / "variables", 0.0)
    started = time.monotonic()
    print(f"disk {loader.name}: getting packages, making the disk, installing the loader", flush=True)
    with new_folder(folder) as result, tempfile.TemporaryDirectory(prefix="tdx-reboots-") as name:
        work = Path(name)
        tree = image.make_tree(SUITE, names, work)
        _lay_over(tree, {**FILES, **loader.files})
        _partition(tree, work, result / "disk")
        shutil.copyfile(VARIABLES, result / "variables")
        disk = Disk(result / "disk", result / "variables", 0.0)
        with boot_kernel(disk, packages.disk, kernel) as guest:
            _install(guest, loader, packages, series)
    return Disk(folder / "disk", folder / "variables", time.monotonic() - started)


@contextmanager
def copy_of(disk: Disk) -> Iterator[Disk]:
    """A copy that a guest may write to."""
    with tempfile.TemporaryDirectory(prefix="tdx-reboots-disk-") as name:
        mine = Disk(Path(name, "disk"), Path(name, "variables"), 0.0)
        run(["cp", "--sparse=always", disk.path, mine.path])
        shutil.copyfile(disk.variables, mine.variables)
        yield mine


def _lay_over(tree: Path, files: Mapping[str, str]) -> None:
    for path, text in files.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)
    for folder in (ESP, PACKAGES):
        (tree / folder.lstrip("/")).mkdir(parents=True, exist_ok=True)
    # eth0 whatever the command line says: lines are edited here
    (tree / "etc/systemd/network").mkdir(parents=True, exist_ok=True)
    (tree / "etc/systemd/network/99-default.link").symlink_to("/dev/null")


def _partition(tree: Path, work: Path, disk: Path) -> None:
    """Make both file systems and join them, without mounting anything."""
    image.make_file_system(tree, work / "root.ext4", f"{ROOT_SIZE}M")
    shutil.rmtree(tree)
    run(["truncate", f"--size={ESP_SIZE}M", work / "esp.vfat"])
    run(["mkfs.vfat", "-F", "32", "-n", "ESP", work / "esp.vfat"])
    root_start = ESP_START + ESP_SIZE
    run(["truncate", f"--size={root_start + ROOT_SIZE + 1}M", disk])
    table = (
        "label: gpt\n"
        f"start={ESP_START}MiB, size={ESP_SIZE}MiB, type=uefi\n"
        f"start={root_start}MiB, size={ROOT_SIZE}MiB, type=linux\n"
    )
    (work / "table").write_text(table)
    run(["bash", "-c", 'sfdisk --quiet "$1" <"$2"', "sfdisk", disk, work / "table"])
    for start, part in ((ESP_START, work / "esp.vfat"), (root_start, work / "root.ext4")):
        run(
            ["dd", f"if={part}", f"of={disk}", "bs=1M", f"seek={start}", "conv=notrunc,sparse", "status=none"]
        )


def _install(guest: Guest, loader: Loader, packages: Packages, series: str) -> None:
    if guest.machine.status("test -d /sys/firmware/efi/efivars") != 0:
        raise KernelTestError("the guest has no EFI variables; is the firmware OVMF?")
    for command in loader.install[:1]:
        guest.run(command)
    guest.run(f"dpkg --install {PACKAGES}/{packages.kernels[series].file}")
    for command in loader.install[1:]:
        guest.run(command)
