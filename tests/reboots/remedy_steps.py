# SPDX-License-Identifier: Apache-2.0
"""Steps that paste what ``tdx-headroom remedy`` prints, on the low memory map of an Emerald Rapids host.

The map is built anew with ``memmap=exactmap``: TDX fails under it, comes up with the remedy, and fails again
after the way back.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.reboots.grub_steps import edit, line
from tests.reboots.places import HERE
from tests.reboots.steps import Step, sh
from tests.reboots.systemd_boot_steps import ADD, command_line, options
from tests.vm.machine import GuestError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.reboots.steps import Context

IOMEM = HERE.parent / "hosts/emerald-rapids/proc/iomem"
FOUR_GIB = 1 << 32
ABOVE = "1G@4G"
"""The guest's memory above 4 GiB, where PAMTs go."""

UNDO = "/root/undo"


def emerald_rapids() -> list[str]:
    """The host's memory below 4 GiB as arguments."""
    pieces = []
    for match in re.finditer(r"^(\w+)-(\w+) : System RAM$", Path(IOMEM).read_text(), re.MULTILINE):
        start, last = (int(number, 16) for number in match.groups())
        if start < FOUR_GIB:
            pieces.append(f"{(last + 1 - start) >> 10}K@{start:#x}")
    return [f"memmap=exactmap,{','.join([*pieces, ABOVE])}"]


def paste(number: int = 0) -> Callable[[Context], str]:
    """Type what is printed for a remedy, as root; the way back is kept for later.

    Args:
        number: of the remedy, among those that have commands.
    """

    def act(context: Context) -> str:
        answer = _ask(context)
        steps = [remedy["steps"] for remedy in answer["remedies"] if remedy["steps"] is not None]
        if number >= len(steps):
            raise GuestError(f"{len(steps)} remedies with commands: {json.dumps(answer)[:2000]}")
        context.guest.machine.write(UNDO, "\n".join(["set -e", *steps[number]["undo"]]).encode())
        context.guest.machine.write("/root/apply", "\n".join(["set -e", *steps[number]["apply"]]).encode())
        return context.guest.run("bash /root/apply 2>&1")

    return act


def take_back(context: Context) -> str:
    """Type the way back, on a host that knows its remedy on the line."""
    answer = _ask(context)
    if not answer["in_place"]:
        raise GuestError(f"the remedy on the line is not known: {json.dumps(answer)[:2000]}")
    return context.guest.run(f"bash {UNDO} 2>&1")


def _ask(context: Context) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(context.guest.run("tdx-headroom remedy --format json"))
    return answer


def _there_and_back(first: Step, again: str, *, room: int) -> tuple[Step, ...]:
    return (
        first,
        Step(f"the first remedy as printed, {again}", paste(), "7.3", up=True, quick=True),
        Step("the way back as printed", take_back, "7.3", up=False, quick=True),
        Step("the remedy with room to spare", paste(room), "7.3", up=True),
    )


_LOW = emerald_rapids()
_FAILS = "Emerald Rapids' low map by memmap=exactmap"
STEPS = {
    "grub": _there_and_back(
        Step(f"{_FAILS}, update-grub", edit(line(*_LOW)), "7.3", up=False, quick=True), "update-grub", room=1
    ),
    "systemd-boot": (
        *_there_and_back(
            Step(f"{_FAILS} in the entry", options(*_LOW), "7.3", up=False, quick=True), "no command", room=1
        ),
        Step(
            "/etc/kernel/cmdline with the map and no remedy, kernel-install add",
            sh(f"{command_line(*_LOW)} && {ADD}"),
            "7.3",
            up=False,
        ),
        Step(
            "the remedy's words at its end too, kernel-install add",
            lambda context: sh(f"{command_line(*_LOW, _words(context))} && {ADD}")(context),
            "7.3",
            up=True,
        ),
    ),
    "uki": _there_and_back(
        Step(
            f"{_FAILS} in /etc/kernel/cmdline, kernel-install add",
            sh(f"{command_line(*_LOW)} && {ADD}"),
            "7.3",
            up=False,
            quick=True,
        ),
        "kernel-install add",
        room=1,
    ),
}


def _words(context: Context) -> str:
    """The first remedy's arguments, as text on the terminal has them."""
    remedies = _ask(context)["remedies"]
    return " ".join(next(remedy["lines"]["cmdline-file"] for remedy in remedies if remedy["lines"]).split())
