# SPDX-License-Identifier: Apache-2.0
"""What a firmware update would do to a fleet, by one host before and after it."""

from __future__ import annotations

import csv
import io
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from tdx_headroom.address import GIB, MIB
from tdx_headroom.cli import main

if TYPE_CHECKING:
    from pathlib import Path

PAGE = 4096
END = 64 * GIB


def holes_at(*starts: int, size: int = PAGE) -> list[tuple[int, int]]:
    return [(start, start + size) for start in starts]


SOME = holes_at(*(GIB + (i << 24) for i in range(10)))
CAME = holes_at(GIB + (40 << 24), GIB + (41 << 24), GIB + (42 << 24))
KERNEL = "6.17.0"


def facts(
    host: str,
    holes: list[tuple[int, int]],
    bios: str | None = "2.1",
    cpu: str | None = "X",
    product: str | None = "R760",
    *,
    end: int = END,
    **more: Any,  # noqa: ANN401
) -> dict[str, Any]:
    edges = [MIB, *(edge for hole in sorted([*holes, (2 * GIB, 4 * GIB)]) for edge in hole), end]
    return {
        "schema": "tdx-headroom/facts/1",
        "host": host,
        "kernel_release": KERNEL,
        "memory_regions": [[a, b, 0] for a, b in zip(edges[::2], edges[1::2], strict=True)],
        "cmrs": None,
        "command_line": ["nohibernate"],
        "platform": {"tdx_host_platform": True, "bios_version": bios, "cpu_model": cpu, "product": product},
        **more,
    }


def write(path: Path, *hosts: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(host) + "\n" for host in hosts))
    return str(path)


def trial(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    hosts: list[dict[str, Any]],
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
    kernel: str = KERNEL,
) -> tuple[dict[str, Any], dict[str, dict[str, Any]], dict[str, Any]]:
    """The canary, what is said of each host, and the counts."""
    paths = [
        write(folder / "fleet.jsonl", *hosts),
        "--canary",
        write(folder / "before.json", before or facts("canary", SOME)),
        write(folder / "after.json", after or facts("canary", [*SOME, *CAME], "2.3")),
    ]
    assert main(["fleet", *paths, "--kernel", kernel, "--format", "json"]) == os.EX_OK
    shown, *rest, totals = map(json.loads, capsys.readouterr().out.splitlines())
    return shown, {row["host"]: row for row in rest}, totals


def fit(row: dict[str, Any]) -> tuple[str, str]:
    (target,) = row["targets"]
    return target["fit_now"], target["fit"]


def test_the_same_holes_on_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What came on the canary comes on each host at the same place: who had room for it still fits."""
    many = holes_at(*(GIB + (i << 24) for i in range(14)))
    some = SOME[:4]
    shown, hosts, totals = trial(tmp_path, capsys, [facts("full", many), facts("roomy", some)])
    assert shown["holes"] == [list(hole) for hole in CAME]
    assert (shown["bios_before"], shown["bios_after"], shown["areas"]) == ("2.1", "2.3", 3)
    assert (shown["differs"], shown["unknown"]) == ([], ["CMRs"])
    assert fit(hosts["full"]) == ("at-risk", "will-fail")
    assert fit(hosts["roomy"]) == ("fits", "fits")
    assert "needs 17 reserved areas of 16" in hosts["full"]["targets"][0]["why"]
    assert totals["targets_now"][KERNEL]["fits"] == 1
    assert totals["targets"][KERNEL]["will-fail"] == 1


def test_holes_that_went_are_not_filled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Memory is never invented: a host that fails now fails then."""
    full = facts("full", holes_at(*(GIB + (i << 24) for i in range(18))))
    shown, hosts, _ = trial(tmp_path, capsys, [full], after=facts("canary", SOME[:3], "2.3"))
    assert (shown["holes"], shown["holes_gone"], shown["areas"]) == ([], 7, -7)
    assert fit(hosts["full"]) == ("will-fail", "will-fail")


