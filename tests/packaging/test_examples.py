# SPDX-License-Identifier: Apache-2.0
"""The examples that reboot hosts, without rebooting any."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tdx_headroom.cli import command_parser

EXAMPLES = Path(__file__).parents[2] / "packaging" / "examples"
Json = dict[str, Any]


def play() -> Json:
    plays: list[Json] = yaml.safe_load((EXAMPLES / "reboot.yml").read_text("utf-8"))
    assert len(plays) == 1
    return plays[0]


def tasks() -> dict[str, Json]:
    return {task["name"]: task for task in play()["tasks"]}


def words(task: Json) -> list[str]:
    """The command of a task, about the host itself."""
    argv = task["ansible.builtin.command"]["argv"]
    if isinstance(argv, str):
        listed = argv.removeprefix("{{ ").removesuffix(" + tdx_input }}")
        argv = yaml.safe_load(listed.replace("'", '"'))
    return [str(word) for word in argv]


def test_the_commands_are_understood() -> None:
    """Every command of ours in the play is one that the agent takes."""
    commands = [words(task) for task in tasks().values() if "ansible.builtin.command" in task]
    ours = [command for command in commands if command[0] == "tdx-headroom"]
    assert [command[1] for command in ours] == ["boots", "boots", "check"]
    for command in ours:
        command_parser().parse_args(command[1:])


def test_it_asks_before_it_reboots() -> None:
    """The one task that reboots comes after the one that refuses; what asks is asked in check mode too."""
    names = list(tasks())
    assert names.index("Refuse to reboot") < names.index("Reboot")
    assert [name for name, task in tasks().items() if "ansible.builtin.reboot" in task] == ["Reboot"]
    for task in tasks().values():
        if "ansible.builtin.command" in task:
            assert (task["check_mode"], task["changed_when"]) == (False, False)


def test_one_host_after_the_other() -> None:
    """A host that is refused stops the play before the next one."""
    assert (play()["serial"], play()["max_fail_percentage"]) == (1, 0)


@pytest.mark.parametrize("status", [0, 1, 2, 3])
def test_every_status_has_words(status: int) -> None:
    """Each status of `boots` is expected, and each that refuses has its words."""
    expected = tasks()["Ask what becomes of TDX in the next boot"]["failed_when"]
    assert "not in [0, 1, 2, 3] or not tdx_boots.stdout" in expected
    assert bool(play()["vars"]["tdx_words"][status]) is (status > 0)


@pytest.mark.parametrize("waits", [True, False])
@pytest.mark.parametrize("status", [0, 1, 2, 3])
def test_the_script(tmp_path: Path, status: int, waits: bool) -> None:  # noqa: FBT001
    """It reboots only a host that waits for a reboot and keeps TDX, and else ends as `boots` does."""
    for name, script in {
        "tdx-headroom": f'echo "$@" >> {tmp_path}/asked; exit {status}',
        "systemctl": f'echo "$@" >> {tmp_path}/rebooted',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    flag = tmp_path / "reboot-required"
    if waits:
        flag.touch()
    run = subprocess.run(
        ["sh", EXAMPLES / "tdx-reboot"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "REBOOT_REQUIRED": str(flag)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == (status if waits else 0)
    assert (tmp_path / "rebooted").exists() is (waits and status == 0)
    assert (tmp_path / "asked").exists() is waits
    assert ("no reboot" in run.stderr) is (waits and status > 0)
    if waits:
        (asked,) = (tmp_path / "asked").read_text().splitlines()
        command_parser().parse_args(asked.split())
