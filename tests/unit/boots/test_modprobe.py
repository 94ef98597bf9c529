# SPDX-License-Identifier: Apache-2.0
"""What modprobe's configuration says of KVM."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tdx_headroom.boots.modprobe import read_kvm_loading
from tdx_headroom.errors import SourceError
from tdx_headroom.facts.boots import KvmLoading
from tdx_headroom.facts.command_line import asks_for_tdx
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
    assert asks_for_tdx(read_kvm_loading(root(tmp_path, kvm=text)).options) is asked


def test_a_command_of_its_own(tmp_path: Path) -> None:
    """Where a command loads the module, nobody knows with which parameters."""
    files = root(
        tmp_path, a="install kvm-intel /sbin/modprobe -i kvm_intel tdx=1\n", b="options kvm_intel tdx=0"
    )
    with pytest.raises(SourceError, match=r"a\.conf: a command of its own loads kvm_intel"):
        read_kvm_loading(files)


@pytest.mark.parametrize(
    ("text", "loading"),
    [
        ("options kvm-intel ept=0 nested=1\n", KvmLoading(options=("kvm_intel.ept=0",))),
        (
            "options kvm tdp_mmu=N\noptions kvm mmio_caching=0 halt_poll_ns=0\n",
            KvmLoading(options=("kvm.tdp_mmu=N", "kvm.mmio_caching=0")),
        ),
        ("options kvm enable_virt_at_load=0\n", KvmLoading(options=("kvm.enable_virt_at_load=0",))),
        ("options kvm_amd ept=0\noptions kvm ept=0\n", KvmLoading()),
        (
            "blacklist kvm-intel\nblacklist kvm_amd\nblacklist kvm_intel\n",
            KvmLoading(passed_over=("kvm_intel",)),
        ),
        ("# blacklist kvm_intel\n", KvmLoading()),
        ("install kvm_intel /bin/true\n", KvmLoading(never=("kvm_intel",))),
        ("install kvm-* /usr/bin/false\n", KvmLoading(never=("kvm_intel",))),
        ("install kvm \\\n /bin/false\n", KvmLoading(never=("kvm",))),
        ("install kvm* true\n", KvmLoading(never=("kvm_intel", "kvm"))),
        (
            "install kvm_intel /bin/true\ninstall kvm_intel /sbin/modprobe -i kvm_intel\n",
            KvmLoading(never=("kvm_intel",)),
        ),
        ("install kvm_intel\ninstall kvm_amd /bin/false\n", KvmLoading()),
    ],
)
def test_loading(text: str, loading: KvmLoading, tmp_path: Path) -> None:
    """Options that TDX depends on, what is blacklisted, and what is never loaded, by whatever spelling."""
    assert read_kvm_loading(root(tmp_path, kvm=text)) == loading


def test_the_first_install_line_counts(tmp_path: Path) -> None:
    """Of several files the one whose name comes first."""
    files = root(tmp_path, a="install kvm /sbin/modprobe -i kvm\n", b="install kvm /bin/false\n")
    with pytest.raises(SourceError, match=r"a\.conf: a command of its own loads kvm, with any parameters"):
        read_kvm_loading(files)


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
        read_kvm_loading(files)
    assert caught.value.reason.startswith(name)
