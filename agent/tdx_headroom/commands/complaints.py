# SPDX-License-Identifier: Apache-2.0
"""What is wrong with one input of many: said in its place, and counted into the exit status."""

from __future__ import annotations

import os
import sys

from tdx_headroom.errors import AgentError, one_line


def complain(name: str, line: int | None, error: AgentError) -> None:
    """Say it on standard error, behind the answers of the inputs before it.

    Args:
        name: of the input.
        line: of a stream of facts, from 1; None for other inputs.
        error: what is wrong; it names the input itself where there is no line.
    """
    where = "" if line is None else f"{one_line(name)} line {line}: "
    sys.stdout.flush()
    print(f"tdx-headroom: {where}{error}", file=sys.stderr)


def worse(before: int, line: int | None, error: AgentError) -> int:
    """The exit status after one error more.

    A line or file that cannot be understood counts for more than one that is not there.
    """
    status = os.EX_DATAERR if line is not None else error.status
    return os.EX_DATAERR if os.EX_DATAERR in (status, before) else status
