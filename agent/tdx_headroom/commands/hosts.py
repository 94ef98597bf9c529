# SPDX-License-Identifier: Apache-2.0
"""The hosts of many inputs, looked at by several processes; what is said of each comes in order."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from io import BytesIO
from itertools import groupby, repeat
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from tdx_headroom.commands.readers import PLAIN, standard_input_is_ready, warn
from tdx_headroom.commands.workers import Workers
from tdx_headroom.errors import AgentError, one_line, place_of
from tdx_headroom.inputs.facts_lines import FactsLineError, Lines, batches, facts_stream
from tdx_headroom.inputs.named import STANDARD_STREAM, Kind, Named
from tdx_headroom.inputs.read import FactsStream, Found, host_of_line, shown

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    from tdx_headroom.commands.readers import Reader
    from tdx_headroom.commands.workers import Done
    from tdx_headroom.facts.host_facts import HostFacts
    from tdx_headroom.inputs.expand import Inputs
    from tdx_headroom.inputs.facts_lines import FactsLine

Result = TypeVar("Result")

if TYPE_CHECKING:
    _Workers: TypeAlias = Workers[Any, "list[Answer[Result]] | None"]

_FEW = 1 << 15
"""Bytes of facts for which no process is worth its while."""


class Answer(NamedTuple, Generic[Result]):
    """What is said of one host.

    Args:
        name: of the input.
        line: in it, where it is a stream of facts.
        value: what was made of the host.
        error: why nothing could be.
        host: the name of a host of which nothing could be made, where that is known.
    """

    name: str
    line: int | None
    value: Result | None = None
    error: AgentError | None = None
    host: str | None = None


class _Batch(NamedTuple):
    """Lines of a stream of facts.

    Args:
        name: of the stream.
        lines: of it.
        suspect: whether one of them has ended a process.
    """

    name: str
    lines: Lines
    suspect: bool = False


class Hosts(Generic[Result]):
    """Goes through inputs, and counts what is wrong with them into the exit status.

    Several inputs, and long streams of facts, are for processes of their own, so that one that kills such a
    process, or never comes to its end, takes no other along.

    Args:
        inputs: to read.
        judge: makes of a host what is said of it; that is pickled.
        complain: says what is wrong with one, behind the answers of those before it.
        jobs: how many processes.
        seconds: how long one input may take that is read by such a process.
        reader: how hosts are read.

    Attributes:
        status: the exit status so far. What cannot be understood counts for more than what is not there.
        unreadable: how many could not be read so far.
    """

    def __init__(
        self,
        inputs: Inputs,
        judge: Callable[[Found, HostFacts], Result],
        complain: Callable[[Answer[Result], AgentError], None],
        jobs: int,
        seconds: float,
        reader: Reader | None = None,
    ) -> None:
        self.status = os.EX_OK
        self.unreadable = 0
        self._inputs = inputs
        self._judge = judge
        self._complain = complain
        self._jobs = jobs
        self._seconds = seconds
        self._reader = reader or PLAIN
        self._alone = len(inputs) == 1

    def each(self, step: Callable[[int, str], None] = lambda _done, _name: None) -> Iterator[Answer[Result]]:
        """What is made of every host that can be read, in order.

        Args:
            step: told of each input how many were dealt with before it, and its name.
        """
        for answers in self._all(step):
            for answer in answers:
                if answer.error is None:
                    yield answer
                    continue
                self._complain(answer, answer.error)
                self.unreadable += 1
                status = os.EX_DATAERR if answer.line is not None else answer.error.status
                self.status = os.EX_DATAERR if os.EX_DATAERR in (status, self.status) else status
            # Whoever writes facts into a pipe may wait for the answer.
            sys.stdout.flush()

    def _all(self, step: Callable[[int, str], None]) -> Iterator[list[Answer[Result]]]:
        done = 0
        workers: _Workers[Result] = Workers(self._work, self._jobs, self._seconds, _is_short)
        with workers:
            for own, some in groupby(self._inputs, self._is_own):
                for named, found in zip(some, repeat(None)) if own else workers.each(some):
                    step(done, named.path)
                    done += 1
                    yield from self._of_input(named, found, workers)

    def _is_own(self, named: Named) -> bool:
        """Whether this process reads an input: it is the only one, or its lines are dealt out."""
        return self._alone or named.path == STANDARD_STREAM or named.kind is Kind.FACTS

    def _of_input(
        self, named: Named, done: Done[list[Answer[Result]] | None] | None, workers: _Workers[Result]
    ) -> Iterator[list[Answer[Result]]]:
        """What is said of the hosts of one input; ``done`` is what a worker has made of it."""
        name = shown(named.path)
        if done is not None and done.ended is not None:
            yield [Answer(name, None, error=_ended(name, done.ended))]
        elif done is not None and done.result is not None:
            _say(done)
            yield done.result
        else:
            # Of a file the next lines can be had at once. A pipe by a name may make whoever reads it wait.
            file = _is_file(named)
            ready = standard_input_is_ready if named.path == STANDARD_STREAM else lambda: file
            wrong: list[Answer[Result]] = []
            with self._answered(name, wrong), self._reader.of_input(named) as found:
                if isinstance(found, FactsStream):
                    yield from self._of_lines(name, found.lines, workers, ready)
                else:
                    yield [self._answer(found)]
            yield wrong

    def _of_lines(
        self, name: str, stream: io.BufferedReader, workers: _Workers[Result], ready: Callable[[], bool]
    ) -> Iterator[list[Answer[Result]]]:
        wrong: list[AgentError] = []

        def tasks() -> Iterator[_Batch]:
            empty = True
            try:
                for lines in batches(stream, ready):
                    empty = False
                    yield _Batch(name, lines)
                if empty:
                    wrong.append(AgentError(f"{name} holds no facts", status=os.EX_NOINPUT))
            except AgentError as error:
                wrong.append(error)
            except OSError as error:
                wrong.append(_unread(name, error))

        for task, done in workers.each(tasks(), ready):
            if done.ended is not None and task.lines.number > 1:
                # One of them has done it: the others are to have their answers.
                single = (_Batch(name, line, suspect=True) for line in task.lines.one_by_one())
                for one, found in workers.each(single):
                    yield self._of_batch(one, found)
            else:
                yield self._of_batch(task, done)
        for error in wrong:
            yield [Answer(name, None, error=error)]

    def _of_batch(self, batch: _Batch, done: Done[list[Answer[Result]] | None]) -> list[Answer[Result]]:
        _say(done)
        if done.ended is not None:
            return [Answer(batch.name, batch.lines.first, error=_ended("the line", done.ended))]
        return done.result or []

    def _work(self, task: Named | _Batch) -> list[Answer[Result]] | None:
        """What is said of one input, or of some lines; None where it turns out to be a file of such lines."""
        if isinstance(task, _Batch):
            lines = facts_stream(BytesIO(task.lines.data), task.lines.first)
            return [self._of_line(task.name, line) for line in lines]
        name = shown(task.path)
        answers: list[Answer[Result]] = []
        with self._answered(name, answers), self._reader.of_input(task) as found:
            if isinstance(found, Found):
                answers.append(self._answer(found))
            elif _is_file(task):
                return None
            else:
                # What came through a pipe cannot be read again. Lines before damage have their answers.
                answers.extend(self._of_line(name, line) for line in facts_stream(found.lines))
        return answers

    def _of_line(self, name: str, line: FactsLine) -> Answer[Result]:
        if isinstance(line.facts, AgentError):
            return self._answer(host_of_line(name, line))
        return self._said(
            name, line.number, line.facts, lambda: self._answer(self._reader.of_line(name, line))
        )

    @contextmanager
    def _answered(self, name: str, answers: list[Answer[Result]]) -> Iterator[None]:
        """What goes wrong with an input is the last that is said of it."""
        try:
            yield
        except AgentError as error:
            answers.append(Answer(name, None, error=_plain(error)))
        except OSError as error:
            answers.append(Answer(name, None, error=_unread(name, error)))
        except Exception as error:
            if self._alone:
                raise
            answers.append(Answer(name, None, error=_internal(name, error)))

    def _answer(self, found: Found) -> Answer[Result]:
        name, line, facts = found.name, found.line, found.facts
        if isinstance(facts, AgentError):
            host = facts.host if isinstance(facts, FactsLineError) else None
            return Answer(name, line, error=_plain(facts), host=host)
        return self._said(name, line, facts, lambda: Answer(name, line, self._judge(found, facts)))

    def _said(
        self, name: str, line: int | None, facts: HostFacts, make: Callable[[], Answer[Result]]
    ) -> Answer[Result]:
        """What is said of a host; an error of the agent's own ends it only where there is one input alone."""
        try:
            return make()
        except AgentError as error:
            return Answer(name, line, error=_plain(error), host=facts.host)
        except Exception as error:
            if self._alone and line is None:
                raise
            return Answer(name, line, error=_internal(name, error), host=facts.host)


