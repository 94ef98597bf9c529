# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import json
import os
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from tdx_headroom.errors import SourceError
from tdx_headroom.facts.observations import TdxSeen
from tdx_headroom.service import journal
from tdx_headroom.service.boot_before import tdx_of_boot_before
from tdx_headroom.service.journal import read_journal

if TYPE_CHECKING:
    from pathlib import Path

ENTRY = (
    '{"_TRANSPORT": "kernel", "_BOOT_ID": "a", "PRIORITY": "6", "SYSLOG_FACILITY": "0",'
    ' "_SOURCE_MONOTONIC_TIMESTAMP": "1500", "MESSAGE": "virt/tdx: module initialized"}'
)


@pytest.fixture
def journalctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place of the only journalctl there is."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path / "journalctl"


def program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def test_records(journalctl: Path) -> None:
    """What journalctl prints are the records of this boot."""
    program(journalctl, f"#!/bin/sh\necho '{ENTRY}'\n")
    assert asyncio.run(read_journal()) == [(6, 1500, "virt/tdx: module initialized")]


def test_it_learns_nothing_of_the_agent(
    journalctl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """journalctl gets a path and a language, no other variable, and no descriptor but its own three."""
    for name in ("TOKEN", "NOTIFY_SOCKET", "WATCHDOG_USEC", "SYSTEMD_PAGER", "LD_LIBRARY_PATH"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.delenv("LANG", raising=False)
    held = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(held, True)
    list_them = f"/usr/bin/env > {tmp_path}/variables; /bin/ls -l /proc/$$/fd > {tmp_path}/descriptors"
    program(journalctl, f"#!/bin/sh\n{list_them}; pwd > {tmp_path}/folder\n")
    try:
        assert asyncio.run(read_journal()) == []
    finally:
        os.close(held)
    variables = {line.partition("=")[0] for line in (tmp_path / "variables").read_text().splitlines()}
    assert variables - {"PWD", "OLDPWD", "SHLVL", "_"} == {"PATH", "LC_ALL"}
    assert f"-> {tmp_path}\n" not in (tmp_path / "descriptors").read_text()
    assert (tmp_path / "folder").read_text() == "/\n"


@pytest.mark.usefixtures("journalctl")
def test_no_journalctl() -> None:
    """Without journalctl there is no journal, and nothing is wrong."""
    assert asyncio.run(read_journal()) is None


def test_no_journal(journalctl: Path) -> None:
    """A journalctl that finds no journal ends with an error."""
    program(journalctl, "#!/bin/sh\nexit 1\n")
    assert asyncio.run(read_journal()) is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("\x7fELF and nothing else", "journalctl cannot be run: Exec format error"),
        ("#!/bin/sh\necho hello\n", "not a journal entry in JSON"),
    ],
)
def test_a_journalctl_of_no_use(text: str, problem: str, journalctl: Path) -> None:
    """It is a source that fails, no end of the agent's start."""
    program(journalctl, text)
    with pytest.raises(SourceError, match=problem):
        asyncio.run(read_journal())


def shell(path: Path, command: str) -> None:
    program(path, f"#!/bin/sh\nPATH=/usr/bin:/bin\nexec {command}\n")


def read_in_time() -> list[tuple[int, int, str]] | None:
    """Fails where it would wait for ever."""

    async def limited() -> list[tuple[int, int, str]] | None:
        async with asyncio.timeout(60):
            return await read_journal()

    return asyncio.run(limited())


def test_a_journalctl_that_goes_on_and_on(journalctl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is ended, and whatever it has written meanwhile, nobody waits for it any longer."""
    monkeypatch.setattr(journal, "SECONDS", 0.3)
    shell(journalctl, "yes '{}'")
    for _ in range(4):
        with pytest.raises(SourceError, match="took more than"):
            read_in_time()


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        (f'yes \'{{"MESSAGE": "{"x" * 2000}"}}\'', "more than 2 MiB for one boot"),
        ("cat /dev/zero", "a line of more than 1 MiB"),
    ],
)
def test_a_journalctl_that_says_too_much(
    command: str, problem: str, journalctl: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is ended, in the whole and in a single line."""
    monkeypatch.setattr(journal, "MAX_OUTPUT", 2 << 20)
    shell(journalctl, command)
    with pytest.raises(SourceError, match=problem):
        read_in_time()


def test_a_long_journal(journalctl: Path, tmp_path: Path) -> None:
    """It is not held in memory as a whole: the unit limits the agent to 256 MiB."""
    line = ENTRY.replace("kernel", "audit").replace("virt", "x" * 4000)
    (tmp_path / "entries").write_text(f"{line}\n" * 4000)
    shell(journalctl, f"cat {tmp_path}/entries")
    tracemalloc.start()
    try:
        assert read_in_time() == []
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()


def entries(*messages: str) -> str:
    entry = json.loads(ENTRY)
    return "".join(json.dumps({**entry, "MESSAGE": message}) + "\n" for message in messages)


KEYIDS = "virt/tdx: BIOS enabled: private KeyID range [32, 64)"


@pytest.mark.parametrize(
    ("messages", "seen"),
    [
        ((KEYIDS, "virt/tdx: module initialized"), TdxSeen.UP),
        ((KEYIDS, "virt/tdx: module initialization failed (-28)"), TdxSeen.FAILED),
        ((KEYIDS,), TdxSeen.NOT_TRIED),
        (("Linux version 6.12.0 (x)",), None),
        ((), None),
    ],
)
def test_the_boot_before(
    journalctl: Path, tmp_path: Path, messages: tuple[str, ...], seen: TdxSeen | None
) -> None:
    """What its kernel log shows of TDX; of this boot's, nothing is asked."""
    (tmp_path / "before").write_text(entries(*messages))
    asked = f'case "$*" in *--boot=-1*) exec cat {tmp_path}/before;; esac'
    program(journalctl, f"#!/bin/sh\nPATH=/usr/bin:/bin\n{asked}\nexit 1\n")
    assert asyncio.run(tdx_of_boot_before()) is seen


@pytest.mark.parametrize("text", ["echo no JSON", "false"])
def test_no_boot_before(journalctl: Path, text: str) -> None:
    """Without a journal of it nothing is known, and nothing ends."""
    shell(journalctl, text)
    assert asyncio.run(tdx_of_boot_before()) is None
