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
from tdx_headroom.boots.kernels.config import parse_config
from tdx_headroom.boots.kernels.image_marks import answer
from tdx_headroom.boots.kernels.marks import parse_marks
from tdx_headroom.boots.kernels.module import built_in_parameter, module_has_parameter
from tdx_headroom.boots.modprobe import has_own_command, parse_options
from tdx_headroom.errors import SourceError
from tdx_headroom.facts.boot_inventory import parse_inventory, write_inventory
from tdx_headroom.host.choose import read_facts
from tdx_headroom.hostfs.memory import MemoryRoot
from tdx_headroom.hostfs.root import Root
from tdx_headroom.output.boots_brief import brief
from tdx_headroom.output.boots_report import boots_text
from tdx_headroom.verdict.assessment import assess
from tests.fuzz.whole import STYLE, check_shown, show
from tests.unit.boots.kernel_images import image, module, vmlinux

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE = re.compile(rb"^=== ([A-Za-z0-9_.+@~/-]{1,120})$", re.MULTILINE)
"""Stands before each file's contents in the input of :func:`boots`."""
GRUB = "boot/grub/grub.cfg"


def boots(data: bytes) -> None:
    """A host whose boot loader's and firmware's files hold anything, to all that is shown of its boots."""
    files = FILE.split(data)
    with tempfile.TemporaryDirectory() as name:
        for path, content in zip(files[1::2], files[2::2], strict=True):
            _put(Path(name), path.decode(), content[1:].removesuffix(b"\n"))
        assessment = assess(read_facts(Root(name), boots=BootReader()))
    show(assessment)
    text = boots_text(assessment, STYLE) + brief(assessment, installed="6.1", removed=None, width=80)
    assert all(c.isprintable() or c == "\n" for c in text), text


def _put(root: Path, path: str, content: bytes) -> None:
    """Write one file, if it lies inside and nothing else is in its place."""
    parts = path.split("/")
    if {"", ".", ".."} & set(parts):
        return
    with contextlib.suppress(OSError):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)


def layouts(tests: Path) -> Iterator[bytes]:
    """The boot configurations in tests/boots as inputs of :func:`boots`, each on a host that has TDX."""
    host = tests / "hosts/good-2-node"
    base = _packed(host, [host / name for name in ("dev/kmsg", "proc/cmdline", "proc/cpuinfo", "proc/iomem")])
    for tree in sorted(path for path in (tests / "boots").iterdir() if path.is_dir()):
        yield base + _packed(tree, [path for path in sorted(tree.rglob("*")) if path.is_file()])


def _packed(root: Path, files: list[Path]) -> bytes:
    parts = [
        b"=== %s\n%s\n" % (path.relative_to(root).as_posix().encode(), path.read_bytes()) for path in files
    ]
    return b"".join(part for part in parts if len(part) < 1 << 16)


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
    with contextlib.suppress(SourceError):
        value = efi_variables.parse_value(data)
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


def kernel_module(data: bytes) -> None:
    """A module, and modules.builtin.modinfo."""
    try:
        module_has_parameter(data)
    except SourceError as error:
        check_shown(error)
    built_in_parameter(data)


def inventory(text: str) -> None:
    """What root has written for the agent, which reads it back as it was."""
    found = parse_inventory(text)
    assert parse_inventory(write_inventory(found)) == found


def settings(text: str) -> None:
    """A kernel's configuration, and options of modules."""
    parse_config(text)
    parse_options(text)
    has_own_command(text)


def images() -> Iterator[bytes]:
    """A small kernel, packed in each way that Python itself knows, and not packed at all."""
    kernel = vmlinux(("virt/tdx: module initialization failed (%d)\n",))
    for pack in ("gzip", "bzip2", "lzma", "xz"):
        yield image(kernel, pack)
    yield kernel


def modules() -> Iterator[bytes]:
    """KVM for Intel with the parameter, and what the build puts into modules.builtin.modinfo."""
    yield module("tdx:bool")
    yield b"kvm_intel.parmtype=tdx:bool\0kvm_intel.license=GPL\0"


def inventories(folder: Path) -> Iterator[bytes]:
    """What root writes of each boot configuration in a folder."""
    for tree in sorted(path for path in folder.iterdir() if path.is_dir()):
        found = BootReader().take(Root(tree))
        if found is not None:
            yield write_inventory(found).encode()
