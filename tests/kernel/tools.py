# SPDX-License-Identifier: Apache-2.0
"""What the kernel test needs from the machine: programs, packages, the cache folder, progress."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from tqdm import tqdm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

HERE = Path(__file__).parent

BUILD_PROGRAMS = {
    "gcc": "gcc",
    "make": "make",
    "flex": "flex",
    "bison": "bison",
    "bc": "bc",
    "xz": "xz-utils",
    "lz4": "lz4",
    "dpkg-deb": "dpkg",
}
BUILD_HEADERS = {
    "/usr/include/gelf.h": "libelf-dev",
    "/usr/include/openssl/opensslv.h": "libssl-dev",
    "/usr/include/stdio.h": "libc6-dev",
}
RUN_PROGRAMS = {"qemu-system-x86_64": "qemu-system-x86"}


class MissingError(Exception):
    """The machine lacks something that the kernel test needs; the message is one line and says what."""


class KernelTestError(Exception):
    """A step failed; the message says what, where and what to look at."""


def cache_folder() -> Path:
    """Where kernels, sources and runs are kept: outside the checkout."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "tdx-headroom" / "kernel"


def missing_packages(*, build: bool) -> list[str]:
    """Debian packages of the programs and headers that are not there.

    Args:
        build: also those that only building a kernel needs.
    """
    programs = {**RUN_PROGRAMS, **(BUILD_PROGRAMS if build else {"gcc": "gcc"})}
    headers = BUILD_HEADERS if build else {"/usr/include/stdio.h": "libc6-dev"}
    lacking = [package for name, package in programs.items() if shutil.which(name) is None]
    lacking += [package for path, package in headers.items() if not Path(path).exists()]
    return sorted(set(lacking))


def install_packages(packages: Sequence[str]) -> None:
    """Install Debian packages, with apt-get as it is configured.

    Raises:
        MissingError: this is no Debian, this is not root, or apt-get failed.
    """
    if not packages:
        return
    names = " ".join(packages)
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise MissingError(f"{names}: not installed; install them, or run this as root on Debian")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "-q", "-y", "install", "--no-install-recommends", *packages]
    for command in (["apt-get", "-q", "update"], install):
        done = subprocess.run(command, env=quiet, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise MissingError(f"{names}: could not be installed ({last_line(done.stderr)}); is there a network?")


def last_line(text: str) -> str:
    """The last line of a program's output that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no output"


def run(
    command: Sequence[str | Path], *, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> str:
    """Run a program and give its standard output.

    Raises:
        KernelTestError: it ended with another status than 0.
        MissingError: it is not there.
    """
    try:
        done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise MissingError(f"{error.filename}: {error.strerror}") from None
    if done.returncode != 0:
        detail = last_line(done.stderr or done.stdout)
        raise KernelTestError(f"{' '.join(map(str, command))}: status {done.returncode}: {detail}")
    return done.stdout


def bootstrap(suite: str, target: Path, packages: Sequence[str], *options: str) -> None:
    """Make a small root file system of Debian's suite, with these packages, a tree or a tar file.

    Raises:
        MissingError: the packages could not be had.
    """
    command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(packages)}"]
    done = subprocess.run([*command, *options, suite, target], capture_output=True, text=True)
    if done.returncode != 0:
        raise MissingError(f"Debian {suite}: {last_line(done.stderr)}; is there a network?")


def exit_status(name: str, work: Callable[[], int]) -> int:
    """The status that the work gives; 69 where the machine lacks something, 70 where a step fails, said."""
    try:
        return work()
    except MissingError as error:
        print(f"{name}: this machine lacks something: {error}", file=sys.stderr)
        return 69
    except KernelTestError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 70


def progress(total: int, what: str, unit: str) -> tqdm[NoReturn]:
    """A progress bar on standard error; where that is no terminal, a line every so often."""
    return tqdm(total=total, desc=what, unit=unit, mininterval=0.5 if sys.stderr.isatty() else 20)


@contextmanager
def new_folder(final: Path) -> Iterator[Path]:
    """A scratch folder beside ``final`` that takes its place when the block ends well, and goes otherwise."""
    scratch = final.with_name(f".{final.name}.{os.getpid()}")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        yield scratch
        shutil.rmtree(final, ignore_errors=True)
        scratch.rename(final)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
