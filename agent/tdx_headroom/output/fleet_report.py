# SPDX-License-Identifier: Apache-2.0
"""The audit of many hosts as text, JSON lines and CSV; each host is written when it comes."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

from tdx_headroom.errors import one_line, printable
from tdx_headroom.output.table import Column, Row, table
from tdx_headroom.verdict.fleet import MAINLINE, NEXT, OWN, Fit
from tdx_headroom.verdict.kernels import why_unknown

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable, Mapping

    from tdx_headroom.output.terminal import Style
    from tdx_headroom.verdict.fleet import HostAudit, Totals

HOST_SCHEMA = "tdx-headroom/fleet-host/1"
SCHEMA = "tdx-headroom/fleet/1"
COLUMNS = (
    "input",
    "line",
    "host",
    "kernel_release",
    "state",
    "target",
    "target_kernel",
    "strategy",
    "fit",
    "why",
    "kernel_known",
)
_WORDS = {
    Fit.FITS: "fits",
    Fit.AT_RISK: "at risk",
    Fit.WILL_FAIL: "will fail",
    Fit.CANNOT_TELL: "cannot tell",
    Fit.NO_TDX: "no TDX",
}
# What a spreadsheet would take for a formula.
_FORMULA = ("=", "+", "-", "@")


def host_lines(audit: HostAudit, *, everything: bool) -> Iterable[str]:
    """A line for each target under which TDX will not surely come up, or for every one."""
    name = shown_name(audit)
    for result in audit.targets:
        if everything or result.fit in (Fit.AT_RISK, Fit.WILL_FAIL, Fit.CANNOT_TELL):
            kernel = audit.kernel_release if result.target is OWN else result.release
            label = result.target.label + (f" {one_line(kernel, 60)}" if kernel else "")
            why = printable(result.why)
            strategy = f"{result.strategy}{'' if result.kernel_known else ', unknown kernel'}"
            yield f"{_WORDS[result.fit].upper():<11}  {name}: {label} ({strategy}): {why}"


def shown_name(audit: HostAudit) -> str:
    """The host's name and where it comes from, the input alone where it has none."""
    where = audit.name if audit.line is None else f"{audit.name} line {audit.line}"
    return one_line(f"{audit.host} ({where})" if audit.host else where, 200)


def totals_text(totals: Totals, style: Style) -> str:
    """How many hosts go how under which kernel, and by strategy."""
    hosts = "1 host" if totals.hosts == 1 else f"{totals.hosts} hosts"
    unread = f", {totals.unreadable} could not be read" if totals.unreadable else ""
    if not totals.hosts:
        return f"{hosts}{unread}\n"
    rows = _counts({_told_of(label): count for label, count in totals.targets.items()})
    rows += [Row([""] * (1 + len(_WORDS))), Row(["strategy", *_WORDS.values()])]
    rows += _counts(totals.strategies)
    columns = [Column("kernel", wraps=True), *(Column(word, right=True) for word in _WORDS.values())]
    return "\n".join([f"{hosts}{unread}", "", *table(style, columns, rows)]) + "\n"


def _told_of(label: str) -> str:
    unknown = label not in (OWN.label, NEXT.label, MAINLINE.label) and why_unknown(label) is not None
    return f"{label} (unknown kernel)" if unknown else label


def _counts(counts: Mapping[Any, Counter[Fit]]) -> list[Row]:
    return [Row([str(label), *(str(count[fit]) for fit in Fit)]) for label, count in counts.items()]


def host_json(audit: HostAudit) -> dict[str, Any]:
    """One host."""
    return {
        "schema": HOST_SCHEMA,
        "input": audit.name,
        "line": audit.line,
        "host": audit.host,
        "kernel_release": audit.kernel_release,
        "state": str(audit.state),
        "targets": [
            {
                "target": result.target.label,
                "kernel": result.target.kernel or result.release,
                "strategy": str(result.strategy),
                "fit": str(result.fit),
                "why": result.why,
                "kernel_known": result.kernel_known,
            }
            for result in audit.targets
        ],
        "strategies": {str(strategy): str(fit) for strategy, fit in audit.strategies.items()},
    }


def totals_json(totals: Totals) -> dict[str, Any]:
    """All hosts together."""
    return {
        "schema": SCHEMA,
        "hosts": totals.hosts,
        "unreadable": totals.unreadable,
        "targets": _counted(totals.targets),
        "strategies": _counted(totals.strategies),
    }


def _counted(counts: Mapping[Any, Counter[Fit]]) -> dict[str, dict[str, int]]:
    return {str(label): {str(fit): count[fit] for fit in Fit} for label, count in counts.items()}


def csv_header() -> str:
    """The names of the columns."""
    return _row(COLUMNS)


def host_csv(audit: HostAudit) -> str:
    """A row for each target."""
    return "".join(
        _row(
            (
                audit.name,
                "" if audit.line is None else str(audit.line),
                audit.host or "",
                audit.kernel_release or "",
                str(audit.state),
                result.target.label,
                result.target.kernel or result.release or audit.kernel_release or "",
                str(result.strategy),
                str(result.fit),
                result.why,
                "yes" if result.kernel_known else "no",
            )
        )
        for result in audit.targets
    )


def _row(cells: Iterable[str]) -> str:
    out = io.StringIO()
    clean = (one_line(cell, 1000) for cell in cells)
    csv.writer(out, lineterminator="\n").writerow(f"'{c}" if c.startswith(_FORMULA) else c for c in clean)
    return out.getvalue()
