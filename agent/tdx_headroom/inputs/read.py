# SPDX-License-Identifier: Apache-2.0
"""The facts of every host that a user names, one after the other, whatever they are kept in."""

from __future__ import annotations

import codecs
import os
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tdx_headroom.boots.inventory import BootReader
from tdx_headroom.errors import AgentError
from tdx_headroom.facts.boot_record import RecordFrom
from tdx_headroom.host.choose import facts_from_log, read_facts
from tdx_headroom.hostfs.memory import MemoryRoot
from tdx_headroom.hostfs.root import Root, host_root
from tdx_headroom.inputs.archive import MAX_UNPACKED, is_tar, read_archive
from tdx_headroom.inputs.compressed import decompressed, with_start
from tdx_headroom.inputs.earlier import earlier_in_root, records_of, with_earlier
from tdx_headroom.inputs.expand import is_folder
from tdx_headroom.inputs.facts_lines import facts_stream
from tdx_headroom.inputs.named import STANDARD_STREAM, Kind, Named
from tdx_headroom.inputs.printed import files_in
from tdx_headroom.inputs.system_report import KERNEL_LOG
from tdx_headroom.inputs.texts import encoding_of, text_of
from tdx_headroom.inputs.together import other_kernels
from tdx_headroom.sources.kernel_log.reader import boots_in_texts, read_log_file
from tdx_headroom.sources.kernel_log.records import SOURCE, KernelLog
from tdx_headroom.sources.reading import Reading
from tdx_headroom.sources.registry import SELECTION

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from tdx_headroom.facts.boot_record import BootRecord
    from tdx_headroom.facts.host_facts import HostFacts
    from tdx_headroom.hostfs.files import HostFiles
    from tdx_headroom.inputs.facts_lines import FactsLine

_START = 4096
"""Bytes by which a file's kind is told."""

_FACTS = b'"tdx-headroom/facts/'


class Found(NamedTuple):
    """One host, or why there is none.

    Args:
        name: of the input that it comes from.
        facts: of the host, or what is wrong with the input or with one line of it.
        line: its number in a stream of facts.
        records: of its boots, the oldest first and the present one last, where they were asked for.
    """

    name: str
    facts: HostFacts | AgentError
    line: int | None = None
    records: tuple[BootRecord, ...] = ()


class FactsStream(NamedTuple):
    """The stream of facts that an input is, of however many hosts.

    Args:
        lines: open as long as the input is.
    """

    lines: io.BufferedReader


def read_hosts(inputs: Iterable[Named]) -> Iterator[Found]:
    """The hosts of all inputs, in order; an input that cannot be read comes as the reason why."""
    for named in inputs:
        name = shown(named.path)
        try:
            with host_of(named) as found:
                yield from each_host(found, name, host_of_line)
        except AgentError as error:
            yield Found(name, error)
        except OSError as error:
            yield Found(name, AgentError(f"{name}: {error.strerror}", status=os.EX_NOINPUT))


def each_host(
    found: Found | FactsStream, name: str, of_line: Callable[[str, FactsLine], Found]
) -> Iterator[Found]:
    """The host of an input, or those of its stream one by one.

    Args:
        found: in the input.
        name: of it.
        of_line: the host of a line of the stream of this name.
    """
    if isinstance(found, Found):
        yield found
        return
    for line in facts_stream(found.lines):
        yield of_line(name, line)


def host_of_line(name: str, line: FactsLine) -> Found:
    """The host of a line of facts, as it stands, or why there is none.

    Args:
        name: of the stream.
        line: of it.
    """
    return Found(name, line.facts, line.number)


def shown(path: str) -> str:
    """An input's name for people."""
    return "standard input" if path == STANDARD_STREAM else path


class Material(NamedTuple):
    """What an input holds: one host, or a stream of facts; one of these is not None.

    Args:
        root: a host's files.
        texts: a log and what was printed of a host's files, by the names of their files.
        stream: of facts.
        is_log: whether the user says that the text is a log, and nothing else.
    """

    root: HostFiles | None = None
    texts: Mapping[str, str] | None = None
    stream: FactsStream | None = None
    is_log: bool = False


