# SPDX-License-Identifier: Apache-2.0
"""Which tests go to one process, where several share them (pytest-xdist)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    import pytest
    from xdist.remote import Producer

FAULTS = (
    "as_root",
    "hard_to_kill",
    "live",
    "reliability",
    "web_load",
    "web_reload",
    "written_pages",
)
"""Modules of tests/integration that inject faults, and the one that compares the outcome with its page."""


class ByModule(LoadScopeScheduling):  # type: ignore[misc]
    """Modules, the largest first; those that inject faults are as one."""

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        return "faults" if module in _FAULTS else module


_FAULTS = frozenset(f"tests/integration/test_{name}.py" for name in FAULTS)


def scheduler(config: pytest.Config, log: Producer) -> ByModule:
    """How pytest-xdist is to deal the tests out; its ``loadgroup`` knows no groups under pytest 9.2."""
    return ByModule(config, log)
