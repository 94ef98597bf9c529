# SPDX-License-Identifier: Apache-2.0
"""The audit of many hosts as text, JSON lines and CSV; each host is written when it comes."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

from tdx_headroom.errors import one_line, printable
from tdx_headroom.output.table import Column, Row, table
from tdx_headroom.plan import Strategy
from tdx_headroom.verdict.fleet import MAINLINE, NEXT, OWN, Fit
from tdx_headroom.verdict.kernels import why_unknown

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable, Mapping

    from tdx_headroom.output.terminal import Style
    from tdx_headroom.verdict.fleet import HostAudit, TargetResult, Totals

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
    "bios_version",
    "cpu_model",
    "areas_needed",
    "areas_left",
    *map(str, Strategy),
    "fit_now",
)
WORDS = {
    Fit.FITS: "fits",
    Fit.AT_RISK: "at risk",
    Fit.WILL_FAIL: "will fail",
    Fit.CANNOT_TELL: "cannot tell",
    Fit.NO_TDX: "no TDX",
}
"""For people."""
# What a spreadsheet would take for a formula.
_FORMULA = ("=", "+", "-", "@")


def host_lines(audit: HostAudit, *, everything: bool) -> Iterable[str]:
    """A line for each target under which TDX will not surely come up, or for every one.

    With a canary's holes these are the targets under which it goes otherwise than without.
    """
    name = where_of(audit.name, audit.line, audit.host)
    for result in audit.targets:
        poor = result.fit in (Fit.AT_RISK, Fit.WILL_FAIL, Fit.CANNOT_TELL)
        if everything or (poor and result.fit is not result.now):
            kernel = result.release if result.target.kernel else _kernel_of(audit, result)
            label = result.target.label + (f" {one_line(kernel, 60)}" if kernel else "")
            why = printable(result.why)
            strategy = f"{result.strategy}{'' if result.kernel_known else ', unknown kernel'}"
            now = "" if result.now is None else f" Now: {WORDS[result.now]}."
            yield f"{WORDS[result.fit].upper():<11}  {name}: {label} ({strategy}): {why}{now}"


def where_of(name: str, line: int | None, host: str | None) -> str:
    """The host's name and where it comes from, the input alone where it has none."""
    where = name if line is None else f"{name} line {line}"
    return one_line(f"{host} ({where})" if host else where, 200)


def totals_text(totals: Totals, style: Style) -> str:
    """How many hosts go how under which kernel, and by strategy."""
    hosts = "1 host" if totals.hosts == 1 else f"{totals.hosts} hosts"
    unread = f", {totals.unreadable} could not be read" if totals.unreadable else ""
    if not totals.hosts:
        return f"{hosts}{unread}\n"
    rows: list[Row] = []
    for label, count in totals.targets.items():
        told = _told_of(label, totals.unknown[label])
        with_now = {f"{told}, now": totals.now[label]} if label in totals.now else {}
        rows += _counts({**with_now, told: count})
    rows += [Row([""] * (1 + len(WORDS))), Row(["strategy", *WORDS.values()])]
    rows += _counts(totals.strategies)
    columns = [Column("kernel", wraps=True), *(Column(word, right=True) for word in WORDS.values())]
    return "\n".join([f"{hosts}{unread}", "", *table(style, columns, rows)]) + "\n"


def _told_of(label: str, unknown: int) -> str:
    if label in (OWN.label, NEXT.label):
        return f"{label} ({unknown} unknown)" if unknown else label
    return f"{label} (unknown kernel)" if label != MAINLINE.label and why_unknown(label) else label


def notes_behind(totals: Totals) -> list[str]:
    """What is to be said of kernels that only the hosts name."""
    return [
        f"{label}: {'1 host has' if count == 1 else f'{count} hosts have'} a kernel that nobody knows,"
        " judged as mainline"
        for label, count in totals.unknown.items()
        if label in (OWN.label, NEXT.label)
    ]


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
        "bios_version": audit.bios_version,
        "cpu_model": audit.cpu_model,
        "areas_needed": None if audit.areas is None else audit.areas.needed,
        "areas_left": None if audit.areas is None else audit.areas.left,
        "state": str(audit.state),
        "targets": [
            {
                "target": result.target.label,
                "kernel": result.target.kernel or result.release,
                "target_kernel": _kernel_of(audit, result),
                "strategy": str(result.strategy),
                "fit": str(result.fit),
                "why": result.why,
                "kernel_known": result.kernel_known,
                "fit_now": None if result.now is None else str(result.now),
            }
            for result in audit.targets
        ],
        "strategies": {str(strategy): str(fit) for strategy, fit in audit.strategies.items()},
    }


def _kernel_of(audit: HostAudit, result: TargetResult) -> str | None:
    """The kernel that a result is about; None: unknown."""
    own = audit.kernel_release if result.target == OWN else None
    return result.target.kernel or result.release or own


def totals_json(totals: Totals) -> dict[str, Any]:
    """All hosts together."""
    return {
        "schema": SCHEMA,
        "hosts": totals.hosts,
        "unreadable": totals.unreadable,
        "targets": _counted(totals.targets),
        **({"targets_now": _counted(totals.now)} if totals.now else {}),
        "strategies": _counted(totals.strategies),
    }


def _counted(counts: Mapping[Any, Counter[Fit]]) -> dict[str, dict[str, int]]:
    return {str(label): {str(fit): count[fit] for fit in Fit} for label, count in counts.items()}


def csv_header() -> str:
    """The names of the columns."""
    return csv_row(COLUMNS)


def host_csv(audit: HostAudit) -> str:
    """A row for each target."""
    return "".join(
        csv_row(
            (
                audit.name,
                audit.line,
                audit.host,
                audit.kernel_release,
                str(audit.state),
                result.target.label,
                _kernel_of(audit, result),
                str(result.strategy),
                str(result.fit),
                result.why,
                "yes" if result.kernel_known else "no",
                audit.bios_version,
                audit.cpu_model,
                None if audit.areas is None else audit.areas.needed,
                None if audit.areas is None else audit.areas.left,
                *(str(audit.strategies[strategy]) for strategy in Strategy),
                None if result.now is None else str(result.now),
            )
        )
        for result in audit.targets
    )


def csv_row(cells: Iterable[str | int | None]) -> str:
    """A row, in which no text starts a line or is a formula; what is None is empty."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(
        _harmless(one_line(cell, 1000)) if isinstance(cell, str) else cell for cell in cells
    )
    return out.getvalue()


def _harmless(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_FORMULA) else cell