@contextmanager
def host_of(named: Named, kept: Callable[[], Iterable[BootRecord]] = tuple) -> Iterator[Found | FactsStream]:
    """The host of one input, or its stream; facts tell of holes in earlier boots, as far as it shows them.

    Args:
        named: the input.
        kept: gives the boots of this host that an agent has on record; asked where the input is this host.

    Raises:
        AgentError: it is not what it is said to be, or cannot be unpacked.
        OSError: it cannot be read.
    """
    name = shown(named.path)
    with material_of(named) as found:
        if found.stream is not None:
            yield found.stream
        elif (root := found.root) is not None:
            of_root = facts_of_root(root, name)
            yield Found(name, with_earlier(of_root, kept() if root.live else earlier_in_root(root)))
        else:
            texts = found.texts or {}
            of_text = facts_of_material(found, name)
            yield Found(name, with_earlier(of_text, _earlier_in(texts, of_text)))


def facts_of_material(found: Material, name: str) -> HostFacts:
    """What the texts of an input tell; where the user says that it is a log, as that alone.

    Args:
        found: with texts.
        name: of the input.

    Raises:
        AgentError: they tell nothing, or not of one boot.
    """
    texts = found.texts or {}
    return _facts_of_log(texts[name], name) if found.is_log else facts_of_texts(texts, name)


def _earlier_in(texts: Mapping[str, str], facts: HostFacts) -> list[BootRecord]:
    """Records of the boots that a log shows before the one that the facts are about."""
    if facts.log_health is None or not facts.log_health.earlier_boots:
        return []
    return records_of(boots_in_texts(texts)[:-1], RecordFrom.LOG)


@contextmanager
def material_of(named: Named) -> Iterator[Material]:
    """What an input holds.

    Args:
        named: the input.

    Raises:
        AgentError: it is not what it is said to be, or cannot be unpacked.
        OSError: it cannot be read.
    """
    name = shown(named.path)
    if named.kind is Kind.HOST:
        yield Material(root=Root("/"))
        return
    if named.path != STANDARD_STREAM and is_folder(Path(named.path)) and named.kind in (Kind.ROOT, Kind.ANY):
        yield Material(root=host_root(named.path))
        return
    if named.kind is Kind.ROOT:
        hint = "give a captured tree, or an archive without --root"
        raise AgentError(f"{name} is no directory", hint=hint, status=os.EX_NOINPUT)
    if named.kind is Kind.MERGE:
        yield Material(texts={part: _read_text(part) for part in named.parts})
        return
    with _opened(named.path) as raw:
        start, stream = with_start(decompressed(raw, name, MAX_UNPACKED), _START, _is_facts_line)
        kind = named.kind if named.kind is not Kind.ANY else _kind_of(start, name)
        if (kind is Kind.CAPTURE) != is_tar(start):
            what = "is no tar archive" if kind is Kind.CAPTURE else "is a tar archive"
            raise _of_other_kind(name, kind, what)
        if kind is Kind.CAPTURE:
            yield Material(root=read_archive(stream, name, SELECTION))
        elif kind is Kind.FACTS:
            yield Material(stream=FactsStream(stream))
        else:
            yield Material(texts={name: text_of(stream, name)}, is_log=named.kind is Kind.LOG)


def _of_other_kind(name: str, kind: Kind, what: str) -> AgentError:
    return AgentError(f"{name} {what}", hint=f"name it without --{kind}: what it is will be found out")


def facts_of_root(root: HostFiles, name: str) -> HostFacts:
    """Facts of a host or a captured tree, with what is staged on its disk.

    Raises:
        AgentError: there is nothing of a host in it.
    """
    return _or_nothing(read_facts(root, boots=BootReader.with_images()), name)


