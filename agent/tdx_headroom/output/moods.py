# SPDX-License-Identifier: Apache-2.0
"""How good a verdict is, for the page's colours and signs."""

from __future__ import annotations

from tdx_headroom.verdict import State

MOODS = {
    State.WILL_INITIALIZE: "good",
    State.INITIALIZED: "good",
    State.AT_RISK: "warn",
    State.CANNOT_TELL: "warn",
    State.WILL_FAIL: "bad",
    State.FAILED: "bad",
    State.NOT_TDX: "none",
}
WORSE = ("none", "good", "warn", "bad")
"""The worst last."""
