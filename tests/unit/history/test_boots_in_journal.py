# SPDX-License-Identifier: Apache-2.0
"""The journal is read from its newest boot on: what is left out is the oldest, and none is told in part."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest
from tests.unit.history.journals import Boot, fake_journalctl

from tdx_headroom.errors import SourceError
from tdx_headroom.inputs import journal
from tdx_headroom.inputs.journal import boots_in_journal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FOREVER = "exec /bin/sleep 600"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the only journalctl is."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def ids(seconds: float = 60.0) -> list[str | None]:
    """Of the boots that are found."""
    return [boot.boot_id for boot in boots_in_journal(seconds)]


def test_the_oldest_comes_first(folder: Path) -> None:
    """Though the newest is read first; each is asked for once."""
    boots = [Boot(number) for number in (1, 2, 3)]
    fake_journalctl(folder, *boots, each=f"echo $id >>{folder}/asked")
    assert ids() == [boot.id for boot in boots]
    assert (folder / "asked").read_text().split() == [boot.id for boot in reversed(boots)]


def test_time_runs_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read by then is the newest boots; the one that was being read is not among them."""
    boots = [Boot(number) for number in (1, 2, 3)]
    begun = folder / "begun"
    stop = f"/bin/head -n 20 {folder}/$id; : >{begun}; {FOREVER}"
    fake_journalctl(folder, *boots, each=f"test $id != {boots[1].id} || {{ {stop}; }}")

    class Clock(threading.Thread):
        """Runs out when the second one has begun."""

        def __init__(self, _: float, ends: Callable[[], None]) -> None:
            super().__init__()
            self._ends = ends
            self._cancelled = threading.Event()
            self.cancel = self._cancelled.set

        def run(self) -> None:
            while not self._cancelled.wait(0.01):
                if begun.exists():
                    self._ends()

    monkeypatch.setattr(threading, "Timer", Clock)
    assert ids() == [boots[2].id]


def test_it_does_not_say_which_boots_there_are(folder: Path) -> None:
    """It ends in time, with none."""
    fake_journalctl(folder, Boot(1))
    (folder / "journalctl").write_text(f"#!/bin/sh\n{FOREVER}\n")
    assert ids(0.1) == []


def test_a_boot_that_ends_with_an_error(folder: Path) -> None:
    """Whatever was printed of it may not be all: it is left out, and what is older with it."""
    fake_journalctl(
        folder,
        Boot(1),
        Boot(2),
        Boot(3),
        each=f"test $id != {Boot(2).id} || {{ /bin/cat {folder}/$id; exit 1; }}",
    )
    assert ids() == [Boot(3).id]


def test_very_many_boots(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many are read as an agent keeps, the newest."""
    monkeypatch.setattr(journal, "MAX_BOOTS", 3)
    boots = [Boot(number) for number in range(9)]
    fake_journalctl(folder, *boots)
    assert ids() == [boot.id for boot in boots[-3:]]


def test_an_old_journalctl(folder: Path) -> None:
    """It prints messages where it is asked for ids: that is said, and nothing is made of them."""
    fake_journalctl(folder, Boot(1))
    (folder / "ids").write_text("Linux version 4.18.0\n")
    with pytest.raises(SourceError, match="247"):
        ids()


def test_no_journal(folder: Path) -> None:
    """None is no error, neither of a program nor of its files; one that cannot be run is."""
    assert ids() == []
    (folder / "journalctl").write_text("#!/bin/sh\nexit 1\n")
    (folder / "journalctl").chmod(0o755)
    assert ids() == []
    (folder / "journalctl").write_text("#!/nowhere\n")
    with pytest.raises(SourceError, match="cannot be run"):
        ids()


def test_nothing_is_left_behind(folder: Path) -> None:
    """Neither of the two that run at a time outlives the look, whatever ends it."""
    fake_journalctl(folder, Boot(1), each=f"echo $$ >>{folder}/pids; echo no JSON; {FOREVER}")
    text = (folder / "journalctl").read_text()
    (folder / "journalctl").write_text(
        text.replace("exec /bin/cat", f"echo $$ >>{folder}/pids; /bin/cat", 1).replace(
            " ;;", f"; {FOREVER} ;;", 1
        )
    )
    with pytest.raises(SourceError, match="JSON"):
        ids()
    found = [int(pid) for pid in (folder / "pids").read_text().split()]
    assert len(found) == 2
    for pid in found:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