@pytest.mark.parametrize(
    ("host", "why"),
    [
        (facts("h", SOME, cpu="Y"), "another model"),
        (facts("h", SOME, product="R660"), "another model"),
        (facts("h", SOME, cpu=None, product=None), "unknown model"),
        (facts("h", SOME, platform=None), "unknown model"),
        (facts("h", SOME, "2.3"), "updated already"),
    ],
)
def test_left_out(host: dict[str, Any], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the canary shows says nothing about other machines, nor about those that have the update."""
    _, hosts, totals = trial(tmp_path, capsys, [host])
    assert (hosts["h"]["schema"], hosts["h"]["why"]) == ("tdx-headroom/fleet-left-out/1", why)
    assert totals["hosts"] == 0


@pytest.mark.parametrize(
    ("host", "said"),
    [
        (facts("h", SOME, "2.0"), "Its BIOS is 2.0, the canary's was 2.1"),
        (facts("h", SOME, None), "Its BIOS is unknown, the canary's was 2.1"),
        (
            facts("h", holes_at(GIB + (40 << 24))),
            "At the place of 1 of the canary's 3 holes this host has no",
        ),
        (facts("h", SOME, memory_regions=None), "The memory regions are unknown"),
    ],
)
def test_what_cannot_be_told(
    host: dict[str, Any], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the same holes may not be all, or have no place, nobody promises that the host fits."""
    _, hosts, _ = trial(tmp_path, capsys, [host])
    assert fit(hosts["h"])[1] == "cannot-tell"
    if host["memory_regions"] is not None:
        assert hosts["h"]["targets"][0]["why"].startswith(said)


def test_what_is_at_risk_stays_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A doubt hides no risk that is known."""
    many = facts("h", holes_at(*(GIB + (i << 24) for i in range(13))), "2.0")
    _, hosts, _ = trial(tmp_path, capsys, [many], after=facts("canary", [*SOME, *CAME[:1]], "2.3"))
    assert fit(hosts["h"])[1] == "at-risk"
    assert "what else would change is unknown" in hosts["h"]["targets"][0]["why"]


def test_cmrs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A kernel that goes by CMRs gets the canary's holes in them; where these are unknown, no promise."""
    walks = "6.8.0-1010-intel"
    own = [[MIB, 2 * GIB - MIB], [4 * GIB, END - 4 * GIB]]
    host = facts("h", SOME, cmrs=own)
    _, hosts, _ = trial(tmp_path, capsys, [host], kernel=walks)
    assert fit(hosts["h"]) == ("fits", "cannot-tell")
    came = holes_at(*(GIB + MIB + (i << 25) for i in range(17)))
    edges = [MIB, *(edge for hole in came for edge in hole), 2 * GIB]
    holed = [*([a, b - a] for a, b in zip(edges[::2], edges[1::2], strict=True)), own[1]]
    before = facts("canary", SOME, cmrs=own)
    after = facts("canary", [*SOME, *came], "2.3", cmrs=holed)
    shown, hosts, _ = trial(tmp_path, capsys, [host], before, after, kernel=walks)
    assert len(shown["cmr_holes"]) == 17
    assert fit(hosts["h"]) == ("fits", "will-fail")


def test_what_differs_beside_the_bios(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Another kernel, command line or DIMM may have made the holes: it is named; a DIMM that went is none."""
    after = facts(
        "canary", [*SOME, *CAME], "2.3", end=END - 8 * GIB, kernel_release="6.18.0", command_line=None
    )
    shown, *_ = trial(tmp_path, capsys, [facts("h", SOME)], after=after)
    assert shown["differs"] == ["kernel", "memory"]
    assert shown["unknown"] == ["command line", "CMRs"]
    assert shown["holes"] == [list(hole) for hole in CAME]
    fleet, *canary = (str(tmp_path / name) for name in ("fleet.jsonl", "before.json", "after.json"))
    assert main(["fleet", fleet, "--canary", *canary]) == 0
    assert "the holes may come from that: kernel, memory\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (
            facts("c", SOME, memory_regions=None),
            facts("c", SOME),
            "the canary's memory map before the update",
        ),
        (facts("c", SOME), facts("c", SOME, memory_regions=None), "the canary's memory map after the update"),
        (facts("c", SOME), facts("c", SOME, cpu="Y"), "the canary is of another model after the update"),
    ],
)
def test_no_canary(
    before: dict[str, Any],
    after: dict[str, Any],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Two inputs that do not go together are refused in a line."""
    paths = [write(tmp_path / "a.json", before), write(tmp_path / "b.json", after)]
    assert main(["fleet", paths[0], "--canary", *paths]) == os.EX_DATAERR
    assert capsys.readouterr().err.startswith(f"tdx-headroom: {said}")


def test_inputs_that_are_no_canary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One host each, from files."""
    one = write(tmp_path / "a.json", facts("a", SOME))
    two = write(tmp_path / "b.json", facts("a", SOME), facts("b", SOME))
    assert main(["fleet", one, "--canary", one, two]) == os.EX_DATAERR
    assert "holds several hosts" in capsys.readouterr().err
    assert main(["fleet", one, "--canary", one, "/nope"]) == os.EX_NOINPUT
    bad = write(tmp_path / "c.json", {**facts("a", SOME), "cmrs": 5})
    assert main(["fleet", one, "--canary", one, bad]) == os.EX_DATAERR
    assert f"{bad} line 1: cmrs: expected a list or null" in capsys.readouterr().err
    assert main(["fleet", one, "--canary", "-", one]) == os.EX_USAGE


def test_text_and_csv(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Text lists who would go otherwise than now; CSV has a row each, and what the canary shows beside it."""
    many = holes_at(*(GIB + (i << 24) for i in range(14)))
    failing = facts("failing", holes_at(*(GIB + (i << 24) for i in range(20))))
    hosts = [facts("full", many), failing, facts("other", SOME, cpu="Y"), facts("roomy", SOME[:2])]
    trial(tmp_path, capsys, hosts)
    names = ("fleet.jsonl", "before.json", "after.json")
    fleet, *canary = (str(tmp_path / name) for name in names)
    arguments = ["fleet", fleet, "--canary", *canary, "--kernel", KERNEL]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert [line.split()[2] for line in out.splitlines() if line.startswith("WILL FAIL")] == ["full"]
    assert "1 too many. Now: at risk.\n" in out
    assert "6.17.0, now" in out
    assert "1 host left out, of another model: other\n" in out
    assert main([*arguments, "--format", "csv"]) == 0
    out, err = capsys.readouterr()
    rows = {row["host"]: row for row in csv.DictReader(io.StringIO(out))}
    assert (rows["full"]["fit_now"], rows["full"]["fit"]) == ("at-risk", "will-fail")
    assert (rows["other"]["state"], rows["other"]["why"]) == ("left-out", "another model")
    assert err.startswith("Canary: R760 X, BIOS 2.1 to 2.3\n")
