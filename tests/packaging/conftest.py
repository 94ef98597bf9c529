# SPDX-License-Identifier: Apache-2.0
"""The packages, each built once for all tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]


def build(kind: str, folder: Path) -> Path:
    """One kind of package of this checkout; skips where the machine lacks what it is built with."""
    command: list[str | Path] = [sys.executable, CHECKOUT / "packaging/release.py", kind, "--out", folder]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == os.EX_UNAVAILABLE:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.fixture(scope="session")
def deb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Debian package."""
    return build("deb", tmp_path_factory.mktemp("deb"))


@pytest.fixture(scope="session")
def deb_tree(deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is in the Debian package; its control files are in DEBIAN."""
    tree = tmp_path_factory.mktemp("deb-tree") / "tree"
    subprocess.run(["dpkg-deb", "-R", deb, tree], check=True)
    return tree


@pytest.fixture(scope="session")
def rpm_tree(rpm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is in the RPM."""
    tree = tmp_path_factory.mktemp("rpm-tree")
    unpack = f"rpm2cpio {rpm} | cpio --extract --make-directories --quiet"
    subprocess.run(["bash", "-o", "pipefail", "-c", unpack], cwd=tree, check=True)
    return tree


@pytest.fixture(scope="session")
def rpm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The RPM."""
    return build("rpm", tmp_path_factory.mktemp("rpm"))
