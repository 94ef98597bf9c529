# SPDX-License-Identifier: Apache-2.0
"""The audit of many hosts."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tdx_headroom.cli import main
from tdx_headroom.commands.progress import Progress
from tdx_headroom.host.choose import read_facts
from tdx_headroom.hostfs.root import Root
from tdx_headroom.plan import plan_host
from tdx_headroom.verdict import judge

HOSTS = Path(__file__).parents[2] / "hosts"
HISTORY = Path(__file__).parents[2] / "history"
NAMES = ["emerald-rapids", "good-2-node", "granite-rapids-like", "no-tdx", "small-vm"]
PATHS = [str(HOSTS / name) for name in NAMES]
FAILING = ["emerald-rapids", "granite-rapids-like"]
NO_TDX = ["no-tdx", "small-vm"]


def fleet(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(["fleet", *arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def json_of(out: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    *hosts, totals = map(json.loads, out.splitlines())
    return hosts, totals


def test_text(capsys: pytest.CaptureFixture[str]) -> None:
    """It names the hosts on which TDX will not surely come up, under which kernel and why, and counts all."""
    status, out, err = fleet(capsys, *PATHS)
    assert (status, err) == (0, "")
    listed = [line for line in out.splitlines() if line.startswith("WILL FAIL")]
    assert [line.split()[2] for line in listed] == [name for name in FAILING for _ in range(2)]
    assert "mainline (memory-regions): TDMR [0x0, 0x80000000) needs 17 reserved areas of 16" in out
    assert "good-2-node" not in out
    assert "5 hosts\n" in out
    assert "own kernel         1        0          2            0       2\n" in out
    assert "cmr-walk           2        0          0            1       2\n" in out
    everything = fleet(capsys, *PATHS, "--all")[1]
    assert everything.count("FITS") == 2
    assert everything.count("NO TDX") == 4


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    """A line a host, in order, and one with the counts, which are those of the lines."""
    status, out, _ = fleet(
        capsys, *PATHS, "--format", "json", "--kernel", "6.8.0-1010-intel", "--kernel", "6.17.0"
    )
    hosts, totals = json_of(out)
    assert status == 0
    assert [host["host"] for host in hosts] == NAMES
    assert [host["input"] for host in hosts] == [str(HOSTS / name) for name in NAMES]
    assert list(totals["targets"]) == ["6.8.0-1010-intel", "6.17.0"]
    for label, counts in totals["targets"].items():
        fits = [t["fit"] for host in hosts for t in host["targets"] if t["target"] == label]
        assert counts == {fit: fits.count(fit) for fit in counts}
        assert sum(counts.values()) == totals["hosts"] == 5
    by_host = {host["host"]: [t["fit"] for t in host["targets"]] for host in hosts}
    assert by_host["emerald-rapids"] == ["fits", "will-fail"]
    assert by_host["granite-rapids-like"] == ["cannot-tell", "will-fail"]
    assert by_host["no-tdx"] == ["no-tdx", "no-tdx"]


def test_csv(capsys: pytest.CaptureFixture[str]) -> None:
    """A row a host and kernel, with a header."""
    status, out, _ = fleet(capsys, *PATHS, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert status == 0
    assert [row["host"] for row in rows] == [name for name in NAMES for _ in range(2)]
    assert [row["target"] for row in rows[:2]] == ["own kernel", "mainline"]
    assert {row["fit"] for row in rows if row["host"] in NO_TDX} == {"no-tdx"}


def test_csv_holds_no_formula(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A name that a spreadsheet would execute, or that breaks a line, is made harmless."""
    facts = json.loads(json.dumps(read_facts(Root(HOSTS / "good-2-node")).to_json()))
    facts["host"] = "=cmd()\n+x"
    (tmp_path / "facts.jsonl").write_text(json.dumps(facts) + "\n")
    _, out, _ = fleet(capsys, str(tmp_path / "facts.jsonl"), "--format", "csv")
    assert out.count("\n") == 3
    assert next(csv.DictReader(io.StringIO(out)))["host"] == "'=cmd()\\x0a+x"


