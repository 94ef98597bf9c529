# SPDX-License-Identifier: Apache-2.0
"""The process that takes the inventory of boot entries where the agent was started as root by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tdx_headroom import log
from tdx_headroom.service import taken_as_root

if TYPE_CHECKING:
    from collections.abc import Callable

EMPTY = '{"schema": "tdx-headroom/boots/1", "taken": {"boot_id": "b", "state": {}}, "entries": []}'


@pytest.fixture
def warned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Errors that are logged."""
    found: list[str] = []

    class Logger:
        def warning(self, _event: str, *, error: str) -> None:
            found.append(error)

    monkeypatch.setattr(log, "get", Logger)
    return found


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str | None]:
    """What is taken by a script in the place of the process."""

    def take(script: str) -> str | None:
        command = ["/bin/sh", "-c", script] if script else ["/nowhere"]
        monkeypatch.setattr(taken_as_root, "child_command", lambda *_: command)
        return taken_as_root.inventory_as_root("/")

    return take


def test_it_is_taken_as_it_stands(taken: Callable[[str], str | None], warned: list[str]) -> None:
    """To the letter, as the agent parses it again."""
    assert taken(f"echo '{EMPTY}'") == f"{EMPTY}\n"
    assert not warned


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("exec yes", "they are more than 4 MiB"),
        ("echo no; echo why >&2; exit 1", "why"),
        ("exit 3", "exit status 3"),
        ("kill -9 $$", "exit status -9"),
        ("echo '{'", "JSON"),
        ("printf '\\377'", "utf-8"),
        ("", "No such file or directory"),
    ],
)
def test_it_cannot_be_taken(
    script: str, why: str, taken: Callable[[str], str | None], warned: list[str]
) -> None:
    """One line says why, and the agent starts without it."""
    assert taken(script) is None
    (error,) = warned
    assert why in error


def test_it_takes_too_long(
    taken: Callable[[str], str | None], warned: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is ended, whatever it waits for."""
    monkeypatch.setattr(taken_as_root, "SECONDS", 0.1)
    assert taken("exec sleep 600") is None
    assert warned == ["they took longer than 0.1 s"]
