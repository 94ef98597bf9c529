# SPDX-License-Identifier: Apache-2.0
"""What modprobe's configuration sets kvm_intel.tdx to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tdx_headroom.boots.modprobe import read_kvm_intel_tdx
from tdx_headroom.errors import SourceError
from tdx_headroom.hostfs.root import Root

if TYPE_CHECKING:
    from pathlib import Path


def root(folder: Path, **files: str) -> Root:
    (folder / "etc/modprobe.d").mkdir(parents=True)
    for name, text in files.items():
        (folder / f"etc/modprobe.d/{name}.conf").write_text(text)
    return Root(folder)


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("options kvm_intel tdx=1\n", True),
        ("options kvm-intel nested=1 \\\n tdx=Y\n", True),
        ("options kvm_intel tdx=1\noptions kvm_intel tdx=0\n", False),
        ("# options kvm_intel tdx=1\ninstall kvm_amd /bin/true\n", None),
    ],
)
def test_options(text: str, asked: bool | None, tmp_path: Path) -> None:  # noqa: FBT001
    """The last one that makes sense counts."""
    assert read_kvm_intel_tdx(root(tmp_path, kvm=text)) is asked


def test_a_command_of_its_own(tmp_path: Path) -> None:
    """Where a command loads the module, nobody knows with which parameters."""
    files = root(
        tmp_path, a="install kvm-intel /sbin/modprobe -i kvm_intel tdx=1\n", b="options kvm_intel tdx=0"
    )
    with pytest.raises(SourceError, match=r"a\.conf: a command of its own loads kvm_intel"):
        read_kvm_intel_tdx(files)


@pytest.mark.parametrize("name", ["etc/modprobe.d/a.conf", "etc/modprobe.d"])
def test_what_cannot_be_read(name: str, tmp_path: Path) -> None:
    """It is named as on the host, wherever the tree lies."""
    files = root(tmp_path / "tree")
    path = tmp_path / "tree" / name
    if path.exists():
        path.rmdir()
        path.write_text("")
    else:
        path.mkdir()
    with pytest.raises(SourceError, match=f"{name}(?:: Not a directory| is not a regular file)$") as caught:
        read_kvm_intel_tdx(files)
    assert caught.value.reason.startswith(name)
