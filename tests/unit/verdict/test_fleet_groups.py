# SPDX-License-Identifier: Apache-2.0
"""An audit in groups, and what updates of firmware have cost."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from tests.unit.history.journals import Boot, of

from tdx_headroom.address import GIB
from tdx_headroom.cli import main

HOSTS = Path(__file__).parents[2] / "hosts"


def rows_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    assert main(["fleet", "--format", "json", *arguments]) == os.EX_OK
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def facts(folder: Path, *hosts: tuple[str, str | None, int]) -> str:
    """A file of facts: a host each, with its firmware and so many holes."""
    lines = []
    for name, bios, holes in hosts:
        edges = [0x100000, *(GIB + (i << 24) + end for i in range(holes) for end in (0, 4096)), 2 * GIB]
        pairs = zip(edges[::2], edges[1::2], strict=True)
        lines.append(
            {
                "schema": "tdx-headroom/facts/1",
                "host": name,
                "kernel_release": "6.17.0",
                "memory_regions": [*([start, end, 0] for start, end in pairs), [4 * GIB, 64 * GIB, 0]],
                "cmrs": None,
                "platform": {"tdx_host_platform": True, "bios_version": bios, "cpu_model": "X"},
            }
        )
    path = folder / "facts.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def test_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A group counts its hosts by fit, and has least, median and most of what their fullest TDMR needs."""
    path = facts(
        tmp_path, ("a", "2.1", 3), ("b", "2.3", 4), ("c", "2.1", 17), ("d", "2.1", 6), ("e", None, 3)
    )
    first, second, unknown, totals = rows_of(capsys, path, "--group-by", "bios", "--kernel", "6.17.0")
    assert [row["bios"] for row in (first, second, unknown)] == ["2.1", "2.3", None]
    assert (first["hosts"], first["first_hosts"]) == (3, ["a", "c", "d"])
    assert [first[f"needed_{what}"] for what in ("least", "median", "most")] == [3, 6, 17]
    assert [first[f"left_{what}"] for what in ("least", "median", "most")] == [-1, 10, 13]
    assert (first["fits"], first["will_fail"], first["areas_known"]) == (2, 1, 3)
    assert "needs 17 reserved areas of 16" in first["why"]
    assert (second["why"], totals["hosts"]) == (None, 5)


@pytest.mark.parametrize("by", ["kernel,bios", "cpu", "bios,kernel,cpu"])
def test_same_columns(by: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """CSV has what JSON has, its keys in the order that was asked for; text has the same figures."""
    path = facts(tmp_path, *((f"host{i}", "2.1", 17) for i in range(40)))
    row = rows_of(capsys, path, "--group-by", by, "--kernel", "6.17.0")[0]
    assert main(["fleet", path, "--group-by", by, "--kernel", "6.17.0", "--format", "csv"]) == 0
    (cells,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert list(cells)[1 : 1 + by.count(",") + 1] == by.split(",")
    assert {name: cells[name] for name in row if name not in ("schema", "first_hosts")} == {
        name: str(value) for name, value in row.items() if name not in ("schema", "first_hosts")
    }
    assert main(["fleet", path, "--group-by", by, "--kernel", "6.17.0"]) == 0
    out = capsys.readouterr().out
    assert "40 hosts (host0, host1, host2, …)\n" in out
    assert "areas: least 17, median 17, most 17 needed; least -1, median -1, most -1 left\n" in out
    assert out.count("needs 17 reserved areas") == 1, "40 equal hosts are one line"


def test_what_an_update_cost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of every pair of versions that a host has had, over all that have had it."""
    for name, holes in (("a", 12), ("b", 14), ("c", 10)):
        boots = [Boot(1, 10), Boot(2, 10), Boot(3, holes, bios="2.3")]
        (tmp_path / f"{name}.json").write_text(of(*boots))
    (tmp_path / "d.json").write_text(of(Boot(1, 10), Boot(2, 13)))
    rows = rows_of(capsys, str(tmp_path), "--group-by", "bios")
    (update,) = (row for row in rows if row["schema"] == "tdx-headroom/fleet-firmware/1")
    assert (update["bios_before"], update["bios_after"], update["hosts"]) == ("2.1", "2.3", 3)
    assert [update[f"areas_{what}"] for what in ("least", "median", "most")] == [0, 2, 4]
    assert update["sure"] == 2
    assert [row["bios"] for row in rows if row["schema"] == "tdx-headroom/fleet-group/1"] == [
        *("2.1", "2.1", "2.3", "2.3")
    ], "the firmware of the newest boot, which only the log tells"
    assert main(["fleet", str(tmp_path), "--group-by", "bios"]) == 0
    assert "areas: least +0, median +2, most +4; every boot since needs more" in capsys.readouterr().out


def test_no_areas_without_tdx(capsys: pytest.CaptureFixture[str]) -> None:
    """What a host without TDX would need is nobody's business: its areas are unknown, not zero."""
    row = rows_of(capsys, str(HOSTS / "no-tdx"), "--group-by", "kernel")[0]
    assert (row["no_tdx"], row["areas_known"], row["needed_least"]) == (1, 0, None)
    assert main(["fleet", str(HOSTS / "no-tdx"), "--group-by", "kernel"]) == 0
    assert "  areas: unknown\n" in capsys.readouterr().out


@pytest.mark.parametrize("by", ["", "bios,bios", "vendor", "bios,"])
def test_no_such_groups(by: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Only what is known, each once."""
    assert main(["fleet", str(HOSTS), "--group-by", by]) == os.EX_USAGE
    assert "is no list of bios, cpu, kernel" in capsys.readouterr().err


def test_bad_inputs_among_groups(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One that cannot be read, and a bad line of facts, are a line on stderr, and the others are counted."""
    path = facts(tmp_path, ("a", "2.1", 3))
    with Path(path).open("a") as file:
        file.write('{"schema": "tdx-headroom/facts/1"}\n')
    assert main(["fleet", "/nope", path, "--group-by", "cpu"]) == os.EX_DATAERR
    out, err = capsys.readouterr()
    assert "1 host, 2 could not be read" in out
    assert [line.split(": ")[1] for line in err.splitlines()] == ["/nope", f"{path} line 2"]
