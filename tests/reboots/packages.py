# SPDX-License-Identifier: Apache-2.0
"""Kernels as Debian packages: the two with the stand-in, and Debian's own, on a disk that guests read."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.kernel.source import suite_options
from tests.kernel.tools import MissingError, last_line, new_folder, run
from tests.reboots.places import DEBIAN_KERNEL, SUITE, cache_folder
from tests.vm.image import make_file_system

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.kernel.build import Kernel

SIZE = "256M"

CONTROL = """\
Package: {name}
Version: {version}
Architecture: amd64
Maintainer: nobody <nobody@localhost>
Depends: kmod, linux-base
Description: Linux {release}, with a stand-in for the TDX module
"""

# What Debian's own scripts do (linux-image-*: postinst, prerm, postrm), by the same programs of linux-base.
POSTINST = """\
#!/bin/sh
set -e
[ "$1" = configure ] || exit 0
depmod {release}
linux-update-symlinks install {release} /boot/vmlinuz-{release}
export INITRD=No
linux-run-hooks image postinst {release} /boot/vmlinuz-{release} -- "$@"
"""
PRERM = """\
#!/bin/sh
set -e
[ "$1" = remove ] || exit 0
linux-run-hooks image prerm {release} /boot/vmlinuz-{release} -- "$@"
"""
POSTRM = """\
#!/bin/sh
set -e
[ "$1" = upgrade ] || linux-update-symlinks remove {release} /boot/vmlinuz-{release}
linux-run-hooks image postrm {release} /boot/vmlinuz-{release} -- "$@"
[ "$1" != purge ] || rm -rf /lib/modules/{release}
"""
SCRIPTS = {"postinst": POSTINST, "prerm": PRERM, "postrm": POSTRM}


@dataclass(frozen=True, slots=True)
class KernelPackage:
    """A kernel that a guest can install.

    Args:
        release: as ``uname -r`` has it.
        name: of the package.
        file: of it, on the packages' disk.
    """

    release: str
    name: str
    file: str


@dataclass(frozen=True, slots=True)
class Packages:
    """All kernels.

    Args:
        disk: ext4, without partitions.
        kernels: by series, and Debian's own as ``debian``.
    """

    disk: Path
    kernels: Mapping[str, KernelPackage]


def get_packages(kernels: Mapping[str, Kernel]) -> Packages:
    """The packages' disk, from the cache or made now.

    Args:
        kernels: by series.

    Raises:
        MissingError: Debian's kernel could not be downloaded.
        KernelTestError: a step failed.
    """
    name, version = _newest_debian_kernel()
    parts = [f"{kernel.series}-{kernel.version}-{kernel.key}" for kernel in kernels.values()]
    folder = cache_folder() / "packages" / "_".join([*parts, f"{name}-{version}"])
    if not (folder / "packages.ext4").exists():
        with new_folder(folder) as result:
            tree = result / "tree"
            tree.mkdir()
            for series, kernel in kernels.items():
                _build(kernel, result / f"kernel-{series}", tree / f"{series}.deb")
            _download(name, version, tree)
            make_file_system(tree, result / "packages.ext4", SIZE)
            shutil.rmtree(tree)
    found = {series: _package(kernel, series) for series, kernel in kernels.items()}
    found["debian"] = KernelPackage(name.removeprefix("linux-image-"), name, "debian.deb")
    return Packages(folder / "packages.ext4", found)


def _package(kernel: Kernel, series: str) -> KernelPackage:
    release = release_of(kernel.image)
    return KernelPackage(release, f"linux-image-{release}", f"{series}.deb")


def release_of(image: Path) -> str:
    """The release in the header of a bzImage (Documentation/arch/x86/boot.rst, ``kernel_version``)."""
    head = image.read_bytes()[:0x10000]
    at = int.from_bytes(head[0x20E:0x210], "little") + 0x200
    return head[at : head.index(b"\0", at)].split(b" ")[0].decode()


def _build(kernel: Kernel, work: Path, deb: Path) -> None:
    """A package laid out like Debian's: the image, its configuration, a folder of modules, hooks run."""
    release = release_of(kernel.image)
    modules = work / "usr/lib/modules" / release
    for folder in (work / "boot", work / "DEBIAN", modules / "kernel"):
        folder.mkdir(parents=True)
    shutil.copyfile(kernel.image, work / f"boot/vmlinuz-{release}")
    shutil.copyfile(kernel.config, work / f"boot/config-{release}")
    for name in ("modules.builtin", "modules.order", "modules.builtin.modinfo"):
        (modules / name).touch()
    fields = {"name": f"linux-image-{release}", "version": kernel.version, "release": release}
    (work / "DEBIAN/control").write_text(CONTROL.format(**fields))
    for name, text in SCRIPTS.items():
        (work / "DEBIAN" / name).write_text(text.format(release=release))
        (work / "DEBIAN" / name).chmod(0o755)
    run(["dpkg-deb", "-Zgzip", "--root-owner-group", "-b", work, deb])
    shutil.rmtree(work)


def _newest_debian_kernel() -> tuple[str, str]:
    """Name and version of the package that Debian's meta package stands for."""
    options = suite_options(SUITE)
    said = ""
    for update in (False, True):
        if update:
            command = ["apt-get", "-q", *options, "update"]
            said = subprocess.run(command, capture_output=True, text=True, check=False).stderr
        depends = (
            run(["apt-cache", *options, "show", "--no-all-versions", DEBIAN_KERNEL])
            if _known(options)
            else ""
        )
        if found := re.search(r"^Depends: (linux-image-\S+) \(= (\S+)\)$", depends, re.MULTILINE):
            return found[1], found[2]
    raise MissingError(f"{DEBIAN_KERNEL}: apt has no such package in {SUITE} ({last_line(said)}); network?")


def _known(options: tuple[str, ...]) -> bool:
    return "Candidate:" in run(["apt-cache", *options, "policy", DEBIAN_KERNEL])


def _download(name: str, version: str, folder: Path) -> None:
    command = ["apt-get", "-q", *suite_options(SUITE), "download", f"{name}={version}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise MissingError(f"{name} {version}: no download ({last_line(done.stderr)}); network?")
    (deb,) = folder.glob(f"{name}_*.deb")
    deb.rename(folder / "debian.deb")
