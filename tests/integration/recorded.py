# SPDX-License-Identifier: Apache-2.0
"""What the agent did under each fault, for docs/reliability.md."""

from __future__ import annotations

ROWS: dict[str, tuple[str, str]] = {}
"""By fault: what the agent did, and whether it recovered; filled by the tests as they pass."""


def record(fault: str, did: str, recovered: str = "yes") -> None:
    """Note a fault that was injected into the running agent, and what came of it."""
    ROWS[fault] = (did, recovered)
