# SPDX-License-Identifier: Apache-2.0
"""The guest's initramfs: one static program and the folders that it mounts on."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

from tests.kernel.tools import HERE, new_folder, run

FOLDERS = ("dev", "proc", "sys")


def build_initramfs(cache: Path) -> Path:
    """Compile guest/init.c and pack it, unless that was done before.

    Args:
        cache: folder that archives are kept in, by a hash of the program's source.

    Raises:
        KernelTestError: it does not compile.
    """
    source = HERE / "guest" / "init.c"
    folder = cache / hashlib.sha256(source.read_bytes() + Path(__file__).read_bytes()).hexdigest()[:12]
    archive = folder / "initramfs.cpio"
    if not archive.exists():
        with new_folder(folder) as scratch:
            program = scratch / "init"
            run(["gcc", "-static", "-Os", "-s", "-Wall", "-Wextra", "-Werror", "-o", program, source])
            (scratch / archive.name).write_bytes(pack(program.read_bytes()))
    return archive


def pack(init: bytes) -> bytes:
    """A cpio archive (format newc) with ``/init`` and the folders."""
    members = [(name, stat.S_IFDIR | 0o755, b"") for name in FOLDERS]
    members += [("init", stat.S_IFREG | 0o755, init), ("TRAILER!!!", 0, b"")]
    return b"".join(_member(i + 1, *member) for i, member in enumerate(members))


def _member(number: int, name: str, mode: int, data: bytes) -> bytes:
    """Magic, 13 fields of 8 hex digits, name and data, both padded to 4 bytes (kernel: init/initramfs.c)."""
    path = name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(mode) else 1
    fields = (number, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(path), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + path
    return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)
