# SPDX-License-Identifier: Apache-2.0
"""All steps of a run as a table, with what it was made with."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.reboots.run import Result

HEAD = "| loader | | action | foretold | came | seconds | |\n| --- | --- | --- | --- | --- | --- | --- |\n"


def report(results: Sequence[Result], versions: Mapping[str, str]) -> str:
    """Markdown.

    Args:
        results: of all loaders.
        versions: of what the guests were made of, by name.
    """
    lines = [f"# Reboots, {datetime.now(UTC):%Y-%m-%d}\n", "", summary(results), ""]
    lines += [f"* {name}: {version}" for name, version in versions.items()]
    lines += ["* Nothing is random: no seed. Seconds: action + answer + reboot", "", HEAD.rstrip()]
    return "\n".join([*lines, *map(_row, results)]) + "\n"


def summary(results: Sequence[Result]) -> str:
    """How many reboots came as foretold."""
    rebooted = [result for result in results if result.came is not None]
    counted = Counter(result.outcome for result in rebooted)
    text = ", ".join(f"{count} {outcome}" for outcome, count in counted.most_common())
    other = [result for result in results if result.came is None]
    wrong = sum(result.outcome == "WRONG" for result in other)
    return f"{len(rebooted)} reboots: {text}; {len(other)} steps without one, {wrong} wrong"


def _row(result: Result) -> str:
    foretold, came = result.foretold, result.came
    left = "" if foretold.headroom is None else f", {foretold.headroom} left"
    said = f"{foretold.release or 'no kernel'}, {foretold.verdict}{left}"
    was = "no reboot" if came is None else f"{came.release}, {'up' if came.up else 'not up'}"
    seconds = " + ".join(f"{value:.0f}" for value in result.seconds)
    notes = "; ".join([result.outcome, *result.differences, *result.notes]).replace("|", "\\|")
    cells = (result.loader, str(result.number), result.step.action, said, was, seconds, notes)
    return "| " + " | ".join(cells) + " |"