def test_the_same_for_a_host_however_it_comes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A host's tree, its capture and its facts are audited alike, in one run, in order."""
    for name in NAMES:
        path = str(tmp_path / f"{name}.tar.gz")
        assert main(["capture", "-o", path, "--path.rootfs", str(HOSTS / name), "--keep-host-name"]) == 0
    facts = tmp_path / "facts.jsonl"
    facts.write_text("".join(json.dumps(read_facts(Root(HOSTS / n)).to_json()) + "\n" for n in NAMES))
    capsys.readouterr()
    status, out, err = fleet(capsys, *PATHS, str(tmp_path), "--facts", str(facts), "--format", "json")
    hosts, totals = json_of(out)
    assert (status, err) == (0, "")
    assert [host["host"] for host in hosts] == [
        *NAMES,
        *[h for h in sorted([*(f"{n}.tar.gz" for n in NAMES), "facts.jsonl"]) for h in names_in(h)],
        *NAMES,
    ]
    assert totals["hosts"] == 20
    for name in NAMES:
        results = [(h["state"], h["targets"], h["strategies"]) for h in hosts if h["host"] == name]
        assert all(result == results[0] for result in results)


def names_in(file: str) -> list[str]:
    return NAMES if file == "facts.jsonl" else [file.removesuffix(".tar.gz")]


