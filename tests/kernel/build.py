# SPDX-License-Identifier: Apache-2.0
"""Builds the test kernel and its initramfs, and keeps them in the cache folder by what they are made of."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.kernel import cmr_kernel, standin
from tests.kernel.initramfs import build_initramfs
from tests.kernel.source import Source, find_source
from tests.kernel.tools import (
    HERE,
    KernelTestError,
    MissingError,
    cache_folder,
    install_packages,
    missing_packages,
    new_folder,
    progress,
    run,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

OBJECTS = 1950
"""Lines that make prints for a whole kernel, about: for the progress bar, until a build has counted them."""

NEEDED = ("CONFIG_INTEL_TDX_HOST=y", "CONFIG_HUGETLBFS=y", "CONFIG_FIRMWARE_MEMMAP=y", "CONFIG_NUMA=y")
"""Options that the test stands on; kconfig drops an option silently when something it depends on is gone."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """A built kernel.

    Args:
        series: upstream series, ``6.12``.
        version: version of the Debian package it was built from.
        key: hash of the configuration and the stand-in.
        image: the bzImage.
        initramfs: the guest's only program, as a cpio archive.
        modules: what the extra folder has built besides, by name without ``.ko``.
        cmrs: whether it has the CMR strategies, too.
    """

    series: str
    version: str
    key: str
    image: Path
    initramfs: Path
    modules: Mapping[str, Path]
    cmrs: bool = False

    @property
    def config(self) -> Path:
        """Its configuration."""
        return self.image.with_name("config")


def build_key(series: str, extra: Path | None = None, *, cmrs: bool = False) -> str:
    """Hash of all that goes into the kernel besides its source."""
    digest = hashlib.sha256(_options(series, extra).encode())
    parts = [*(HERE / "standin" / name for name in standin.SOURCES), HERE / "standin.py"]
    if cmrs:
        parts += [*(HERE / "standin" / name for name in cmr_kernel.SOURCES), HERE / "cmr_kernel.py"]
    parts += _modules(extra)
    for path in parts:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def get_kernel(
    series: str,
    *,
    install: bool = True,
    keep_tree: bool = False,
    extra: Path | None = None,
    cmrs: bool = False,
) -> Kernel:
    """The kernel of the series, from the cache or built now.

    Args:
        series: upstream series, ``6.12``.
        install: whether missing packages may be installed with apt-get.
        keep_tree: leave source and objects in the cache folder, for work on the stand-in.
        extra: a folder with configuration on top of this test's own (``*.config``), for a guest that needs
            more of a machine, and with modules (``Kbuild`` and their sources) if it has some.
        cmrs: whether it is to have the CMR strategies, too; a boot that asks for none of them is mainline's.

    Raises:
        MissingError: packages, the kernel's source or the network are not there.
        KernelTestError: the build failed.
    """
    key = build_key(series, extra, cmrs=cmrs)
    kernels = cache_folder() / "kernels"
    lacking = missing_packages(build=False)
    if lacking and not install:
        raise MissingError(f"{' '.join(lacking)}: not installed")
    install_packages(lacking)
    try:
        source = find_source(series)
    except MissingError:
        # Without apt's lists the version is unknown; a kernel that was built from any version will do.
        cached = sorted(kernels.glob(f"{series}_*_{key}/bzImage"))
        if not cached:
            raise
        return _kernel(series, cached[-1].parent, cmrs=cmrs)
    folder = kernels / f"{series}_{source.version}_{key}"
    if not (folder / "bzImage").exists():
        lacking = missing_packages(build=True)
        if lacking and not install:
            raise MissingError(f"{' '.join(lacking)}: not installed")
        install_packages(lacking)
        _build(source, folder, extra, keep_tree=keep_tree, cmrs=cmrs)
    return _kernel(series, folder, cmrs=cmrs)


def _kernel(series: str, folder: Path, *, cmrs: bool) -> Kernel:
    version, key = folder.name.split("_", 2)[1:]
    modules = {path.stem: path for path in folder.glob("*.ko")}
    initramfs = build_initramfs(cache_folder() / "initramfs")
    return Kernel(series, version, key, folder / "bzImage", initramfs, modules, cmrs)


def _fragments(series: str, extra: Path | None) -> list[Path]:
    own = HERE / "config" / f"{series}.config"
    more = sorted(extra.glob("*.config")) if extra else []
    return [HERE / "config" / "base.config", *([own] if own.exists() else []), *more]


def _modules(extra: Path | None) -> list[Path]:
    """What modules are built from: Kbuild and C files of the extra folder."""
    return sorted([*extra.glob("Kbuild"), *extra.glob("*.c")]) if extra else []


def _options(series: str, extra: Path | None) -> str:
    """The options of the fragments, without comments."""
    lines = [line for path in _fragments(series, extra) for line in path.read_text().splitlines()]
    return "\n".join(line for line in lines if line.startswith("CONFIG_"))


def _build(source: Source, folder: Path, extra: Path | None, *, keep_tree: bool, cmrs: bool) -> None:
    """Unpack, edit, configure and compile; ``folder`` is there only when all went well."""
    work = cache_folder() / "build" / f"{source.series}-{os.getpid()}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        with new_folder(folder) as result:
            print(f"kernel {source.series}: unpacking {source.package} {source.version}", flush=True)
            tree = source.unpack(work)
            changed = standin.apply(tree) + (cmr_kernel.apply(tree) if cmrs else "")
            (result / "patch.diff").write_text(changed)
            objects = work / "objects"
            objects.mkdir()
            _configure(tree, objects, source.series, extra)
            lines = _compile(objects, result / "build.log", source.series)
            _build_modules(objects, _modules(extra), work / "modules", result)
            shutil.copyfile(objects / "arch/x86/boot/bzImage", result / "bzImage")
            shutil.copyfile(objects / ".config", result / "config")
            (result / "built.json").write_text(json.dumps({"version": source.version, "lines": lines}) + "\n")
    finally:
        if keep_tree:
            print(f"kernel {source.series}: source and objects are in {work}", flush=True)
        else:
            shutil.rmtree(work, ignore_errors=True)


def _configure(tree: Path, objects: Path, series: str, extra: Path | None) -> None:
    """allnoconfig, then the fragments.

    Raises:
        KernelTestError: the kernel drops an option that the test stands on.
    """
    make = ["make", "-s", "-C", str(tree), f"O={objects}"]
    run([*make, "allnoconfig"])
    merge: list[str | Path] = [
        tree / "scripts/kconfig/merge_config.sh",
        "-m",
        "-O",
        objects,
        objects / ".config",
    ]
    merge += _fragments(series, extra)
    run(merge, cwd=tree, env={**os.environ, "KCONFIG_CONFIG": str(objects / ".config")})
    run([*make, "olddefconfig"])
    options = (objects / ".config").read_text().splitlines()
    for option in NEEDED:
        if option not in options:
            raise KernelTestError(
                f"kernel {series}: {option} was dropped from its configuration; see config/"
            )


def _build_modules(objects: Path, sources: list[Path], folder: Path, result: Path) -> None:
    """Build modules outside of the kernel's tree, for the kernel that was built in ``objects``."""
    if not sources:
        return
    folder.mkdir()
    for path in sources:
        shutil.copyfile(path, folder / path.name)
    make = ["make", "-s", "-C", str(objects)]
    run([*make, "modules"])
    run([*make, f"M={folder}", "modules"])
    for module in folder.glob("*.ko"):
        shutil.copyfile(module, result / module.name)


def _compile(objects: Path, log: Path, series: str) -> int:
    """Run make, with a progress bar; gives the number of lines that it printed."""
    known = sorted((cache_folder() / "kernels").glob(f"{series}_*/built.json"))
    total = json.loads(known[-1].read_text())["lines"] if known else OBJECTS
    jobs = os.cpu_count() or 1
    lines = 0
    with (
        log.open("w") as out,
        progress(total, f"kernel {series}: compiling", "obj") as bar,
        subprocess.Popen(
            ["make", "-C", str(objects), f"-j{jobs}", "bzImage"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        ) as make,
    ):  # fmt: skip
        assert make.stdout is not None
        for line in make.stdout:
            out.write(line)
            lines += 1
            bar.update()
    if make.returncode != 0:
        kept = cache_folder() / f"failed-build-{series}.log"
        shutil.copyfile(log, kept)
        raise KernelTestError(f"kernel {series}: make ended with status {make.returncode}; see {kept}")
    return lines
