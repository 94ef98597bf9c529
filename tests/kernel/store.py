# SPDX-License-Identifier: Apache-2.0
"""Boots that are kept: a folder a boot, with the captured root and, apart from it, what the kernel did.

<run>/<name>/map.json     the memory map and the kernel it was booted on
<run>/<name>/truth.txt    the stand-in's lines: the agent never gets to see them
<run>/<name>/root/        the guest's files, all that the agent reads
<run>/<name>/error.txt    instead of the two above: why there is no dump
"""

from __future__ import annotations

import json
import lzma
import shutil
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tests.kernel.boot import Dump, write_root
from tests.kernel.guestmap import GuestMap, Module
from tests.kernel.tools import KernelTestError, new_folder
from tests.kernel.truth import Truth, read_truth, split_log

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kernel.build import Kernel

KMSG = "dev/kmsg"


@dataclass(frozen=True, slots=True)
class Case:
    """One boot that was kept.

    Args:
        guest: its memory map.
        series, version: the kernel, and the version of the package it was built from.
        root: the captured root.
        truth: what the kernel did; None when the guest sent nothing.
        error: why it sent nothing.
    """

    guest: GuestMap
    series: str
    version: str
    root: Path
    truth: Truth | None
    error: str | None = None


def save(folder: Path, kernel: Kernel, guest: GuestMap, dump: Dump | None, error: str | None) -> None:
    """Keep one boot as ``folder/<name>``; without a dump, ``error`` says why there is none."""
    with new_folder(folder / guest.name) as made:
        about = {"series": kernel.series, "version": kernel.version, "map": asdict(guest)}
        (made / "map.json").write_text(json.dumps(about, indent=1) + "\n")
        if dump is None:
            (made / "error.txt").write_text(f"{error}\n")
            return
        files = dict(dump.files)
        log, taken = split_log(files[KMSG].decode("utf-8", "backslashreplace"))
        files[KMSG] = log.encode()
        write_root(Dump(files, dump.links), made / "root")
        (made / "truth.txt").write_text("".join(f"{line}\n" for line in taken))


def load(folder: Path) -> Case:
    """One kept boot.

    Raises:
        KernelTestError: the folder is not what :func:`save` leaves.
    """
    try:
        about = json.loads((folder / "map.json").read_text())
        guest = _guest(about["map"])
        failed = folder / "error.txt"
        if failed.exists():
            error = failed.read_text().strip()
            return Case(guest, about["series"], about["version"], folder / "root", None, error)
        log = (folder / "root" / KMSG).read_text()
        truth = read_truth(log, (folder / "truth.txt").read_text().splitlines())
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise KernelTestError(f"{folder}: not a kept boot: {error}") from None
    return Case(guest, about["series"], about["version"], folder / "root", truth)


def load_run(folder: Path) -> list[Case]:
    """All boots of a run, by number."""
    return [load(entry.parent) for entry in sorted(folder.glob("[0-9]*/map.json"))]


def clear(folder: Path) -> None:
    """Remove the boots that are kept in the folder, and the data made of them."""
    for entry in folder.glob("[0-9]*/map.json"):
        shutil.rmtree(entry.parent)
    (folder / "results.jsonl").unlink(missing_ok=True)


def pack(folder: Path, archive: Path) -> None:
    """Put a run into one xz-compressed file, a boot a line; the same boots give the same file."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    with lzma.open(archive, "wt", preset=9 | lzma.PRESET_EXTREME, encoding="utf-8") as out:
        for entry in sorted(folder.glob("[0-9]*/map.json")):
            out.write(json.dumps(_packed(entry.parent), sort_keys=True) + "\n")


def unpack(archive: Path, folder: Path) -> None:
    """Lay the boots of such a file out below ``folder``."""
    with lzma.open(archive, "rt", encoding="utf-8") as rows:
        for row in map(json.loads, rows):
            files = {path: text.encode() for path, text in row["files"].items()}
            write_root(Dump(files, row["links"]), folder / row["name"])


def _packed(folder: Path) -> dict[str, Any]:
    files: dict[str, str] = {}
    links: dict[str, str] = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            links[name] = str(path.readlink())
        elif path.is_file():
            files[name] = path.read_text()
    return {"name": folder.name, "files": files, "links": links}


def _guest(value: dict[str, Any]) -> GuestMap:
    module = dict(value["module"])
    module["pamt_entry_size"] = tuple(module["pamt_entry_size"])
    if module["cmrs"] is not None:
        module["cmrs"] = tuple((start, end) for start, end in module["cmrs"])
    lists = {key: tuple(value[key]) for key in ("nodes", "dimms", "arguments")}
    return GuestMap(**{**value, **lists, "module": Module(**module)})
