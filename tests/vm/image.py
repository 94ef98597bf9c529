# SPDX-License-Identifier: Apache-2.0
"""Debian root file systems with systemd, as disk images; kept in the cache by what they are made of."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.kernel.tools import KernelTestError, MissingError, bootstrap, install_packages, new_folder, run

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = Path(__file__).parent
SIZE = "1G"

SUITES = {"trixie": "systemd 257, Python 3.13", "bookworm": "systemd 252, Python 3.11"}
"""Debian suites that are tested, and what is special about each."""

PACKAGES = (
    *("systemd", "systemd-sysv", "udev", "dbus", "kmod", "procps", "iproute2", "python3"),
    # the agent's dependencies, as the distribution has them
    *("python3-prometheus-client", "python3-psutil", "python3-structlog", "python3-tornado"),
    *("python3-jinja2", "python3-yaml", "python3-bcrypt"),
)

PROGRAMS = {
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "tar": "tar",
    "qemu-system-x86_64": "qemu-system-x86",
}
"""Programs that the VM test runs, and the Debian package that has each."""

MASKED = (
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer"),
    *("fstrim.timer", "getty@tty1.service", "serial-getty@ttyS0.service", "remote-fs.target"),
    *("systemd-networkd-wait-online.service", "systemd-pstore.service"),
)
"""Units that only cost time in a guest that lives for a minute."""

AGENT_UNIT = """\
[Unit]
Description=runs what the VM test asks for
DefaultDependencies=no
After=sysinit.target
[Service]
ExecStart=/usr/bin/python3 -E -S /opt/vm-test/shell.py
StandardOutput=null
"""


@dataclass(frozen=True, slots=True)
class Image:
    """A disk image, never written to: guests write to a snapshot.

    Args:
        suite: Debian suite.
        path: ext4, without partitions.
        seconds: what making it took; 0 when it was there.
    """

    suite: str
    path: Path
    seconds: float


def cache_folder() -> Path:
    """Where images are kept: outside the checkout."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "tdx-headroom" / "vm"


def check_machine(*, install: bool) -> None:
    """Make sure of the programs that the VM test runs.

    Raises:
        MissingError: one is missing and cannot, or must not, be installed, or this is not root.
    """
    if os.geteuid() != 0:
        raise MissingError("root: a root file system belongs to root")
    lacking = sorted({package for name, package in PROGRAMS.items() if shutil.which(name) is None})
    if lacking and not install:
        raise MissingError(f"{' '.join(lacking)}: not installed")
    install_packages(lacking)


def get_image(suite: str) -> Image:
    """The image of a suite, from the cache or made now.

    Raises:
        MissingError: mmdebstrap could not get the packages.
        KernelTestError: a step failed.
    """
    folder = cache_folder() / "images" / f"{suite}-{tree_key(suite, PACKAGES, SIZE)}"
    path = folder / "root.ext4"
    if path.exists():
        return Image(suite, path, 0.0)
    started = time.monotonic()
    print(f"image {suite}: getting packages and making the file system", flush=True)
    with new_folder(folder) as result, tempfile.TemporaryDirectory(prefix="tdx-vm-image-") as name:
        make_file_system(make_tree(suite, PACKAGES, Path(name)), result / "root.ext4", SIZE)
        (result / "made.json").write_text(json.dumps({"suite": suite, "packages": PACKAGES}) + "\n")
    return Image(suite, path, time.monotonic() - started)


def tree_key(suite: str, packages: Sequence[str], *more: str) -> str:
    """Hash of all that goes into a tree, and of what else its image is made of."""
    parts = [suite, *packages, *MASKED, AGENT_UNIT, *more, (HERE / "guest" / "shell.py").read_text()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def make_tree(suite: str, packages: Sequence[str], work: Path) -> Path:
    """A root file system of these packages, with the test's shell, as a folder in ``work``.

    Raises:
        MissingError: mmdebstrap could not get the packages.
        KernelTestError: a step failed.
    """
    tar, tree = work / "root.tar", work / "tree"
    # No hooks: one that calls apt would act on this machine, not on the image.
    bootstrap(suite, tar, packages)
    if not tar.exists():
        raise KernelTestError(f"mmdebstrap has written no {tar.name}")
    tree.mkdir()
    run(["tar", "-C", tree, "-xf", tar])
    tar.unlink()
    _lay_over(tree)
    return tree


def make_file_system(tree: Path, path: Path, size: str) -> None:
    """An ext4 image of a folder, made without mounting it."""
    options = ["-q", "-F", "-t", "ext4", "-O", "^has_journal", "-E", "lazy_itable_init=1"]
    run(["mke2fs", *options, "-d", tree, path, size])


def _lay_over(tree: Path) -> None:
    """What the guest has besides Debian: the test's shell, and nothing that only costs time."""
    (tree / "etc/fstab").write_text("")
    (tree / "etc/hostname").write_text("guest\n")
    # An empty file is filled with a new id at boot; without it systemd would take this for a first boot.
    (tree / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    units = tree / "etc/systemd/system"
    for name in MASKED:
        (units / name).unlink(missing_ok=True)
        (units / name).symlink_to("/dev/null")
    (tree / "opt/vm-test").mkdir(parents=True)
    shutil.copyfile(HERE / "guest" / "shell.py", tree / "opt/vm-test/shell.py")
    (units / "vm-test-shell.service").write_text(AGENT_UNIT)
    wants = units / "multi-user.target.wants"
    wants.mkdir(exist_ok=True)
    (wants / "vm-test-shell.service").symlink_to("../vm-test-shell.service")
