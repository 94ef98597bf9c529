# SPDX-License-Identifier: Apache-2.0
"""An audit of many inputs: trees, captures, sosreports and logs, by one process and by two."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.programs import CHECKOUT, PYTHON, Cost, cost
from tests.bench.table import Row

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HOSTS = ("emerald-rapids", "good-2-node")
LOG = CHECKOUT / "tests/hosts/granite-rapids-like/dmesg"
OTHERS = 200
"""So many files that are no business of the agent's, of 60 kB each, are in a sosreport beside its host's."""
READ = """
import os, sys
for folder in sys.argv[1:]:
    for at, _, names in os.walk(os.path.realpath(folder), followlinks=True):
        for name in names:
            with open(os.path.join(at, name), "rb") as file:
                file.read()
"""
"""The least that Python does to read the same files."""
UNPACK = 'for name do tar -xzO -f "$name"; done'


def captures(copies: int) -> Iterator[Row]:
    """Hosts a second of CPU time beside what merely reads the same files, and what a second process gives."""
    with tempfile.TemporaryDirectory() as name:
        for what, peer, make in (
            ("trees", _reading, _trees),
            ("tar.gz", _unpacking, _archives),
            ("sosreports", _unpacking_sosreports, _sosreports),
            ("logs", _reading_files, _logs),
        ):
            folder = Path(name) / what
            folder.mkdir()
            make(folder, copies)
            paths = sorted(map(str, folder.iterdir()))
            yield from _rows(what, str(folder), peer(paths), len(paths))


def _rows(what: str, folder: str, peer: Sequence[str], count: int) -> Iterator[Row]:
    audit = [PYTHON, "-m", "tdx_headroom", "fleet", folder, "--format", "csv"]
    costs: dict[int, list[Cost]] = {0: [], 1: [], 2: []}
    for _ in range(3):
        costs[0].append(cost(peer))
        for jobs in (1, 2):
            costs[jobs].append(cost([*audit, "--jobs", str(jobs)]))
    cpu = {jobs: min(one.cpu for one in found) for jobs, found in costs.items()}
    wall = {jobs: min(one.wall for one in found) for jobs, found in costs.items()}
    against = {"tar.gz": "tar -xzO", "sosreports": "tar -xJO"}.get(what, "read by Python")
    yield Row(f"fleet, {what}, by CPU time", count / cpu[1], count / cpu[0], against, "hosts/s", more=True)
    yield Row(
        f"fleet, {what}, --jobs 2", count / wall[2], count / wall[1], "--jobs 1", "hosts/s", 1.8, more=True
    )


def _trees(folder: Path, copies: int) -> None:
    for number in range(copies):
        name = HOSTS[number % len(HOSTS)]
        shutil.copytree(CHECKOUT / "tests/hosts" / name, folder / f"{number:04}-{name}")


def capture(folder: Path, name: str) -> Path:
    """The capture of a host of the golden tests, made in a folder."""
    path = folder / f"{name}.tar.gz"
    root = ["--path.rootfs", str(CHECKOUT / "tests/hosts" / name)]
    command = [PYTHON, "-m", "tdx_headroom", "capture", "-o", str(path), *root]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return path


def _archives(folder: Path, copies: int) -> None:
    made = [capture(folder.parent, name) for name in HOSTS]
    for number in range(copies):
        shutil.copy(made[number % len(made)], folder / f"{number:04}.tar.gz")


def _sosreports(folder: Path, copies: int) -> None:
    """Each host's files among many others, about as large and as well packed as reports are."""
    made = []
    for name in HOSTS:
        path = folder.parent / f"sosreport-{name}.tar.xz"
        with tarfile.open(path, "w:xz", preset=1) as tar:
            tar.add((CHECKOUT / "tests/hosts" / name).resolve(), f"sosreport-{name}")
            for number in range(OTHERS):
                data = f"row {number} of a command's output\n".encode() * 2000
                member = tarfile.TarInfo(f"sosreport-{name}/sos_commands/other/command_{number}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
        made.append(path)
    for number in range(copies):
        shutil.copy(made[number % len(made)], folder / f"{number:04}.tar.xz")


def _logs(folder: Path, copies: int) -> None:
    for number in range(copies):
        shutil.copy(LOG, folder / f"{number:04}.log")


def _reading(paths: Sequence[str]) -> list[str]:
    return [PYTHON, "-c", READ, *paths]


def _unpacking(paths: Sequence[str]) -> list[str]:
    return ["sh", "-c", UNPACK, "sh", *paths]


def _unpacking_sosreports(paths: Sequence[str]) -> list[str]:
    return ["sh", "-c", UNPACK.replace("-xzO", "-xJO"), "sh", *paths]


def _reading_files(paths: Sequence[str]) -> list[str]:
    return [PYTHON, "-c", "import sys; [open(name, 'rb').read() for name in sys.argv[1:]]", *paths]
