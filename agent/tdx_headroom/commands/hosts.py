# SPDX-License-Identifier: Apache-2.0
"""The hosts of many inputs, one after the other; what is wrong with one is said in its place."""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from tdx_headroom.commands.kept_records import kept_records
from tdx_headroom.errors import AgentError, one_line
from tdx_headroom.inputs.history import histories
from tdx_headroom.inputs.read import Found, hosts_in, read_hosts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tdx_headroom.facts.host_facts import HostFacts
    from tdx_headroom.inputs.named import Named

Result = TypeVar("Result")


class Hosts:
    """Goes through inputs, and counts what is wrong with them into the exit status.

    Args:
        inputs: to read.
        complain: says what is wrong with one, behind the answers of those before it.
        hosts_of: gives the hosts of one input; None: with what their facts tell.

    Attributes:
        status: the exit status so far. What cannot be understood counts for more than what is not there.
        unreadable: how many could not be read so far.
    """

    def __init__(
        self,
        inputs: Iterable[Named],
        complain: Callable[[Found, AgentError], None],
        hosts_of: Callable[[Named, str], Iterator[Found]] | None = None,
    ) -> None:
        self.status = os.EX_OK
        self.unreadable = 0
        self._inputs = inputs
        self._complain = complain
        self._hosts_of = hosts_of or partial(hosts_in, kept=kept_records)

    def each(self, judge: Callable[[Found, HostFacts], Result]) -> Iterator[tuple[Found, Result]]:
        """What is made of every host that can be read, in order."""
        for found in read_hosts(self._inputs, self._hosts_of):
            try:
                if isinstance(found.facts, AgentError):
                    raise found.facts
                result = judge(found, found.facts)
            except AgentError as error:
                self._complain(found, error)
                self.unreadable += 1
                status = os.EX_DATAERR if found.line is not None else error.status
                self.status = os.EX_DATAERR if os.EX_DATAERR in (status, self.status) else status
            else:
                yield found, result


def print_complaint(found: Found, error: AgentError) -> None:
    """Say it on standard error; the error names the input itself unless that is a stream of facts."""
    where = "" if found.line is None else f"{one_line(found.name)} line {found.line}: "
    warn(f"{where}{error}")


def hosts_with_history(named: Named, name: str) -> Iterator[Found]:
    """The hosts of one input, with the records of their boots; what could not be read beside is said.

    Raises:
        AgentError: the input cannot be read.
        OSError: the file cannot.
    """
    for found in histories(named, warn):
        if isinstance(found, AgentError):
            yield Found(name, found)
        else:
            yield Found(name, found.facts, found.line, found.records)


def warn(what: str) -> None:
    """Say on standard error, behind the answers so far, what is amiss."""
    sys.stdout.flush()
    print(f"tdx-headroom: {what}", file=sys.stderr)