def test_inputs_that_cannot_be_read(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Each is one line on stderr, the others are audited, and the status says that something was left out."""
    (tmp_path / "bad.jsonl").write_text('{"schema": "tdx-headroom/facts/1", "cmrs": 3}\n')
    good = str(HOSTS / "good-2-node")
    status, out, err = fleet(capsys, "/nope", good, str(tmp_path / "bad.jsonl"), "--format", "json")
    hosts, totals = json_of(out)
    assert status == os.EX_DATAERR
    assert [host["host"] for host in hosts] == ["good-2-node"]
    assert (totals["hosts"], totals["unreadable"]) == (1, 2)
    lines = err.splitlines()
    assert lines[0] == "tdx-headroom: /nope: No such file or directory"
    assert lines[1].startswith(f"tdx-headroom: {tmp_path}/bad.jsonl line 1: memory_regions is missing")
    assert fleet(capsys, "/nope", good)[0] == os.EX_NOINPUT


def test_why_it_cannot_be_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """It is what is missing, also where something has happened in this boot."""
    kmsg = (HOSTS / "good-2-node/dev/kmsg").read_text().splitlines()
    texts = [line.partition(";")[2] for line in kmsg if not line.startswith(" ")]
    above = re.compile(r"BIOS-e820: \[mem 0x(?!0{8})")
    logs = {
        "no-map": [text for text in texts if "mem 0x" not in text],
        "no-sign": [text for text in texts if "tdx" not in text],
        "part": [t for t in texts if "node  " not in t and not above.match(t)],
    }
    for name, kept in logs.items():
        (tmp_path / f"{name}.log").write_text("".join(f"{text}\n" for text in kept))
    _, out, _ = fleet(capsys, str(tmp_path), "--kernel", "6.17.0", "--format", "json")
    hosts, _ = json_of(out)
    why = {Path(host["input"]).stem: host["targets"][0]["why"] for host in hosts}
    assert why["no-map"].startswith("No source tells the memory regions. Run as root, or give the kernel log")
    assert why["no-sign"].startswith("Nothing shows that this host can do TDX")
    assert why["part"].startswith("The log shows only a part of the memory map")


def test_a_kernel_too_old_to_show_tdx(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A host whose kernel may set no flag for TDX may have it, unless its CPU has none."""
    regions = [[0x100000, 0x80000000, 0]]
    facts = {"schema": "tdx-headroom/facts/1", "memory_regions": regions, "cmrs": None}
    hosts = [
        ("5.15.0-101-generic", None),
        ("6.7.9", None),
        ("5.14.0-570.el9.x86_64", None),
        ("6.8.0-101-generic", None),
        ("6.16.0", None),
        ("6.8.0-101-generic", False),
    ]
    lines = [
        {
            **facts,
            "kernel_release": release,
            "platform": {"tdx_host_platform": False, "cpu_can_tdx": can},
        }
        for release, can in hosts
    ]
    path = tmp_path / "facts.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found, _ = json_of(fleet(capsys, str(path), "--format", "json")[1])
    fits = [[target["fit"] for target in host["targets"]] for host in found]
    assert fits == 4 * [["cannot-tell", "cannot-tell"]] + 2 * [["no-tdx", "no-tdx"]]
    assert "kernel 5.15.0-101-generic may not show it" in found[0]["targets"][0]["why"]
    found, _ = json_of(fleet(capsys, str(path), "--format", "json", "--kernel", "6.17.0")[1])
    assert [host["targets"][0]["fit"] for host in found] == [*4 * ["cannot-tell"], *2 * ["no-tdx"]]


def test_a_target_that_never_tries(capsys: pytest.CaptureFixture[str]) -> None:
    """That hosts fit is no promise where the kernel does not initialize TDX: it is said once, on stderr."""
    status, out, err = fleet(capsys, *PATHS, "--kernel", "6.12.0", "--kernel", "5.15.0", "--kernel", "6.17.0")
    assert status == 0
    assert "never" not in out
    assert [line.split(":")[1] for line in err.splitlines()] == [
        " Mainline 6.8 to 6.15 never initializes TDX, since KVM does not ask for it",
        " Mainline has TDX for hosts since 6.8",
    ]


def test_a_target_that_nobody_knows(capsys: pytest.CaptureFixture[str]) -> None:
    """It is answered as mainline, and that is said."""
    kernels = ("6.15.0-1001-intel", "6.11.0-1006-intel", "6.13.0-rc2-tdxvfio", "7.3.4+deb13-amd64", "7.3.0")
    status, out, err = fleet(capsys, *PATHS, *(f"--kernel={kernel}" for kernel in kernels))
    assert status == 0
    assert "6.15.0-1001-intel (memory-regions, unknown kernel)" in out
    assert "\n6.15.0-1001-intel (unknown kernel)  " in out
    assert "7.3.0 (" not in out.replace("7.3.0 (memory-regions)", "")
    assert [line.split(": ", 1)[1] for line in err.splitlines()] == [
        "Kernel 6.15.0-1001-intel is not in the table; mainline uses memory-regions",
        (
            "How kernel 6.11.0-1006-intel (Ubuntu 6.5 intel-opt and 6.11 intel) looks for holes is unknown;"
            " mainline uses memory-regions"
        ),
        (
            "Kernel 6.13.0-rc2-tdxvfio is somebody's own build: as mainline 6.8 to 6.15, unless it was built"
            " with TDX patches"
        ),
        "Debian builds its kernels without TDX for hosts (7.3.4+deb13-amd64): boot another vendor's.",
    ]


@pytest.mark.parametrize("command", ["plan", "check"])
@pytest.mark.parametrize(("release", "said"), [("6.15.0-1001-intel", True), ("6.17.0", False)])
def test_an_unknown_kernel_elsewhere(
    capsys: pytest.CaptureFixture[str], command: str, release: str, *, said: bool
) -> None:
    """plan and check say so, too, on stderr."""
    main([command, PATHS[0], "--kernel", release])
    err = capsys.readouterr().err
    assert err == (
        f"tdx-headroom: kernel {release} is not in the table; mainline uses memory-regions\n" if said else ""
    )


@pytest.mark.parametrize("release", ["", "6", "abc", "=1.2", "6.17.0 x", "6.17.0\n"])
def test_a_kernel_that_is_none(capsys: pytest.CaptureFixture[str], release: str) -> None:
    """A slip in --kernel is refused; it would be answered as mainline is."""
    for command in ("fleet", "plan", "check"):
        assert main([command, PATHS[0], f"--kernel={release}"]) == os.EX_USAGE
        assert "is no kernel release such as" in capsys.readouterr().err


def test_progress_is_for_terminals() -> None:
    """A bar is drawn on a terminal's stderr and taken away again; elsewhere nothing is written."""
    command = [sys.executable, "-m", "tdx_headroom", "fleet", *PATHS]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.stderr == ""
    ours, theirs = pty.openpty()
    again = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, text=True)
    os.close(theirs)
    drawn = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert again.stdout == run.stdout
    assert "[......" in drawn
    assert "0/5" in drawn
    assert drawn.endswith("\r\x1b[K")


