# SPDX-License-Identifier: Apache-2.0
"""Files that tell of the next boot, which are read as root; other systems write some of them."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tdx_headroom.boots.firmware import efi_variables
from tdx_headroom.boots.grub.reader import read_grub
from tdx_headroom.boots.inventory import BootReader
from tdx_headroom.boots.kernels.image_marks import answer
from tdx_headroom.boots.kernels.marks import parse_marks
from tdx_headroom.boots.kernels.module import built_in_parameter, module_has_parameter
from tdx_headroom.boots.modprobe import parse_kvm_loading
from tdx_headroom.errors import SourceError
from tdx_headroom.facts.boot_inventory import parse_inventory, write_inventory
from tdx_headroom.host.choose import read_facts
from tdx_headroom.hostfs.memory import MemoryRoot
from tdx_headroom.hostfs.root import Root
from tdx_headroom.output.boots_brief import brief
from tdx_headroom.output.boots_report import boots_text
from tdx_headroom.verdict.assessment import assess
from tests.fuzz.whole import STYLE, check_shown, shortened, show
from tests.tools.efi import merged, systemd_boot_host, unified
from tests.unit.boots.kernel_images import image, module, vmlinux

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FILE = re.compile(rb"^=== ([A-Za-z0-9_.+@~/-]{1,120})$", re.MULTILINE)
"""Stands before each file's contents in the input of :func:`boots`."""
GRUB = "boot/grub/grub.cfg"
LONG = ("debian-six-xen", "uki-direct", "uki-menu")
"""Of tests/boots, what is too long behind a host: a grub.cfg of 19 kB, and unified images of 95 kB."""
SHORT = b"\x90" * 64
"""Code, where only what stands around it matters."""


def boots(data: bytes) -> None:
    """A host whose boot loader's and firmware's files hold anything, to all that is shown of its boots."""
    with tempfile.TemporaryDirectory() as name:
        for path, content in _unpacked(data).items():
            _put(Path(name), path, content)
        assessment = assess(read_facts(Root(name), boots=BootReader()))
    show(assessment)
    text = boots_text(assessment, STYLE) + brief(assessment, installed="6.1", removed=None, width=80)
    assert all(c.isprintable() or c == "\n" for c in text), text


def layouts(tests: Path) -> Iterator[bytes]:
    """Boot configurations as inputs of :func:`boots`, each on a host that has TDX."""
    host = tests / "hosts/good-2-node"
    names = ("dev/kmsg", "proc/cmdline", "proc/cpuinfo", "proc/iomem")
    base = {name: shortened(name, (host / name).read_text("utf-8")) for name in names}
    for tree in _short(tests / "boots"):
        files = [path for path in sorted(tree.rglob("*")) if path.is_file()]
        yield _packed({**base, **{path.relative_to(tree).as_posix(): path.read_bytes() for path in files}})
    loader: dict[str, str | bytes] = {
        "efi/EFI/Linux/arch.efi": unified("root=/dev/sda2 ro"),
        "efi/loader/loader.conf": "default arch*\n",
    }
    yield _packed({**base, **merged(systemd_boot_host(), loader)})


def _short(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and path.name not in LONG)


def _packed(files: Mapping[str, str | bytes]) -> bytes:
    texts = {name: text.encode() if isinstance(text, str) else text for name, text in files.items()}
    return b"".join(b"=== %s\n%s\n" % (name.encode(), text) for name, text in texts.items())


def _unpacked(data: bytes) -> dict[str, bytes]:
    parts = FILE.split(data)
    contents = (content[1:].removesuffix(b"\n") for content in parts[2::2])
    return {name.decode(): content for name, content in zip(parts[1::2], contents, strict=True)}


def _put(root: Path, path: str, content: bytes) -> None:
    """Write one file, if it lies inside and nothing else is in its place."""
    if {"", ".", ".."} & set(path.split("/")):
        return
    with contextlib.suppress(OSError):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)


def grub(data: bytes) -> None:
    """A grub.cfg."""
    menu = read_grub(MemoryRoot("/captured", {GRUB: data.decode("utf-8", "backslashreplace")}))
    assert menu is not None
    assert menu.unknown is None or menu.unknown.isprintable()
    assert menu.next is None or menu.next < len(menu.entries)


def configurations(folder: Path) -> Iterator[bytes]:
    """Each grub.cfg below a folder."""
    yield from (path.read_bytes() for path in sorted(folder.rglob("grub.cfg")))


def efi_variable(data: bytes) -> None:
    """What efivarfs has of any variable."""
    try:
        value = efi_variables.parse_value(data)
    except SourceError as error:
        check_shown(error)
        return
    for parse in (
        efi_variables.parse_text,
        efi_variables.parse_texts,
        efi_variables.parse_number,
        efi_variables.parse_numbers,
        efi_variables.parse_load_option,
        efi_variables.parse_device_path,
    ):
        try:
            parse(value)
        except SourceError as error:
            check_shown(error)


def variables(folder: Path) -> Iterator[bytes]:
    """Each EFI variable below a folder."""
    yield from (path.read_bytes() for path in sorted(folder.rglob("efivars/*")) if path.is_file())


def kernel_image(data: bytes) -> None:
    """A kernel's image, packed in any way, as the process that looks through it."""
    fd = os.memfd_create("image")
    try:
        os.write(fd, data)
        found = answer(fd, 0)
    finally:
        os.close(fd)
    assert parse_marks(found) is not None or found["error"].isprintable()


def images() -> Iterator[bytes]:
    """A small kernel, packed in each way that Python itself knows."""
    kernel = vmlinux(("virt/tdx: module initialization failed (%d)\n",), text=SHORT)
    yield from (image(kernel, pack) for pack in ("gzip", "bzip2", "lzma", "xz"))


def kernel_module(data: bytes) -> None:
    """A module, and modules.builtin.modinfo."""
    try:
        module_has_parameter(data)
    except SourceError as error:
        check_shown(error)
    built_in_parameter(data)


def modules() -> Iterator[bytes]:
    """KVM for Intel with the parameter, and what the build puts into modules.builtin.modinfo."""
    yield module("tdx:bool", text=SHORT)
    yield b"kvm_intel.parmtype=tdx:bool\0kvm_intel.license=GPL\0"


def modprobe(text: str) -> None:
    """Options of modules, and commands in the place of loading them."""
    with contextlib.suppress(SourceError):
        parse_kvm_loading({"etc/modprobe.d/kvm.conf": text})


def inventory(text: str) -> None:
    """What root has written for the agent, which reads it back as it was."""
    found = parse_inventory(text)
    assert parse_inventory(write_inventory(found)) == found


def inventories(folder: Path) -> Iterator[bytes]:
    """What root writes of each boot configuration in a folder."""
    for tree in _short(folder):
        taken = BootReader().take(Root(tree))
        if taken is not None:
            yield write_inventory(taken).encode()
