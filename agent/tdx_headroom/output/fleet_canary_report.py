# SPDX-License-Identifier: Apache-2.0
"""What a canary has shown, and which hosts that says nothing about, as text, JSON and CSV."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tdx_headroom.address import show
from tdx_headroom.errors import one_line
from tdx_headroom.facts.codec import encode
from tdx_headroom.output.fleet_groups_report import hosts_in_words, names_in_words
from tdx_headroom.output.fleet_report import COLUMNS, csv_row, where_of
from tdx_headroom.verdict.fleet_canary import Why

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tdx_headroom.verdict.fleet_canary import Canary, LeftOut
    from tdx_headroom.verdict.fleet_groups import Members

SCHEMA = "tdx-headroom/fleet-canary/1"
LEFT_OUT_SCHEMA = "tdx-headroom/fleet-left-out/1"
_MOST_HOLES = 4
_WORDS = {
    Why.OTHER_MODEL: "of another model",
    Why.UNKNOWN_MODEL: "of a model that is unknown",
    Why.UPDATED: "updated already",
}


def canary_lines(canary: Canary) -> Iterator[str]:
    """What it has shown, a sentence a line."""
    before, after = (one_line(v or "unknown", 60) for v in (canary.bios_before, canary.bios_after))
    model = " ".join(one_line(part, 80) for part in (canary.product, canary.cpu_model) if part)
    yield f"Canary: {model or 'model unknown'}, BIOS {before} to {after}"
    if canary.change.bios is False:
        yield "  Its BIOS has the same version in both: this is no update of it"
    places = ", ".join(show(*hole) for hole in canary.holes[:_MOST_HOLES])
    more = f" and {len(canary.holes) - _MOST_HOLES} more" if len(canary.holes) > _MOST_HOLES else ""
    yield f"  Memory that it has no more, taken from each host: {places or 'none'}{more}"
    if canary.cmr_holes:
        cmrs = ", ".join(show(*hole) for hole in canary.cmr_holes[:_MOST_HOLES])
        yield f"  No longer convertible, on each host: {cmrs}"
    if canary.went:
        went = "1 hole went" if canary.went == 1 else f"{canary.went} holes went"
        yield f"  {went} there; no host is promised that"
    if canary.change.areas is not None:
        yield f"  Its fullest TDMR needs {canary.change.areas:+} areas"
    if canary.beside:
        yield f"  Different beside the BIOS, so that the holes may come from that: {', '.join(canary.beside)}"
    if canary.unknown:
        yield f"  It cannot be told whether these differ: {', '.join(canary.unknown)}"


def canary_json(canary: Canary) -> dict[str, Any]:
    """The same for programs."""
    return {
        "schema": SCHEMA,
        "cpu_model": canary.cpu_model,
        "product": canary.product,
        "bios_before": canary.bios_before,
        "bios_after": canary.bios_after,
        "holes": encode(canary.holes),
        "cmr_holes": encode(canary.cmr_holes),
        "holes_gone": canary.went,
        "areas": canary.change.areas,
        "differs": list(canary.beside),
        "unknown": list(canary.unknown),
    }


def left_out_line(host: LeftOut) -> str:
    """One host that is left out."""
    return f"{'LEFT OUT':<11}  {where_of(host.name, host.line, host.host)}: {_WORDS[host.why]}"


def left_out_json(host: LeftOut) -> dict[str, Any]:
    """The same for programs."""
    return {"schema": LEFT_OUT_SCHEMA, **_named(host)}


def left_out_csv(host: LeftOut) -> str:
    """The same as a row."""
    known = {**_named(host), "state": "left-out"}
    return csv_row(known.get(name) for name in COLUMNS)


def _named(host: LeftOut) -> dict[str, Any]:
    return {"input": host.name, "line": host.line, "host": host.host, "why": str(host.why)}


def left_out_text(left_out: Mapping[Why, Members]) -> str:
    """How many are left out, by why."""
    return "".join(
        f"{hosts_in_words(members)} left out, {_WORDS[why]}: {names_in_words(members)}\n"
        for why, members in left_out.items()
    )
