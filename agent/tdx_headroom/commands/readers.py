# SPDX-License-Identifier: Apache-2.0
"""How commands read the hosts of an input: their facts, or the records of their boots as well."""

from __future__ import annotations

import os
import select
import stat
import sys
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.commands.kept_records import kept_records
from tdx_headroom.inputs.history import history_of, history_of_line
from tdx_headroom.inputs.read import host_of, host_of_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

    from tdx_headroom.facts.boot_record import BootRecord
    from tdx_headroom.inputs.facts_lines import FactsLine
    from tdx_headroom.inputs.named import Named
    from tdx_headroom.inputs.read import FactsStream, Found


class Reader(NamedTuple):
    """How hosts are read.

    Args:
        of_input: opens an input, and gives its host, or its stream of facts.
        of_line: gives the host of a line of the stream of this name.
    """

    of_input: Callable[[Named], AbstractContextManager[Found | FactsStream]]
    of_line: Callable[[str, FactsLine], Found]


PLAIN = Reader(partial(host_of, kept=kept_records), host_of_line)
"""With their facts alone."""


def with_history(kept: Callable[[], Iterable[BootRecord]] = tuple) -> Reader:
    """With the records of their boots; what could not be read beside is said.

    Args:
        kept: gives what an agent has on record, where an input is this host.
    """
    return Reader(lambda named: history_of(named, warn, kept), history_of_line)


def standard_input_is_ready() -> bool:
    """Whether there is something to read, be it the end."""
    with suppress(AttributeError, OSError, ValueError):
        descriptor = sys.stdin.fileno()
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return bool(select.select([descriptor], [], [], 0)[0])
    return True


def warn(what: str) -> None:
    """Say on standard error, behind the answers so far, what is amiss."""
    sys.stdout.flush()
    print(f"tdx-headroom: {what}", file=sys.stderr)
