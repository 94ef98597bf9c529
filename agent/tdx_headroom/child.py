# SPDX-License-Identifier: Apache-2.0
"""Processes that the agent starts: its own, for work that must not stay in memory, and other programs."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

OF_CHILDREN = r"PATH|LANG|LANGUAGE|LC_[A-Z]+|TZ"
"""Where programs are, language and time zone: the variables that a program may see."""

# Isolated, so that nothing is imported from the folder that the user is in; and of all installed agents this
# one, without its folder coming before Python's own modules.
_THIS_AGENT = "import sys; sys.path.insert(0, sys.argv.pop(1)); import tdx_headroom; del sys.path[0]; "


def child_command(module: str, arguments: list[str]) -> list[str]:
    """The command that runs a module's ``main(arguments)`` and exits with what that returns.

    Args:
        module: below ``tdx_headroom``.
        arguments: for it.
    """
    code = f"{_THIS_AGENT}from tdx_headroom.{module} import main; sys.exit(main(sys.argv[1:]))"
    return [sys.executable, "-I", "-c", code, str(Path(__file__).resolve().parents[1]), *arguments]


def child_environment() -> dict[str, str]:
    """The environment for a program that the agent runs: where programs are, and a language; nothing else."""
    return {name: value for name, value in os.environ.items() if re.fullmatch(OF_CHILDREN, name)}
