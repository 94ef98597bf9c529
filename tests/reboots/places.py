# SPDX-License-Identifier: Apache-2.0
"""What the guests are, and where things are kept and found."""

from __future__ import annotations

import os
from pathlib import Path

HERE = Path(__file__).parent
KERNEL_CONFIG = HERE / "kernel"
SUITE = "trixie"
SERIES = ("6.12", "7.3")

DEBIAN_KERNEL = "linux-image-cloud-amd64"
"""Debian's own, without TDX for hosts; the flavour with few drivers, since all is emulated here."""

FIRMWARE = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
VARIABLES = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")

ESP = "/boot/efi"
"""Where a guest mounts the EFI system partition."""

PACKAGES = "/srv/kernels"
"""Where a guest mounts the packages' disk."""


def cache_folder() -> Path:
    """Where disks are kept: outside the checkout."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "tdx-headroom" / "reboots"


def evidence_folder() -> Path:
    """Where what shows a difference is kept."""
    return Path("/tmp/reboots-evidence")
