# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tdx_headroom.service.folder_watch import FolderWatch

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

SECONDS = 30


def test_a_file_that_is_put_in_place_wakes(tmp_path: Path) -> None:
    """A file that is renamed into the folder, or over another one there, is noticed."""

    async def watch() -> None:
        woken = asyncio.Event()
        folder = tmp_path / "run"
        folder.mkdir()
        with FolderWatch(str(folder), asyncio.get_running_loop(), woken.set):
            for number in range(3):
                (folder / ".new").write_text(str(number))
                (folder / ".new").rename(folder / "boots.json")
                await asyncio.wait_for(woken.wait(), SECONDS)
                woken.clear()

    asyncio.run(watch())


def test_a_folder_that_comes_later_or_again(tmp_path: Path) -> None:
    """A folder that was not there, or is another one now, is watched once it is renewed."""

    async def watch() -> None:
        woken = asyncio.Event()
        folder = tmp_path / "run"
        with FolderWatch(str(folder), asyncio.get_running_loop(), woken.set) as watching:
            for number in range(2):
                folder.mkdir()
                watching.renew()
                woken.clear()
                (folder / "boots.json").write_text("{}")
                await asyncio.wait_for(woken.wait(), SECONDS)
                folder.rename(tmp_path / f"old{number}")

    asyncio.run(watch())


def test_a_file_that_is_taken_away_wakes(tmp_path: Path) -> None:
    """So does another owner: what was believed before must not be now."""

    async def watch() -> None:
        woken = asyncio.Event()
        file = tmp_path / "boots.json"
        file.write_text("{}")
        with FolderWatch(str(tmp_path), asyncio.get_running_loop(), woken.set):
            for gone in (False, True):
                file.unlink() if gone else file.chmod(0o600)
                await asyncio.wait_for(woken.wait(), SECONDS)
                woken.clear()

    asyncio.run(watch())


def test_without_inotify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel refuses it, the agent goes on without."""
    monkeypatch.setattr("ctypes.CDLL", lambda *_, **__: Refuses())

    async def watch() -> None:
        with FolderWatch(str(tmp_path), asyncio.get_running_loop(), lambda: None) as watching:
            watching.renew()

    asyncio.run(watch())


class Refuses:
    def inotify_init1(self, _: int) -> int:
        return -1
