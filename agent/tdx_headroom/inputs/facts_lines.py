# SPDX-License-Identifier: Apache-2.0
"""A stream of facts: a JSON object a line, one after the other, however many there are."""

from __future__ import annotations

import json
from io import BytesIO
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from tdx_headroom.errors import AgentError, one_line
from tdx_headroom.facts.host_facts import FactsError, HostFacts

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterator

MAX_LINE = 64 << 20
"""The worst host that can be thought of has facts of some MB; a line without end must not fill memory."""
_BATCH = 1 << 16


class FactsLineError(AgentError):
    """A facts line that cannot be answered: its number from 1, and its host where that can be read."""

    def __init__(self, line: int, host: str | None, cause: AgentError) -> None:
        super().__init__(cause.message, hint=cause.hint)
        self.line = line
        self.host = host


class FactsLine(NamedTuple):
    """One line.

    Args:
        number: from 1.
        facts: of a host, or why there are none.
    """

    number: int
    facts: HostFacts | FactsLineError


class Lines(NamedTuple):
    """Some lines of a stream.

    Args:
        first: number of the first of them.
        data: with their ends; of one that is too long, and the last then, only a part that shows it.
    """

    first: int
    data: bytes

    @property
    def number(self) -> int:
        """How many they are."""
        return self.data.count(b"\n") + (not self.data.endswith(b"\n"))

    def one_by_one(self) -> Iterator[Lines]:
        """Each of them alone."""
        for number, line in enumerate(BytesIO(self.data), self.first):
            yield Lines(number, line)


def batches(stream: io.BufferedReader, ready: Callable[[], bool]) -> Iterator[Lines]:
    """The lines of a stream, some hundred at a time where they are there.

    Args:
        stream: to read.
        ready: whether there is more to read, for which nobody has to wait.
    """
    first = 1
    while data := stream.read1(_BATCH):
        parts = [data]
        size = len(data)
        while size < _BATCH and ready() and (data := stream.read1(_BATCH - size)):
            parts.append(data)
            size += len(data)
        if not parts[-1].endswith(b"\n"):
            parts.append(line := stream.readline(MAX_LINE))
            while len(line) == MAX_LINE and not line.endswith(b"\n"):
                line = stream.readline(MAX_LINE)
        lines = Lines(first, b"".join(parts))
        yield lines
        first += lines.number


def facts_stream(stream: BinaryIO, first: int = 1) -> Iterator[FactsLine]:
    """The lines in order; one that cannot be read comes as the reason why.

    Args:
        stream: to read.
        first: number of its first line.
    """
    number = first - 1
    while raw := stream.readline(MAX_LINE):
        number += 1
        if len(raw) == MAX_LINE and not raw.endswith(b"\n"):
            while (rest := stream.readline(MAX_LINE)) and not rest.endswith(b"\n"):
                pass
            cause = FactsError(f"the line is longer than {MAX_LINE >> 20} MiB")
            yield FactsLine(number, FactsLineError(number, None, cause))
        elif raw.strip():
            yield FactsLine(number, _facts_line(number, raw))


def _facts_line(number: int, raw: bytes) -> HostFacts | FactsLineError:
    value: object = None
    try:
        value = json.loads(raw.decode("utf-8-sig").rstrip("\r\n"))
        return HostFacts.from_json(value)
    except UnicodeDecodeError:
        cause: AgentError = FactsError("the line is not UTF-8")
    except RecursionError:
        cause = FactsError("the line is nested too deeply")
    except FactsError as error:
        cause = error
    except json.JSONDecodeError as error:
        # Its own text counts lines too: a second number for the line would only confuse.
        where = f"{error.msg} at column {error.colno}"
        cause = FactsError(f"the line is not JSON: {where}", hint="give one JSON object a line")
    except ValueError:
        # int() refuses more than some thousand digits.
        cause = FactsError("a number in the line has too many digits", hint="addresses have at most 64 bits")
    return FactsLineError(number, host_in(value), cause)


def host_in(value: object) -> str | None:
    """The host's name in a facts object that may be unusable otherwise."""
    host = value.get("host") if isinstance(value, dict) else None
    return one_line(host, 200) if isinstance(host, str) else None
