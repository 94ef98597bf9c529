# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

from tdx_headroom.service.folder_watch import FolderWatch

if TYPE_CHECKING:
    from pathlib import Path

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


def test_no_signal_ends_the_process_afterwards(tmp_path: Path) -> None:
    """One that was on its way when the watch ended is ignored."""

    async def watch() -> None:
        with FolderWatch(str(tmp_path), asyncio.get_running_loop(), lambda: None):
            pass

    asyncio.run(watch())
    os.kill(os.getpid(), signal.SIGIO)
