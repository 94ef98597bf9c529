# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import gzip
import lzma
from typing import TYPE_CHECKING

import pytest
from tests.unit.boots.kernel_images import PACKERS, elf, module, strings

from tdx_headroom.boots.kernels.module import module_has_parameter, path_in_modules, read_module
from tdx_headroom.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tdx_headroom.hostfs.root import Root

    HostTree = Callable[[Mapping[str, str | bytes]], Root]

R = "6.18.15-test"
FOLDER = f"lib/modules/{R}"
PATH = f"{FOLDER}/kernel/arch/x86/kvm/kvm-intel.ko"
WITH = module("nested:bool", "tdx:bool", "sgx:bool")
WITHOUT = module("nested:bool", "tdx_x:bool", "sgx:bool")


def test_parameter() -> None:
    """The parameter counts with its whole name and its type."""
    assert module_has_parameter(WITH)
    assert not module_has_parameter(WITHOUT)
    assert not module_has_parameter(module("tdx:int", "xtdx:bool"))


def test_parameter_elsewhere() -> None:
    """Only the module's own information counts."""
    info = strings(["name=kvm_intel"])
    assert not module_has_parameter(elf({".rodata": strings(["parmtype=tdx:bool"]), ".modinfo": info}))


@pytest.mark.parametrize(
    "data", [b"", b"\x7fELF", elf({".text": b"x"}), module("tdx:bool", name="kvm"), WITH[:-30], WITH[:1000]]
)
def test_not_the_module(data: bytes) -> None:
    """What is not the module, or cut short, says nothing."""
    with pytest.raises(SourceError):
        module_has_parameter(data)


@pytest.mark.parametrize(
    ("ending", "kind"),
    [
        ("", None),
        (".gz", "gzip"),
        (".xz", "xz"),
        pytest.param(".zst", "zstd", marks=pytest.mark.program("zstd")),
    ],
)
@pytest.mark.parametrize("data", [WITH, WITHOUT], ids=["with", "without"])
@pytest.mark.parametrize("prefix", ["", "usr/"])
def test_packed(host_tree: HostTree, ending: str, kind: str | None, data: bytes, prefix: str) -> None:
    """Modules are read as distributions pack them, in both places."""
    packed = PACKERS[kind](data) if kind else data
    tree = host_tree({f"{prefix}{PATH}{ending}": packed})
    reading = read_module(tree, R)
    assert reading == (f"{prefix}{PATH}{ending}", data is WITH, False, ())


def test_update(host_tree: HostTree) -> None:
    """An update that modprobe would take is what counts."""
    tree = host_tree(
        {
            f"{FOLDER}/modules.dep": "kernel/virt/x.ko:\nupdates/kvm-intel.ko.xz: updates/kvm.ko.xz\n",
            f"{FOLDER}/updates/kvm-intel.ko.xz": lzma.compress(WITH),
            PATH: WITHOUT,
        }
    )
    assert read_module(tree, R)[:2] == (f"{FOLDER}/updates/kvm-intel.ko.xz", True)


@pytest.mark.parametrize("path", ["/etc/kvm-intel.ko", "../../kvm-intel.ko", "a/../b/kvm-intel.ko"])
def test_list_that_leads_elsewhere(host_tree: HostTree, path: str) -> None:
    """modprobe's list leads only to modules of that kernel."""
    tree = host_tree({f"{FOLDER}/modules.dep": f"{path}:\n", "etc/kvm-intel.ko": WITH, PATH: WITHOUT})
    assert read_module(tree, R)[:2] == (PATH, False)


def test_list() -> None:
    """The module is found by its file's name alone."""
    assert path_in_modules("a/kvm-intel.ko.zst: b.ko\n") == "a/kvm-intel.ko.zst"
    assert path_in_modules("a/kvm-intel-x.ko:\nkvm-intel.ko/b.ko: c/kvm-intel.ko\n\nkvm-intel.ko\n") is None


@pytest.mark.parametrize(("entry", "parameter"), [("tdx:bool", True), ("sgx:bool", False)])
def test_built_in(host_tree: HostTree, entry: str, parameter: bool) -> None:  # noqa: FBT001
    """Of a KVM that is built in, the build's list of parameters tells."""
    info = f"kvm.parmtype=tdx:bool\0kvm_intel.license=GPL\0kvm_intel.parmtype={entry}\0"
    tree = host_tree({f"{FOLDER}/modules.builtin.modinfo": info})
    assert read_module(tree, R) == (f"{FOLDER}/modules.builtin.modinfo", parameter, True, ())


def test_none(host_tree: HostTree) -> None:
    """Where there is no module, that is what is told, and another's list does not matter."""
    tree = host_tree({f"{FOLDER}/modules.builtin.modinfo": "kvm.license=GPL\0"})
    assert read_module(tree, R).unread == (f"{FOLDER}: there is no kvm-intel",)


def test_damaged(host_tree: HostTree) -> None:
    """A module that cannot be unpacked, or is a folder, is named."""
    packed = gzip.compress(WITH)
    for cut in range(0, len(packed) - 1, 50):
        reading = read_module(host_tree({f"{PATH}.gz": packed[:cut]}), R)
        assert reading.parameter is None
        assert reading.unread[0].startswith(f"{PATH}.gz: it")
    assert read_module(host_tree({f"{PATH}.xz/x": ""}), R).unread[0].startswith(f"{PATH}.xz: it is not a")


def test_release_that_is_no_name(host_tree: HostTree) -> None:
    """A release that would lead elsewhere leads nowhere."""
    assert read_module(host_tree({"lib/kernel/arch/x86/kvm/kvm-intel.ko": WITH}), "..").parameter is None