def _or_nothing(facts: HostFacts, name: str) -> HostFacts:
    own = facts.kernel_release or facts.reserved or facts.boots_told
    told = own or any(source.ok for source in facts.sources)
    if not told:
        why = next((source.error for source in facts.sources if not source.absent), None)
        raise AgentError(
            f"{name} holds nothing of a host" + ("" if why is None else f" that can be read: {why}"),
            hint=None
            if why
            else "a captured tree has proc/iomem, sys/firmware/memmap, dev/kmsg or dmesg below it",
            status=os.EX_NOINPUT,
        )
    return facts


def _facts_of_log(text: str, name: str) -> HostFacts:
    return facts_from_log(_log(text, name))


def _log(text: str, name: str) -> Reading[KernelLog]:
    reading = read_log_file(name, text)
    if reading.error is not None:
        said = str(reading.error)
        # Among many inputs it has to be told which one it is.
        raise AgentError(said if name in said else f"{name}: {said}")
    return reading


def facts_of_texts(texts: Mapping[str, str], name: str) -> HostFacts:
    """What a host's log and what was printed of its other files tell together.

    Args:
        texts: by the names of their files.
        name: of all of them together.

    Raises:
        AgentError: they tell nothing, or not of one boot.
    """
    files: dict[str, str] = {}
    holder: dict[str, str] = {}
    log: Reading[KernelLog] | None = None
    for part, text in texts.items():
        found = files_in(text, part) or {KERNEL_LOG: text}
        for path in found:
            if path in holder:
                what = "a kernel log" if path == KERNEL_LOG else f"/{path}"
                hint = "merge files of one boot, one of a kind"
                raise AgentError(f"{holder[path]} and {part} both hold {what}", hint=hint)
        files |= found
        holder |= dict.fromkeys(found, part)
    if KERNEL_LOG in files:
        part, text = holder[KERNEL_LOG], files.pop(KERNEL_LOG)
        # A report may show that the kernel has said nothing.
        log = _log(text, part) if text.strip(" .\n") or not files else Reading(SOURCE, part, KernelLog(()))
    if not files and log is not None:
        return facts_from_log(log)
    _check_kernels(files, holder, log)
    facts = _or_nothing(read_facts(MemoryRoot(name, files), log), name)
    # Nobody has given more than these: that the others are missing is no failure.
    return replace(facts, sources=tuple(s for s in facts.sources if not s.absent) or facts.sources)


def _check_kernels(
    files: Mapping[str, str], holder: Mapping[str, str], log: Reading[KernelLog] | None
) -> None:
    """Refuse a file of another boot than the rest: what it tells would be laid to another kernel's charge."""
    if found := other_kernels(files, log):
        (one, release), (other, another) = found
        names = dict.fromkeys((holder[one], holder[other]))
        kernels = f"different kernels, {release} and {another}"
        raise AgentError(f"{' and '.join(names)}: {kernels}", hint="merge files of one boot")


def _read_text(path: str) -> str:
    """The text of a file that is one host's together with others."""
    name = shown(path)
    with _opened(path) as raw:
        start, stream = with_start(decompressed(raw, name, MAX_UNPACKED), _START)
        kind = _kind_of(start, name)
        if kind is not Kind.LOG:
            hint = "leave it out of --merge"
            raise AgentError(f"{name} is a host by itself ({kind})", hint=hint)
        return text_of(stream, name)


def _is_facts_line(start: bytes) -> bool:
    return start.startswith(b"{") and b"\n" in start and _FACTS in start


def _kind_of(start: bytes, name: str) -> Kind:
    """What a file holds, by how it begins."""
    if is_tar(start):
        return Kind.CAPTURE
    if encoding_of(start) is None:
        raise AgentError(f"{name} is neither text nor an archive", hint="give a log, facts or a capture")
    if start.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"{"):
        if _FACTS in start:
            return Kind.FACTS
        if b'"tdx-headroom/' in start:
            raise AgentError(f"{name} is output of this agent, not a host", hint="give facts or a capture")
    return Kind.LOG


@contextmanager
def _opened(path: str) -> Iterator[Any]:
    if path == STANDARD_STREAM:
        yield sys.stdin.buffer
        return
    with Path(path).open("rb") as stream:
        yield stream
