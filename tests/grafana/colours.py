# SPDX-License-Identifier: Apache-2.0
"""What the agent's words and figures look like on the dashboards: a colour for each value of its enums."""

from __future__ import annotations

from typing import Any

from tdx_headroom.facts.host_facts import Limits
from tdx_headroom.facts.kernel_report import ModuleState
from tdx_headroom.plan import Outcome
from tdx_headroom.verdict import State
from tdx_headroom.verdict.findings import Severity
from tdx_headroom.verdict.model import AT_RISK_HEADROOM

Json = dict[str, Any]

GOOD, WARN, BAD, UNKNOWN, PLAIN, NONE = "green", "orange", "red", "blue", "text", "transparent"
NO_TDX = "#7b8087"
"""Grey, of which Grafana has no name."""

ALERT_SEVERITIES = ("critical", "warning", "info")
"""The worst first."""

WORDS: dict[str, dict[str, str]] = {
    "verdict": {
        State.INITIALIZED: GOOD,
        State.WILL_INITIALIZE: GOOD,
        State.AT_RISK: WARN,
        State.WILL_FAIL: BAD,
        State.FAILED: BAD,
        State.CANNOT_TELL: UNKNOWN,
        State.NOT_TDX: NO_TDX,
    },
    "state": {
        ModuleState.INITIALIZED: GOOD,
        ModuleState.FAILED: BAD,
        ModuleState.NOT_ATTEMPTED: NO_TDX,
        ModuleState.UNSUPPORTED: NO_TDX,
        ModuleState.UNKNOWN: UNKNOWN,
    },
    "outcome": {outcome: GOOD if outcome is Outcome.OK else BAD for outcome in Outcome},
    "severity": {
        Severity.FAILS: BAD,
        Severity.RISK: WARN,
        Severity.NOTE: UNKNOWN,
        **dict(zip(ALERT_SEVERITIES, (BAD, WARN, UNKNOWN), strict=True)),
    },
}
"""Colours of a label's values, by label; severities are those of findings and of alerts."""


def words(label: str) -> list[Json]:
    """Value mappings that colour each value of a label and leave it as it is."""
    colours = WORDS[label].items()
    options = {str(word): {"color": to, "index": index} for index, (word, to) in enumerate(colours)}
    return [{"type": "value", "options": options}]


def yes_no(*, yes: str, no: str) -> list[Json]:
    """Value mappings of 1 and 0, in these colours."""
    answers = {"1": {"text": "yes", "color": yes, "index": 0}, "0": {"text": "no", "color": no, "index": 1}}
    return [{"type": "value", "options": answers}]


def thresholds(*steps: tuple[float, str], base: str) -> Json:
    """Colours from a value on."""
    return {
        "mode": "absolute",
        "steps": [{"value": None, "color": base}, *({"value": at, "color": to} for at, to in steps)],
    }


LIMIT = Limits().max_reserved_per_tdmr
"""Reserved areas that a TDMR may have."""

NEEDED = thresholds((0, GOOD), (LIMIT - AT_RISK_HEADROOM, WARN), (LIMIT + 1, BAD), base=PLAIN)


def headroom(unknown: str) -> Json:
    """Thresholds of reserved areas left. What is unknown has the colour below the first step: never red."""
    return thresholds((-1_000_000, BAD), (0, WARN), (AT_RISK_HEADROOM + 1, GOOD), base=unknown)


ANY_IS_BAD = thresholds((1, BAD), base=NONE)
ANY_IS_A_WARNING = thresholds((1, WARN), base=NONE)
NEUTRAL = thresholds(base=PLAIN)
QUIET = thresholds(base=NONE)
