# SPDX-License-Identifier: Apache-2.0
"""A test of many steps, one after the other, each with a line of its own: what was found, and its seconds."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from tests.kernel.tools import KernelTestError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SECONDS = 120.0
"""What a loaded machine may take for what takes one or two."""


class CheckError(KernelTestError):
    """A check has failed."""


def expect(what: str, is_so: object) -> None:
    """Raise CheckError with these words unless it is so."""
    if not is_so:
        raise CheckError(what)


def say(test: str, what: str, began: float, said: str = "") -> None:
    """The line of a step that went well; it began at this monotonic time."""
    text = f"{what}: {said}" if said else what
    print(f"{test}: {text} ({time.monotonic() - began:.1f} s)", flush=True)


def run_steps(test: str, steps: Mapping[str, Callable[[], str | None]]) -> bool:
    """Run steps in their order until a check fails; whether none did."""
    for what, step in steps.items():
        began = time.monotonic()
        try:
            say(test, what, began, step() or "")
        except CheckError as error:
            print(f"{test}: FAILED: {what}: {error}", file=sys.stderr)
            return False
    return True


def wait_for(what: str, get: Callable[[], object], seconds: float = SECONDS) -> None:
    """Ask again and again until the answer is something; a failing program is no answer.

    Raises:
        KernelTestError: there was none in time.
    """
    end = time.monotonic() + seconds
    while True:
        why = ""
        try:
            if get():
                return
        except KernelTestError as error:
            why = f": {error}"
        if time.monotonic() > end:
            raise KernelTestError(f"no {what} within {seconds:.0f} s{why}")
        time.sleep(0.2)
