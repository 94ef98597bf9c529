# SPDX-License-Identifier: Apache-2.0
"""Kernels of Debian's packages, downloaded once and unpacked in the cache folder; nothing is installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

PACKAGES = {"6.1": "linux-image-cloud-amd64", "6.12": "linux-image-6.12-cloud-amd64"}
"""By series: the package that depends on its newest kernel. The images are packed with lz4, and zstd."""


class MissingError(Exception):
    """There is no such kernel here; the message is one line and says why."""


def debian_kernel(series: str) -> Path:
    """The folder that holds a kernel's files by their paths on a host.

    Args:
        series: of Debian 12.

    Raises:
        MissingError: it is not in the cache and cannot be had.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tdx-headroom/debian-kernels"
    cached = sorted((base / series).glob("linux-image-*"))
    if cached:
        return cached[-1]
    if shutil.which("apt-get") is None:
        raise MissingError("no apt-get here to download it")
    shown = subprocess.run(["apt-cache", "depends", PACKAGES[series]], capture_output=True, text=True)
    found = re.search(r"^\s*Depends: (linux-image-\S+)$", shown.stdout, re.MULTILINE)
    if found is None:
        raise MissingError(f"apt has no {PACKAGES[series]}: not Debian 12, or apt-get update is needed")
    work = base / series / f".{os.getpid()}"
    work.mkdir(parents=True)
    try:
        done = subprocess.run(["apt-get", "-q", "download", found[1]], cwd=work, capture_output=True)
        packages = [*work.glob("*.deb")]
        if done.returncode or not packages:
            raise MissingError(f"apt-get download {found[1]} failed; is there a network?")
        unpack = 'set -o pipefail; dpkg-deb --fsys-tarfile "$1" | tar -xC "$2" --wildcards "$3" "$4" "$5"'
        members = ("*/boot/vmlinuz-*", "*/boot/config-*", "*/arch/x86/kvm/*")
        subprocess.run(["bash", "-c", unpack, "unpack", packages[0], work, *members], check=True)
        packages[0].unlink()
        return work.rename(base / series / found[1])
    finally:
        shutil.rmtree(work, ignore_errors=True)
