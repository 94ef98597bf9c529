# SPDX-License-Identifier: Apache-2.0
"""Goes through the steps of a loader: does, asks, reboots, compares."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.reboots.compare import Foretold, compare, pamts_elsewhere, read_foretold
from tests.reboots.places import evidence_folder
from tests.reboots.told import other_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.reboots.guest import Came
    from tests.reboots.steps import Context, Step


@dataclass(frozen=True, slots=True)
class Result:
    """One step.

    Args:
        loader: its name.
        number: of the step.
        step: what was done.
        foretold: by the agent, before the reboot.
        came: what the boot was; None where none was made.
        differences: between the two, and from what the step's author expects.
        seconds: for the action, for the answer, for the reboot.
    """

    loader: str
    number: int
    step: Step
    foretold: Foretold
    came: Came | None
    differences: tuple[str, ...]
    seconds: tuple[float, float, float]
    notes: tuple[str, ...] = field(default=())

    @property
    def outcome(self) -> str:
        """In a word, what the report counts."""
        if self.differences:
            return "WRONG"
        return {"at-risk": "at risk", "cannot-tell": "cannot tell"}.get(self.foretold.verdict, "right")


def go(loader: str, steps: Sequence[Step], context: Context) -> list[Result]:
    """All steps, one after the other in the same guest; prints a line for each."""
    results: list[Result] = []
    boot = context.guest.look().boot
    for number, step in enumerate(steps, 1):
        result = _go(loader, number, step, context, boot)
        boot = boot if result.came is None else result.came.boot
        results.append(result)
        print(line(result), flush=True)
    return results


def line(result: Result) -> str:
    """A step for people: action, foretold, came, seconds."""
    foretold, came = result.foretold, result.came
    left = "" if foretold.headroom is None else f", {foretold.headroom} left"
    text = f"{result.loader} {result.number:2} {result.outcome}: {result.step.action}: foretold "
    text += f"{foretold.release or 'no kernel'} {foretold.verdict}{left}"
    if came is not None:
        text += f"; came {came.release} {'up' if came.up else 'not up'}"
    text += "; {:.0f} + {:.0f} + {:.0f} s".format(*result.seconds)
    return "\n  ".join([text, *result.differences])


def _go(loader: str, number: int, step: Step, context: Context, boot: str) -> Result:
    guest = context.guest
    started = time.monotonic()
    said = step.act(context)
    acted = time.monotonic()
    answer = guest.ask()
    foretold, differences = read_foretold(answer)
    asked = time.monotonic()
    differences += _expected(step, foretold)
    differences += other_words(guest, step, said, foretold)
    files = guest.keep()
    came, took = None, 0.0
    if step.reboots:
        took = guest.reboot()
        came = guest.look()
        if came.boot == boot:
            differences.append("no reboot: the boot's id is the same")
        differences += compare(foretold, came)
        if (came.release, came.up) != (context.release(step.comes), step.up):
            expected = f"{context.release(step.comes)} {'up' if step.up else 'not up'}"
            differences.append(f"the step is to lead to {expected}, came {came.release}, up: {came.up}")
    if differences:
        _keep(loader, number, answer, files, came, [*differences, said])
    elsewhere = 0 if came is None else pamts_elsewhere(foretold, came)
    notes = (f"PAMTs elsewhere than predicted in {elsewhere} TDMRs",) if elsewhere else ()
    seconds = (acted - started, asked - acted, took)
    return Result(loader, number, step, foretold, came, tuple(differences), seconds, notes)


def _expected(step: Step, foretold: Foretold) -> list[str]:
    if step.verdicts is None:
        wrong = foretold.verdict in ("cannot-tell", "not-tdx")
        return [f"it tells {foretold.verdict}: {foretold.why}"] if wrong else []
    if foretold.verdict not in step.verdicts:
        return [f"it tells {foretold.verdict}, not {' or '.join(step.verdicts)}: {foretold.why}"]
    return []


def _keep(
    loader: str,
    number: int,
    answer: dict[str, Any],
    files: bytes,
    came: Came | None,
    words: Sequence[str],
) -> None:
    """Keep what shows a difference."""
    folder = evidence_folder() / f"{loader}-{number:02}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "foretold.json").write_text(json.dumps(answer, indent=1) + "\n")
    (folder / "differences").write_text("\n".join(words) + "\n")
    (folder / "boot.tar.gz").write_bytes(files)
    if came is not None:
        (folder / "came").write_text(f"{came}\n")
