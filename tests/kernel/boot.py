# SPDX-License-Identifier: Apache-2.0
"""Boots the kernel on one memory map in QEMU and takes what the guest sends."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.kernel.guestmap import GIB, MIB
from tests.kernel.tools import KernelTestError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kernel.build import Kernel
    from tests.kernel.guestmap import GuestMap

SECONDS = 300
"""A guest that takes longer hangs: 384 GiB take about 20 s."""

TRIES = 2

# TCG always: with KVM the kernel would find the machine's own CPU, and cmpxchg16b crashes under TCG.
# pdpe1gb: pages of 1 GiB can be reserved at boot.
MACHINE = (
    "-accel", "tcg,tb-size=128", "-cpu", "qemu64,-cx16,+pdpe1gb", "-smp", "1",
    "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
    "-device", "virtio-serial-pci,max_ports=2",
)  # fmt: skip
ALWAYS = "panic=-1 quiet"


class BootError(KernelTestError):
    """The guest did not get as far as sending its files; holds the end of its console."""


@dataclass(frozen=True, slots=True)
class Dump:
    """What a guest sent: contents of files and targets of links, by path without leading slash."""

    files: dict[str, bytes]
    links: dict[str, str]


def cost(guest: GuestMap) -> int:
    """Bytes of this machine's memory that the guest takes: QEMU, and the page structures that it writes."""
    return 300 * MIB + (guest.memory + sum(guest.dimms)) // 56


def boot(kernel: Kernel, guest: GuestMap, *, seconds: int = SECONDS, may_hang: bool = False) -> Dump:
    """Boot the guest and give its files.

    Args:
        kernel: what to boot.
        guest: on which map.
        seconds: after which it is taken to hang.
        may_hang: whether that is no surprise: an early panic, for instance. It is not tried again then.

    Raises:
        BootError: it sent nothing, twice.
    """
    for _ in range(1 if may_hang else TRIES):
        data = _run(kernel, guest, seconds)
        if data.endswith(b"\nEND\n") or data == b"END\n":
            return read_frames(data)
    if may_hang:
        raise BootError(f"{guest.name}: no dump")
    raise BootError(f"{guest.name}: no dump; console: {_console(kernel, guest)}")


def qemu_arguments(guest: GuestMap) -> list[str]:
    """The machine that the map asks for, as arguments of QEMU."""
    size = f"{guest.memory // MIB}M"
    arguments = [*MACHINE]
    if guest.dimms:
        most = guest.memory + sum(guest.dimms) + GIB
        arguments += [
            "-machine",
            guest.machine,
            "-m",
            f"{size},slots={len(guest.dimms)},maxmem={most // MIB}M",
        ]
    elif guest.nodes:
        arguments += ["-machine", guest.machine, "-m", size]
    else:
        arguments += [
            "-machine",
            f"{guest.machine},memory-backend=all",
            "-m",
            size,
            *_backend("all", guest.memory),
        ]
    for i, node in enumerate(guest.nodes):
        arguments += [*_backend(f"node{i}", node), "-numa", f"node,nodeid={i},memdev=node{i}"]
    for i, dimm in enumerate(guest.dimms):
        arguments += [*_backend(f"dimm{i}", dimm), "-device", f"pc-dimm,id=d{i},memdev=dimm{i}"]
    return arguments


def _backend(name: str, size: int) -> list[str]:
    # reserve=off: a guest larger than this machine touches only a little of its memory.
    return ["-object", f"memory-backend-ram,id={name},size={size // MIB}M,reserve=off"]


def _run(kernel: Kernel, guest: GuestMap, seconds: int) -> bytes:
    with tempfile.TemporaryDirectory(prefix="tdx-kernel-test-") as folder:
        out = Path(folder) / "dump"
        port = ["-chardev", f"file,id=dump,path={out}", "-device", "virtserialport,chardev=dump,nr=1"]
        _qemu(kernel, guest, [*port, "-serial", "none"], ALWAYS, seconds)
        return out.read_bytes() if out.exists() else b""


def _console(kernel: Kernel, guest: GuestMap) -> str:
    """The last words of a guest that does not come up: boot it once more, with a serial console."""
    with tempfile.TemporaryDirectory(prefix="tdx-kernel-test-") as folder:
        log = Path(folder) / "console"
        said = _qemu(kernel, guest, ["-serial", f"file:{log}"], "panic=-1 earlyprintk=ttyS0 console=ttyS0")
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        telling = [
            line.strip() for line in lines if "panic" in line.lower() or "BUG" in line or "RIP" in line
        ]
        return " | ".join((telling or lines or [said or "nothing"])[-3:])


def _qemu(kernel: Kernel, guest: GuestMap, devices: list[str], always: str, seconds: int = SECONDS) -> str:
    """Run QEMU to its end; gives what it wrote itself."""
    command = ["qemu-system-x86_64", *qemu_arguments(guest), *devices]
    command += ["-kernel", str(kernel.image), "-initrd", str(kernel.initramfs)]
    command += ["-append", f"{always} {guest.command_line}"]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return f"no end within {seconds} s"
    return done.stderr.decode(errors="replace").strip()


def read_frames(data: bytes) -> Dump:
    """The frames that guest/init.c writes.

    Raises:
        KernelTestError: they are damaged.
    """
    files: dict[str, bytes] = {}
    links: dict[str, str] = {}
    for kind, path, rest in _frames(data):
        if kind == "FILE":
            files[path] = rest
        else:
            links[path] = rest.decode()
    return Dump(files, links)


def _frames(data: bytes) -> Iterator[tuple[str, str, bytes]]:
    at = 0
    while (end := data.index(b"\n", at)) and data[at:end] != b"END":
        kind, path, last = data[at:end].decode().split(" ")
        at = end + 1
        if kind == "FILE":
            size = int(last)
            if at + size > len(data):
                raise KernelTestError(f"the dump ends inside {path}")
            yield kind, path, data[at : at + size]
            at += size
        elif kind == "LINK":
            yield kind, path, last.encode()
        else:
            raise KernelTestError(f"the dump has a frame {kind!r} at {at}")


def write_root(dump: Dump, root: Path) -> None:
    """Lay the files out as a captured root: a folder that mirrors the guest's paths."""
    shutil.rmtree(root, ignore_errors=True)
    for path, data in dump.files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    for path, target in dump.links.items():
        link = root / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)