def test_progress_draws_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """However fast hosts come, the line is drawn ten times a second at most."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    times = iter(i / 1000 for i in range(1000))
    monkeypatch.setattr("time.monotonic", lambda: 5.0 + next(times))
    terminal = Terminal()
    progress = Progress(terminal, None)
    for _ in range(1000):
        progress.item()
    assert 5 <= terminal.getvalue().count("\r") <= 11


def test_only_what_is_staged(capsys: pytest.CaptureFixture[str]) -> None:
    """A host of which nobody knows what boots next is not passed over then: it cannot be told."""
    status, out, _ = fleet(capsys, *PATHS, "--next-boot", "--format", "json")
    hosts, totals = json_of(out)
    assert status == 0
    assert [[t["target"] for t in host["targets"]] for host in hosts] == 5 * [["own next boot"]]
    assert totals["targets"]["own next boot"] == {
        **dict.fromkeys(("fits", "at-risk", "will-fail"), 0),
        "cannot-tell": 3,
        "no-tdx": 2,
    }
    assert "the input has no boot configuration" in hosts[0]["targets"][0]["why"]
    assert fleet(capsys, *PATHS, "--next-boot", "--kernel", "6.17.0")[0] == os.EX_USAGE


@pytest.mark.parametrize(
    ("name", "fail_on", "status"),
    [
        ("emerald-rapids", "will-fail", 2),
        ("emerald-rapids", "at-risk", 2),
        ("emerald-rapids", None, 0),
        ("good-2-node", "at-risk", 0),
        ("no-tdx", "at-risk", 0),
    ],
)
def test_status_for_pipelines(
    name: str, fail_on: str | None, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is 2 where a host is as bad as was said, or worse, and 0 without that."""
    option = [] if fail_on is None else ["--fail-on", fail_on]
    assert fleet(capsys, str(HOSTS / name), *option)[0] == status


def test_status_when_at_risk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A host at risk fails only where that was asked for, and goes before an input that cannot be read."""
    edges = [1 << 20, *(e for i in range(14) for e in ((1 << 30) + (i << 24), (1 << 30) + (i << 24) + 4096))]
    edges.append(2 << 30)
    facts = {
        "schema": "tdx-headroom/facts/1",
        "kernel_release": "6.17.0",
        "memory_regions": [[a, b, 0] for a, b in zip(edges[::2], edges[1::2], strict=True)],
        "cmrs": None,
        "platform": {"tdx_host_platform": True},
    }
    path = tmp_path / "facts.jsonl"
    path.write_text(json.dumps(facts) + "\n")
    arguments = [str(path), "--kernel", "6.17.0", "--fail-on"]
    assert fleet(capsys, *arguments, "will-fail")[0] == 0
    assert fleet(capsys, *arguments, "at-risk")[0] == 2
    assert fleet(capsys, "/nope", *arguments, "at-risk")[0] == 2
    assert fleet(capsys, "/nope", *arguments, "will-fail")[0] == os.EX_NOINPUT


@pytest.mark.parametrize("form", ["text", "json", "csv"])
def test_output_is_whole(form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file has what would have been printed, and nothing else is printed."""
    _, expected, _ = fleet(capsys, *PATHS, "--format", form)
    path = tmp_path / "audit"
    path.write_text("old")
    assert fleet(capsys, *PATHS, "--format", form, "--output", str(path)) == (0, "", "")
    assert path.read_text() == expected
    assert [found.name for found in tmp_path.iterdir()] == ["audit"]


