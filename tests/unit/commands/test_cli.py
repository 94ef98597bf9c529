# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tdx_headroom import __version__
from tdx_headroom.address import GIB, MIB
from tdx_headroom.cli import READER_GONE, main

HOSTS = Path(__file__).parents[2] / "hosts"
GOOD: dict[str, Any] = {
    "schema": "tdx-headroom/facts/1",
    "host": "a",
    "memory_regions": [[MIB, GIB, 0]],
    "cmrs": None,
}


def run(
    arguments: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    stdin: bytes = b"",
) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin)))
    status = main(arguments)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: ANN401
    def call(*arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
        return run(list(arguments), capsys, monkeypatch, stdin)

    return call


def lines(*objects: object) -> bytes:
    return b"".join(json.dumps(o).encode() + b"\n" for o in objects)


@pytest.mark.parametrize("form", ["json", "text"])
def test_hosts_with_one_map(form: str, cli: Any) -> None:  # noqa: ANN401
    """Each has the answer that it gets alone, whatever host like it came before."""
    failing = json.loads(cli_facts("emerald-rapids"))
    hosts = [
        {**facts, "host": name}
        for name in ("one", "two", None)
        for facts in (GOOD, failing, {**failing, "kernel_release": "6.6.0"})
    ]
    plan = ("plan", "--format", form, "--facts", "-")
    alone = [cli(*plan, stdin=lines(host)) for host in hosts]
    assert cli(*plan, stdin=lines(*hosts)) == (0, "".join(out for _, out, _ in alone), "")
    assert len({out for _, out, _ in alone}) == len(hosts)


def test_facts_are_answered_line_by_line_in_order(cli: Any) -> None:  # noqa: ANN401
    """Every facts line has one plan line with all keys that the format promises."""
    status, out, err = cli("plan", "--facts", "-", stdin=lines(GOOD, {**GOOD, "host": None}))
    assert (status, err) == (0, "")
    plans = [json.loads(line) for line in out.splitlines()]
    assert [plan["host"] for plan in plans] == ["a", None]
    for plan in plans:
        assert plan["schema"] == "tdx-headroom/plan/1"
        assert set(plan) == {"schema", "host", "nodes_known", "strategies", "observed", "verdict", "boots"}
        assert plan["strategies"]["cmr-walk"] is plan["strategies"]["cmr-subregion"] is None
        assert set(plan["observed"]) == {
            "module_state",
            "errno",
            "reason",
            "pamt_kib",
            "keyids",
            "module_version",
            "cmrs",
            "failed_tdmr",
        }
        assert set(plan["verdict"]) >= {"state", "next_boot", "strategy", "evidence", "remedies"}


def test_unknown_memory_gives_a_line_all_the_same(cli: Any) -> None:  # noqa: ANN401
    """A host whose memory is unknown is answered with null plans, and the verdict says so."""
    status, out, _ = cli("plan", "--facts", "-", stdin=lines({**GOOD, "memory_regions": None}))
    plan = json.loads(out)
    assert status == 0
    assert set(plan["strategies"].values()) == {None}
    assert plan["verdict"]["state"] == "cannot-tell"
    assert plan["nodes_known"] is False


def test_no_zones_are_unknown_zones(cli: Any) -> None:  # noqa: ANN401
    """An empty list of zones is none at all: they are derived from the memory regions."""
    plans = []
    for zones in ("null", "[]"):
        facts = lines(GOOD)[:-2] + f', "zones": {zones}}}\n'.encode()
        status, out, _ = cli("plan", "--facts", "-", stdin=facts)
        assert status == 0
        plans.append(json.loads(out))
    assert plans[0] == plans[1]
    assert plans[0]["strategies"]["memory-regions"]["errno"] == 0


@pytest.mark.parametrize("command", [["serve"], ["textfile", "--output", "-"], ["capture", "-o", "x.tar.gz"]])
def test_a_root_that_is_not_there(command: list[str], tmp_path: Path, cli: Any) -> None:  # noqa: ANN401
    """A host's root that does not exist is one line that says so, not a host without sources."""
    status, out, err = cli(*command, "--path.rootfs", str(tmp_path / "nowhere"))
    assert (status, out) == (os.EX_NOINPUT, "")
    assert err.count("\n") == 1
    assert "nowhere is no directory" in err


BAD_LINES = {
    "not-json": (b"{nope", "the line is not JSON"),
    "cut": (
        b'{"host": "a",',
        "the line is not JSON: Expecting property name enclosed in double quotes at column",
    ),
    "digits": (b'{"host": ' + b"1" * 10_000 + b"}", "a number in the line has too many digits"),
    "not-an-object": (b"[1]", "a facts object is expected"),
    "not-utf8": (b'{"host": "\xff"}', "the line is not UTF-8"),
    "too-deep": (b"[" * 100_000, "nested too deeply"),
    "schema": (lines({**GOOD, "schema": "tdx-headroom/facts/9"}), "schema is"),
    "no-regions": (
        lines({k: v for k, v in GOOD.items() if k != "memory_regions"}),
        "memory_regions is missing",
    ),
    "unordered": (
        lines({**GOOD, "memory_regions": [[GIB, 2 * GIB, 0], [0, MIB, 0]]}),
        "memory_regions[1] starts",
    ),
    "negative": (lines({**GOOD, "memory_regions": [[-1, GIB, 0]]}), "memory_regions[0]"),
    "backwards": (lines({**GOOD, "memory_regions": [[GIB, MIB, 0]]}), "ends before it starts"),
    "float": (lines({**GOOD, "memory_regions": [[0.5, GIB, 0]]}), "memory_regions[0]"),
    "bool-node": (lines({**GOOD, "memory_regions": [[0, GIB, True]]}), "node is True"),
    "cmr-shape": (lines({**GOOD, "cmrs": [[1, 2, 3]]}), "cmrs[0]"),
    "limit-zero": (lines({**GOOD, "limits": {"max_tdmrs": 0}}), "limits.max_tdmrs is 0"),
    "placement": (lines({**GOOD, "pamt_placement": "anywhere"}), "pamt_placement is neither"),
    "too-few-bases": (lines({**GOOD, "pamt_placement": {"bases": []}}), "has 0 entries"),
    "beyond-64-bits": (lines({**GOOD, "memory_regions": [[0, 1 << 65, 0]]}), "64-bit"),
    "huge-pages-negative": (lines({**GOOD, "hugetlb_bytes": -1}), "hugetlb_bytes is -1"),
    "extra-key-type": (lines({**GOOD, "sources": 7}), "sources: expected a list"),
}


@pytest.mark.parametrize("name", BAD_LINES)
def test_a_bad_facts_line_is_answered_in_its_place(name: str, cli: Any) -> None:  # noqa: ANN401
    """It is an error object with line, host, reason; the lines around it are answered; the status says so."""
    bad, reason = BAD_LINES[name]
    status, out, _ = cli("plan", "--facts", "-", stdin=lines(GOOD) + bad.rstrip(b"\n") + b"\n" + lines(GOOD))
    answers = [json.loads(line) for line in out.splitlines()]
    assert status == os.EX_DATAERR
    assert [a["schema"] for a in answers] == [
        "tdx-headroom/plan/1",
        "tdx-headroom/error/1",
        "tdx-headroom/plan/1",
    ]
    assert answers[1]["line"] == 2
    assert reason in answers[1]["error"]
    assert "\n" not in answers[1]["error"]


def test_odd_cmrs_are_planned_and_not_refused(cli: Any) -> None:  # noqa: ANN401
    """Unordered, overlapping, misaligned and empty CMRs are taken as given."""
    odd = [[GIB, MIB], [0, 0], [17, 4096], [0, 2 * GIB], [0, 2 * GIB]]
    status, out, _ = cli("plan", "--facts", "-", stdin=lines({**GOOD, "cmrs": odd}))
    assert status == 0
    assert json.loads(out)["strategies"]["cmr-walk"]["errno"] in (0, -22, -28)


def test_emerald_rapids_misses_by_one_area(cli: Any) -> None:  # noqa: ANN401
    """The machine of the original report needs 17 areas of 16 under memory-regions, and fits the others."""
    facts = json.loads(cli_facts("emerald-rapids"))
    facts["pamt_placement"] = "none"
    status, out, _ = cli("plan", "--facts", "-", stdin=lines(facts))
    plans = json.loads(out)["strategies"]
    assert status == 0
    failing = plans["memory-regions"]
    assert [t["needed"] for t in failing["tdmrs"]] == [17, 1, 1, 1, 1]
    assert (failing["errno"], failing["failed_tdmr"], failing["pamt_kib"]) == (-28, 0, None)
    assert failing["messages"] == ["initialization failed: TDMR [0x0, 0x80000000): reserved areas exhausted."]
    for strategy in ("cmr-subregion", "cmr-walk"):
        assert [t["needed"] for t in plans[strategy]["tdmrs"]] == [2, 1, 1, 1, 1]
        assert plans[strategy]["pamt_kib"] == 1050644


def cli_facts(name: str) -> str:
    from tdx_headroom.host.choose import read_facts
    from tdx_headroom.hostfs.root import Root

    return json.dumps(read_facts(Root(HOSTS / name)).to_json())


ERRORS = [
    (["plan", "--root", "/nonexistent"], os.EX_NOINPUT, "/nonexistent is no directory"),
    (["plan", "--log", "/nonexistent"], os.EX_NOINPUT, "/nonexistent: No such file or directory"),
    (["plan", "--facts", "/"], os.EX_NOINPUT, "/: Is a directory"),
    (["plan", "--strategy", "guess"], os.EX_USAGE, "is none of memory-regions, cmr-subregion, cmr-walk"),
    (
        ["labels", "--output", "-", "--assume-strategy", "guess"],
        os.EX_USAGE,
        "'guess' is none of memory-regions, cmr-subregion, cmr-walk",
    ),
    (["plan", "-", "--log", "-"], os.EX_USAGE, "standard input is named twice"),
    (["plan", "--root", "/a", "/b", "--what"], os.EX_USAGE, "unrecognized arguments: --what"),
    (["plan", "--capture", "/proc/cmdline"], os.EX_DATAERR, "is no tar archive"),
    (["serve", "--web.listen-address", "nowhere"], os.EX_USAGE, "is not [HOST]:PORT"),
    (["serve", "--refresh-interval", "0s"], os.EX_USAGE, "is no time such as"),
    (["serve", "--web.telemetry-path", "/"], os.EX_USAGE, "is no free path"),
    (["plan", ""], os.EX_USAGE, "the name of an input is empty; a variable may not be set"),
    (["boots", "--root", ""], os.EX_USAGE, "the name of an input is empty"),
    (["capture", "-o", ""], os.EX_USAGE, "the name is empty"),
    (["serve", "--path.rootfs", ""], os.EX_USAGE, "the name is empty"),
    (["serve", "--web.config.file", ""], os.EX_USAGE, "the name is empty"),
    (["fleet", "--fail-on", "foo"], os.EX_USAGE, "'foo' is none of at-risk, will-fail"),
    (["remedy", "--facts", "/dev/null"], os.EX_NOINPUT, "/dev/null holds no facts"),
    (["plan", "--facts", "-"], os.EX_NOINPUT, "holds no facts"),
    (["plan", "--merge", str(HOSTS / "emerald-rapids")], os.EX_USAGE, "emerald-rapids is a host by itself"),
    (
        ["plan", "--merge", str(HOSTS / "emerald-rapids/sys")],
        os.EX_NOINPUT,
        "/sys has no file of a host in it",
    ),
    (
        ["plan", "--merge", str(HOSTS / "emerald-rapids/proc/iomem"), "/nonexistent"],
        os.EX_NOINPUT,
        "tdx-headroom: /nonexistent: No such file or directory",
    ),
    (["boots", "--installed", "6.12.1", "/"], os.EX_USAGE, "--installed is for --brief"),
    (["dance"], os.EX_USAGE, "invalid choice"),
    ([], os.EX_USAGE, "required"),
]


@pytest.mark.parametrize(
    ("arguments", "status", "reason"), ERRORS, ids=lambda v: " ".join(v) if isinstance(v, list) else ""
)
def test_errors_are_one_line(arguments: list[str], status: int, reason: str, cli: Any) -> None:  # noqa: ANN401
    """What failed and a hint, on one line of stderr, with a status from sysexits.h."""
    code, out, err = cli(*arguments)
    assert (code, out) == (status, "")
    assert reason in err
    assert err.count("\n") == 1


def test_an_empty_log_is_refused(cli: Any, tmp_path: Path) -> None:  # noqa: ANN401
    """A log without a kernel message is an error that says what to give."""
    status, _, err = cli("plan", "--log", "-", stdin=b"")
    assert (status, err.count("\n")) == (os.EX_DATAERR, 1)
    assert "no kernel message" in err
    status, _, err = cli("plan", "--root", str(tmp_path))
    assert status == os.EX_NOINPUT
    assert "holds nothing of a host" in err


def test_colour_only_on_a_terminal(cli: Any) -> None:  # noqa: ANN401
    """A pipe gets no escape sequences."""
    _, out, _ = cli("plan", "--root", str(HOSTS / "emerald-rapids"))
    assert "\x1b" not in out
    assert "TDMR" in out


@pytest.mark.parametrize("command", ["plan", "check"])
def test_a_captured_host_cannot_command_the_terminal(command: str, tmp_path: Path, cli: Any) -> None:  # noqa: ANN401
    """Neither a control character nor a line of its own gets from a host's files into a report."""
    root = tmp_path / "host"
    shutil.copytree(HOSTS / "emerald-rapids", root)
    (root / "dev/kmsg").unlink()
    version = root / "sys/devices/faux/tdx_host/version"
    version.parent.mkdir(parents=True)
    version.write_text("1.5\x1b[2J\nALL WELL\n")
    for kind in root.glob("sys/firmware/memmap/*/type"):
        if kind.read_text() == "Reserved\n":
            kind.write_text("Kind\x1b[2J\nALL WELL\n")
    _, out, _ = cli(command, "--root", str(root))
    assert r"1.5\x1b[2J\x0aALL WELL" in out
    assert "\x1b" not in out
    assert not [line for line in out.splitlines() if line.startswith("ALL WELL")]


@pytest.mark.parametrize("command", ["plan", "check", "check --short", "boots", "boots --brief", "remedy"])
def test_a_closed_pipe_is_no_good_answer(command: str) -> None:
    """`tdx-headroom plan | head -1` ends quietly, and never with what would mean that all is well."""
    program = f"(sleep 0.1; exec {sys.executable} -m tdx_headroom {command} {HOSTS / 'good-2-node'}) | true"
    run_ = subprocess.run(["bash", "-o", "pipefail", "-c", program], capture_output=True, text=True)
    assert (run_.returncode, run_.stderr) == (READER_GONE, "")
    assert READER_GONE == 141


def test_no_host_is_no_pass(cli: Any) -> None:  # noqa: ANN401
    """A pipeline that goes by the status must not go on because nothing came."""
    code, out, err = cli("fleet", "--facts", "/dev/null", "--fail-on", "at-risk")
    assert (code, out) == (os.EX_NOINPUT, "0 hosts, 1 could not be read\n")
    assert err == "tdx-headroom: /dev/null holds no facts\n"


def test_a_closed_input_is_one_line() -> None:
    """`<&-` is no error of the program's own."""
    for command in ("plan", "check", "boots", "history", "fleet", "remedy"):
        program = f"exec {sys.executable} -m tdx_headroom {command} - <&-"
        run_ = subprocess.run(["bash", "-c", program], capture_output=True, text=True)
        assert run_.returncode in (os.EX_NOINPUT, 3)
        assert run_.stderr == "tdx-headroom: standard input is closed\n"


def test_only_one_strategy(cli: Any) -> None:  # noqa: ANN401
    """--strategy leaves the other plans out."""
    _, out, _ = cli(
        "plan", "--root", str(HOSTS / "emerald-rapids"), "--strategy", "cmr-walk", "--format", "json"
    )
    plans = json.loads(out)["strategies"]
    assert [name for name, plan in plans.items() if plan] == ["cmr-walk"]


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """--version tells the version and nothing else."""
    with pytest.raises(SystemExit) as exit_:
        main(["--version"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out == f"tdx-headroom {__version__}\n"


def test_an_error_of_its_own_is_one_line(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ANN401
    """An error that nobody has thought of ends a command without a traceback, and says where to look."""

    def broken(*_: object) -> None:
        raise KeyError("planted")

    monkeypatch.setattr("tdx_headroom.plan.shared.what_counts", broken)
    status, out, err = cli("plan", "--root", str(HOSTS / "emerald-rapids"))
    assert (status, out, err.count("\n")) == (os.EX_SOFTWARE, "", 1)
    assert err.startswith("tdx-headroom: internal error: KeyError('planted') at commands/test_cli.py:")
    assert "plan/shared.py:" in err


def test_a_command_loads_none_of_the_others() -> None:
    """What looks once and ends needs neither web server nor event loop; what serves, no archives."""
    program = "import sys; from tdx_headroom.cli import main; main(sys.argv[1:]); print(*sys.modules)"
    for arguments, others in (
        (["plan", "--root", str(HOSTS / "good-2-node")], {"tornado", "asyncio", "structlog", "jinja2"}),
        (["serve", "--web.systemd-socket", "--user", "root"], {"tarfile", "jinja2"}),
    ):
        run_ = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True)
        assert "tdx_headroom.cli" in run_.stdout, run_.stderr
        assert not others & set(run_.stdout.splitlines()[-1].split())


def test_output_that_cannot_be_written_is_one_line() -> None:
    """A full disk, a closed output and a locale without the letters end no command with a traceback."""
    plan = f"{sys.executable} -m tdx_headroom plan"
    tree = f"--root {HOSTS / 'emerald-rapids'}"
    for command in (f"{plan} {tree} > /dev/full", f"{plan} {tree} >&-"):
        run_ = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
        assert run_.returncode == os.EX_IOERR
        assert re.fullmatch(
            "tdx-headroom: standard output (cannot be written: No space|is closed).*\n", run_.stderr
        )
    bad = json.dumps({**GOOD, "pamt_placement": "zzz", "host": "\u00fc"}) + "\n" + json.dumps(GOOD) + "\n"
    environment = {**os.environ, "LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    run_ = subprocess.run(
        ["bash", "-c", f"{plan} --facts -"], input=bad, capture_output=True, text=True, env=environment
    )
    assert run_.returncode == os.EX_DATAERR
    assert len([json.loads(line) for line in run_.stdout.splitlines()]) == 2


def test_an_unexpected_error_has_its_place() -> None:
    """Also one of the system's that no reader expects: one line with the file, and where to look."""
    program = """
import sys
from tdx_headroom.cli import main
from tdx_headroom.commands import plan
plan.run = lambda _: open("/x\\n/y")
sys.exit(main(["plan"]))
"""
    run_ = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run_.returncode == os.EX_IOERR
    expected = "tdx-headroom: [Errno 2] No such file or directory: '/x\\n/y' (at "
    assert run_.stderr.startswith(expected)
    assert run_.stderr.count("\n") == 1


def test_critical_outranks_a_bad_line(cli: Any) -> None:  # noqa: ANN401
    """One host that will fail among bad lines is still critical; nothing to check is unknown."""
    failing = {**GOOD, "limits": {"max_tdmrs": 1}, "memory_regions": [[MIB, GIB, 0], [4 * GIB, 5 * GIB, 0]]}
    assert cli("check", "--facts", "-", stdin=lines(failing) + b"nope\n")[0] == 2
    assert cli("check", "--facts", "-", stdin=b"")[0] == 3
