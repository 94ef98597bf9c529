# SPDX-License-Identifier: Apache-2.0
"""The checks as text for a person, and as JSON: ``tdx-headroom/check/1``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tdx_headroom.output.plan_json import verdict_to_json
from tdx_headroom.verdict import State
from tdx_headroom.verdict.check_model import Check, Result

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tdx_headroom.output.terminal import Style
    from tdx_headroom.verdict.assessment import Assessment
    from tdx_headroom.verdict.checks import Status

SCHEMA = "tdx-headroom/check/1"

_ROOMY = 72
"""From how many columns on sentences stand beside the names of their checks."""
_LIKE = {Result.PASS: State.INITIALIZED, Result.WARN: State.AT_RISK, Result.FAIL: State.WILL_FAIL}


def check_text(checks: Sequence[Check], status: Status, style: Style, *, short: bool) -> str:
    """A line a check, groups apart, hints below; ``short`` leaves out what passed or was skipped."""
    lines = []
    group = None
    for check in checks:
        if short and check.result in (Result.PASS, Result.SKIP) and check.group != "verdict":
            continue
        if check.group != group:
            group = check.group
            lines.append(group)
        lines += _check(check, style)
    return "\n".join([*lines, f"status: {status}"]) + "\n"


def _check(check: Check, style: Style) -> Iterator[str]:
    """What came of a check, and the hint below it."""
    word = f"{check.result:<4}"
    roomy = style.width >= _ROOMY
    start = f"  {word}  {check.name:<15}  " if roomy else f"  {word}  {check.name}: "
    indent = " " * (len(start) if roomy else 8)
    yield from style.wrapped_verdict(f"{start}{check.message}", word, _LIKE.get(check.result), "", indent)
    if check.hint is not None and check.result in (Result.WARN, Result.FAIL):
        yield from style.wrapped(check.hint, indent, indent)


def check_json(assessment: Assessment, checks: Sequence[Check], status: Status) -> dict[str, Any]:
    """All checks, and the verdict that they lead to."""
    return {
        "schema": SCHEMA,
        "host": assessment.facts.host,
        "status": str(status),
        "checks": [
            {
                "group": check.group,
                "name": check.name,
                "result": str(check.result),
                "message": check.message,
                "hint": check.hint,
            }
            for check in checks
        ],
        "verdict": verdict_to_json(assessment.verdict),
    }