def _is_file(named: Named) -> bool:
    """Whether an input can be read again, and does not make anybody wait."""
    return named.path != STANDARD_STREAM and os.path.isfile(named.path)  # noqa: PTH113  it may not be looked at


def _plain(error: AgentError) -> AgentError:
    """The same in a form that goes from process to process."""
    return AgentError(error.message, hint=error.hint, status=error.status)


def _unread(name: str, error: OSError) -> AgentError:
    # Of several files of one host it is one.
    file = shown(error.filename) if isinstance(error.filename, str) else name
    return AgentError(f"{file}: {error.strerror}", status=os.EX_NOINPUT)


def _ended(name: str, how: str) -> AgentError:
    return AgentError(f"{name}: {how}", hint="the others were read without it", status=os.EX_SOFTWARE)


def _internal(name: str, error: Exception) -> AgentError:
    if isinstance(error, MemoryError):
        return AgentError(f"{name}: there is not enough memory to read it", status=os.EX_OSERR)
    what = f"{name}: internal error: {one_line(repr(error))} at {place_of(error)}"
    return AgentError(what, hint="please report it", status=os.EX_SOFTWARE)


def _is_short(task: Named | _Batch) -> bool:
    return isinstance(task, _Batch) and not task.suspect and len(task.lines.data) < _FEW


def _say(done: Done[Any]) -> None:
    """Have on standard error what a process has said meanwhile."""
    if done.said:
        sys.stdout.flush()
        sys.stderr.write(done.said)


def print_complaint(answer: Answer[Result], error: AgentError) -> None:
    """Say it on standard error; the error names the input itself unless that is a stream of facts."""
    where = "" if answer.line is None else f"{one_line(answer.name)} line {answer.line}: "
    warn(f"{where}{error}")
