# SPDX-License-Identifier: Apache-2.0
"""How commands read the hosts of an input: their facts, or the records of their boots as well."""

from __future__ import annotations

import os
import select
import stat
import sys
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from tdx_headroom.commands.kept_records import kept_records
from tdx_headroom.errors import AgentError
from tdx_headroom.inputs.history import histories, history_of_facts
from tdx_headroom.inputs.read import Found, hosts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import BinaryIO

    from tdx_headroom.facts.boot_record import BootRecord
    from tdx_headroom.facts.host_facts import HostFacts
    from tdx_headroom.inputs.named import Named
    from tdx_headroom.inputs.read import ReadLines


class Reader(NamedTuple):
    """How hosts are read.

    Args:
        of_input: gives those of an input, which has this name.
        of_line: the host of a line of facts.
    """

    of_input: Callable[[Named, str, ReadLines], Iterator[Found]]
    of_line: Callable[[str, int, HostFacts], Found]


class FactsFound(Exception):  # noqa: N818  no error: it tells what an input is
    """An input is a stream of facts."""

    def __init__(self, stream: Any) -> None:  # noqa: ANN401  a buffered reader
        super().__init__()
        self.stream = stream


PLAIN = Reader(partial(hosts_of, kept=kept_records), lambda name, line, facts: Found(name, facts, line))
"""With their facts alone."""


def with_history(kept: Callable[[], Iterable[BootRecord]] = tuple) -> Reader:
    """With the records of their boots; what could not be read beside is said.

    Args:
        kept: gives what an agent has on record, where an input is this host.
    """

    def of_input(named: Named, name: str, read_lines: ReadLines) -> Iterator[Found]:
        for found in histories(named, warn, kept, read_lines):
            if isinstance(found, AgentError):
                yield Found(name, found)
            else:
                yield Found(name, found.facts, found.line, found.records)

    def of_line(name: str, line: int, facts: HostFacts) -> Found:
        return Found(name, facts, line, history_of_facts(name, line, facts).records)

    return Reader(of_input, of_line)


def not_here(stream: BinaryIO) -> Iterator[tuple[int, HostFacts | AgentError]]:
    """Let whoever asked for the hosts of an input read its lines.

    Raises:
        FactsFound: always.
    """
    raise FactsFound(stream)


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
