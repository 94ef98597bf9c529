# SPDX-License-Identifier: Apache-2.0
"""Targets that go all the way: from a facts line, or from a host's files, to every output."""

from __future__ import annotations

import io
import json
import re
from typing import TYPE_CHECKING

from prometheus_client.exposition import generate_latest

from tdx_headroom.facts.host_facts import FactsError, GivenBases, HostFacts
from tdx_headroom.host.choose import read_facts
from tdx_headroom.hostfs.memory import MemoryRoot
from tdx_headroom.hostfs.root import Root
from tdx_headroom.inputs.facts_lines import FactsLineError, facts_stream
from tdx_headroom.output import metrics
from tdx_headroom.output.check_report import check_json, check_text
from tdx_headroom.output.page import render_page
from tdx_headroom.output.plan_json import to_json
from tdx_headroom.output.terminal import Style
from tdx_headroom.output.text import render
from tdx_headroom.sources.reduce import zones
from tdx_headroom.verdict.assessment import Assessment, assess
from tdx_headroom.verdict.checks import run_checks, status_of
from tdx_headroom.verdict.what_if import UNCHANGED, WhatIf

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from prometheus_client.core import Metric

    from tdx_headroom.plan import Plan

FILE = re.compile(r"^=== ([a-z0-9/_.-]{1,60})$", re.MULTILINE)
"""Stands before each file's contents in the input of :func:`host`."""

READ = re.compile("tdx|Linux version|[cC]ommand line|BIOS-e820|node |SRAT")
"""What is in the lines of a log that matter here."""

STYLE = Style(colour=False, unicode=True)
TOO_MANY = 3000
"""More regions or CMRs than this only make a fuzzer slow."""


def check_shown(error: Exception) -> None:
    """An error is one printable line of sane length."""
    shown = str(error)
    assert shown.isprintable(), shown
    assert len(shown) < 1000, shown


def facts_line(data: bytes) -> None:
    """One line of `plan --facts`, with all that can be shown of it."""
    line = next(facts_stream(io.BytesIO(data)), None)
    if line is None:
        return
    facts = line.facts
    if isinstance(facts, FactsLineError):
        check_shown(facts)
        return
    assert HostFacts.from_json(json.loads(json.dumps(facts.to_json()))) == facts
    if max(len(facts.memory_regions or ()), len(facts.cmrs or ())) > TOO_MANY:
        return
    map_known = facts.firmware_map is not None
    tried = WhatIf(max_reserved=1, max_tdmrs=2, dynamic_pamt=True, without_memmap=map_known)
    for what_if in (UNCHANGED, tried):
        try:
            assessment = assess(facts, what_if)
        except FactsError as error:
            check_shown(error)
            # What was given, or asked for, may make no sense.
            assert isinstance(facts.pamt_placement, GivenBases) or what_if.without_memmap, error  # noqa: PT017  no test of pytest's
        else:
            show(assessment)


def facts_lines(folder: Path) -> Iterator[bytes]:
    """The captured hosts in a folder as facts lines, which have all keys."""
    for tree in sorted(path for path in folder.iterdir() if path.is_dir()):
        yield json.dumps(read_facts(Root(tree)).to_json()).encode()


def host(data: bytes) -> None:
    """A captured host whose files hold anything."""
    files = FILE.split(data.decode("utf-8", "backslashreplace"))
    texts = {name: text.removeprefix("\n") for name, text in zip(files[1::2], files[2::2], strict=True)}
    show(assess(read_facts(MemoryRoot("/captured", texts))))


def hosts(folder: Path) -> Iterator[bytes]:
    """The captured hosts in a folder as inputs of :func:`host`, as short as the fuzzer needs them.

    Without most of their memory blocks, their CPUs but one, and what nobody reads of zones and the log.
    """
    for tree in sorted(path for path in folder.iterdir() if path.is_dir()):
        files = sorted(path for path in tree.resolve().rglob("*") if path.is_file())
        names = {path.relative_to(tree.resolve()).as_posix(): path for path in files}
        small = {name: path for name, path in names.items() if not re.search(r"memory[0-9]{2,}", name)}
        yield "".join(
            f"=== {name}\n{shortened(name, path.read_text('utf-8'))}" for name, path in small.items()
        ).encode()


def shortened(name: str, text: str) -> str:
    """One file of a host without what it has very much of."""
    if name == "proc/cpuinfo":
        return text.partition("\n\n")[0] + "\n"
    if name == "proc/zoneinfo":
        return zones(text)
    if name in ("dev/kmsg", "dmesg"):
        return "".join(line for line in text.splitlines(keepends=True) if READ.search(line))
    return text


def show(assessment: Assessment) -> None:
    """Every output of it, and what always holds of its plans."""
    for plan in assessment.plans.values():
        if plan is not None:
            check_plan(plan)
    checks = run_checks(assessment)
    status = status_of(assessment, checks)
    json.dumps([to_json(assessment), check_json(assessment, checks, status)]).encode()
    for full in (True, False):
        json.dumps(to_json(assessment, full_addresses=full))
        render_page(assessment, full_addresses=full)
    text = render(assessment, STYLE) + check_text(checks, status, STYLE, short=False)
    assert all(c.isprintable() or c == "\n" for c in text), text
    generate_latest(_Collector(assessment))


class _Collector:
    def __init__(self, assessment: Assessment) -> None:
        self._assessment = assessment

    def collect(self) -> Iterable[Metric]:
        return metrics.collect(self._assessment, metrics.AgentStatus(assessed_at=1, duration=1))


def check_plan(plan: Plan) -> None:
    """TDMRs are whole GiB and ascend; areas lie inside them, and their number is what is said."""
    end = 0
    for tdmr in plan.tdmrs:
        assert tdmr.base >= end
        assert tdmr.size > 0
        assert tdmr.base % (1 << 30) == tdmr.size % (1 << 30) == 0
        end = tdmr.end
        assert all(
            a.size > 0 and a.offset >= 0 and a.offset + a.size <= tdmr.size for a in tdmr.reserved_areas
        )
        if tdmr.needed is not None:
            assert len(tdmr.reserved_areas) == tdmr.needed
            assert tdmr.needed_worst is not None
            assert tdmr.needed_worst >= tdmr.needed
    assert plan.errno in (0, -12, -22, -28)
    assert (plan.pamt_kib is None) == (plan.errno != 0)
    if plan.failed_tdmr is not None:
        headroom = plan.tdmrs[plan.failed_tdmr].headroom
        assert headroom is not None
        assert headroom < 0
