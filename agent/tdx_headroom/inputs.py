# SPDX-License-Identifier: Apache-2.0
"""What offline commands work on: this host, a captured tree, a log, or a stream of facts."""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from tdx_headroom.errors import AgentError, one_line
from tdx_headroom.facts import FactsError, HostFacts
from tdx_headroom.host import facts_from_log, read_facts
from tdx_headroom.root import Root
from tdx_headroom.sources.kernel_log.reader import MAX_LOG, read_log_file

if TYPE_CHECKING:
    from collections.abc import Iterator


class FactsLineError(AgentError):
    """A facts line that cannot be answered: its number from 1, and its host where that can be read."""

    def __init__(self, line: int, host: str | None, cause: AgentError) -> None:
        super().__init__(cause.message, hint=cause.hint)
        self.line = line
        self.host = host


def facts_of_tree(directory: str) -> HostFacts:
    """Facts of a captured tree.

    Raises:
        AgentError: there is no such directory, or nothing of a host in it.
    """
    root = Root(directory)
    if not Path(root.path).is_dir():
        raise AgentError(f"{directory} is no directory", hint="give a captured tree", status=os.EX_NOINPUT)
    facts = read_facts(root)
    if not any(source.ok for source in facts.sources):
        raise AgentError(
            f"{directory} holds nothing of a host",
            hint="a captured tree has proc/iomem, sys/firmware/memmap, dev/kmsg or dmesg below it",
            status=os.EX_NOINPUT,
        )
    return facts


def facts_of_log(path: str) -> HostFacts:
    """Facts of a kernel log as text; ``-`` is standard input.

    Raises:
        AgentError: it cannot be read, or no kernel message is in it.
    """
    with _open(path) as stream:
        data = stream.read(MAX_LOG + 1)
    if len(data) > MAX_LOG:
        raise AgentError(f"{path} is larger than {MAX_LOG >> 20} MiB", hint="cut it to one boot")
    name = "standard input" if path == "-" else path
    reading = read_log_file(name, data.decode("utf-8", "backslashreplace"))
    if reading.error is not None:
        raise AgentError(str(reading.error))
    return facts_from_log(reading)


def facts_stream(path: str) -> Iterator[tuple[int, HostFacts | FactsLineError]]:
    """Facts lines with their numbers, in order; a line that cannot be read comes as the reason why.

    Raises:
        AgentError: the file cannot be read.
    """
    with _open(path) as stream:
        for number, raw in enumerate(stream, 1):
            if raw.strip():
                yield number, _facts_line(number, raw)


def _facts_line(number: int, raw: bytes) -> HostFacts | FactsLineError:
    value: object = None
    try:
        value = json.loads(raw.decode("utf-8-sig"))
        return HostFacts.from_json(value)
    except UnicodeDecodeError:
        cause: AgentError = FactsError("the line is not UTF-8")
    except RecursionError:
        cause = FactsError("the line is nested too deeply")
    except FactsError as error:
        cause = error
    except ValueError as error:
        cause = FactsError(f"the line is not JSON: {error}", hint="give one JSON object a line")
    return FactsLineError(number, host_in(value), cause)


def host_in(value: object) -> str | None:
    """The host's name in a facts object that may be unusable otherwise."""
    host = value.get("host") if isinstance(value, dict) else None
    return one_line(host, 200) if isinstance(host, str) else None


@contextmanager
def _open(path: str) -> Iterator[BinaryIO]:
    if path == "-":
        yield sys.stdin.buffer
        return
    try:
        stream = Path(path).open("rb")  # noqa: SIM115  closed below
    except OSError as error:
        raise AgentError(f"{path}: {error.strerror}", status=os.EX_NOINPUT) from None
    with stream:
        yield stream