def test_an_output_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """That is said in a line, before the hosts are read."""
    status, out, err = fleet(capsys, "/nope", "--output", str(tmp_path / "none/audit"))
    assert (status, out) == (os.EX_CANTCREAT, "")
    assert err.endswith("none: there is no such directory\n")


def test_an_audit_that_ends_leaves_the_old_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who reads the file never sees a part of one."""
    path = tmp_path / "audit"
    path.write_text("old")
    monkeypatch.setattr("tdx_headroom.output.fleet_report.totals_text", lambda _: 1 / 0)
    assert fleet(capsys, *PATHS, "--output", str(path))[0] == os.EX_SOFTWARE
    assert path.read_text() == "old"


def test_own_kernels_that_nobody_knows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """How many hosts have one is said in the table and on stderr: they are judged as mainline."""
    facts = read_facts(Root(HOSTS / "good-2-node")).to_json()
    facts["kernel_log"] = facts["traits"] = None
    facts["kernel_release"] = "6.15.0-1001-intel"
    path = tmp_path / "facts.jsonl"
    path.write_text(json.dumps(facts) + "\n")
    status, out, err = fleet(capsys, str(path), str(HOSTS / "good-2-node"))
    assert status == 0
    assert "\nown kernel (1 unknown)  " in out
    assert err == "tdx-headroom: own kernel: 1 host has a kernel that nobody knows, judged as mainline\n"


def test_a_next_boot_that_is_not_known_is_no_unknown_kernel(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is judged as mainline where nothing is judged."""
    _, out, err = fleet(capsys, str(HOSTS / "good-2-node"), "--next-boot")
    assert "CANNOT TELL" in out
    assert "unknown kernel" not in out
    assert "unknown)" not in out
    assert err == ""


def test_hosts_left_out_of_groups_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    """JSON and CSV of groups have no place for hosts to which a canary does not apply: stderr has."""
    canary = [str(HISTORY / f"canary-{version}.json") for version in ("2.1", "2.3")]
    for form in ("json", "csv"):
        options = ["--canary", *canary, "--group-by", "bios", "--format", form]
        _, _, err = fleet(capsys, str(HISTORY / "fleet.jsonl"), *options)
        assert "left out" in err


def test_a_log_alone_is_no_other_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is said to be a log is read as one, with earlier boots or without."""
    (tmp_path / "iomem").write_text((HOSTS / "good-2-node/proc/iomem").read_text())
    for options in ([], ["--group-by", "bios"]):
        status, _, err = fleet(capsys, "--log", str(tmp_path / "iomem"), *options)
        assert (status, "no kernel message" in err) == (os.EX_DATAERR, True)


def test_csv_and_json_have_the_same_columns(capsys: pytest.CaptureFixture[str]) -> None:
    """Every column of the one is a key of the other, with the same value."""
    rows = list(csv.DictReader(io.StringIO(fleet(capsys, *PATHS, "--format", "csv")[1])))
    hosts, _ = json_of(fleet(capsys, *PATHS, "--format", "json")[1])
    flat = [{**host, **host["strategies"], **target} for host in hosts for target in host["targets"]]
    assert len(rows) == len(flat)
    for row, keys in zip(rows, flat, strict=True):
        assert row.keys() == keys.keys() - {"schema", "targets", "strategies", "kernel"}
        words = {None: "", True: "yes", False: "no"}
        assert row == {name: str(words.get(keys[name], keys[name])) for name in row}


@pytest.mark.parametrize("name", NAMES)
def test_an_audit_computes_no_remedies(name: str) -> None:
    """Nobody is shown what to do: that is most of the work, and changes nothing of the verdict."""
    facts = read_facts(Root(HOSTS / name))
    plans = plan_host(facts)
    whole, without = judge(facts, plans), judge(facts, plans, remedies=False)
    assert (whole.state, whole.next_boot, whole.told) == (without.state, without.next_boot, without.told)
    assert [(f.kind, f.severity, f.text) for f in whole.findings] == [
        (f.kind, f.severity, f.text) for f in without.findings
    ]
    assert not [r for f in without.findings for r in f.remedies if f.kind == "reserved-areas"]
