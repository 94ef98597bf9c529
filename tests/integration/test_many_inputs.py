# SPDX-License-Identifier: Apache-2.0
"""Many inputs by several processes: the real command, and inputs that would take others along."""

from __future__ import annotations

import gzip
import io
import json
import os
import resource
import signal
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path
from typing import IO, Any

import psutil
import pytest

from tdx_headroom.cli import main
from tdx_headroom.host.choose import read_facts
from tdx_headroom.hostfs.root import Root

HOSTS = Path(__file__).parents[1] / "hosts"
GOOD = HOSTS / "good-2-node"
KILLED = """
import os, signal, sys, time
from tdx_headroom.commands import hosts
read = hosts.PLAIN.of_input
def of_input(named):
    if "killed" in named.path:
        os.kill(os.getpid(), signal.SIGKILL)
    if "hanging" in named.path:
        time.sleep(1000)
    if "hungry" in named.path:
        bytearray(1 << 40)
    if "broken" in named.path:
        1 / 0
    return read(named)
hosts.PLAIN = hosts.PLAIN._replace(of_input=of_input)
from tdx_headroom.cli import main
sys.exit(main())
"""
"""The command, in which some inputs end the process that reads them."""


def capture_of(path: Path) -> bytes:
    assert main(["capture", "-o", str(path), "--path.rootfs", str(GOOD), "--keep-host-name"]) == 0
    return path.read_bytes()


def run(*arguments: str, program: str | None = None, **more: Any) -> subprocess.CompletedProcess[str]:  # noqa: ANN401
    start = ["-c", program] if program else ["-m", "tdx_headroom"]
    command = [sys.executable, *start, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, **more)


@pytest.mark.parametrize("command", ["fleet", "plan", "check", "history"])
def test_the_same_by_any_number(command: str, tmp_path: Path) -> None:
    """One process or five, all inputs have the same answers in the same order."""
    paths = [str(HOSTS / name) for name in ("no-tdx", "good-2-node", "emerald-rapids")]
    facts = tmp_path / "facts.jsonl"
    lines = [json.dumps(read_facts(Root(path)).to_json()) for path in paths]
    lines.insert(1, "no facts")
    facts.write_text("\n".join(lines * 20) + "\n")
    inputs = [*paths, str(facts), "/nope", paths[1]]
    one, five = (run(command, *inputs, "--format", "json", "--jobs", jobs) for jobs in ("1", "5"))
    assert one.stdout == five.stdout
    assert one.stderr == five.stderr
    assert one.returncode == five.returncode
    assert one.stdout.count('"good-2-node"') >= 22


@pytest.mark.parametrize("kind", ["trees", "lines"])
def test_two_at_a_time(kind: str, tmp_path: Path) -> None:
    """Several inputs, and the lines of one file, are worked on by two processes at once."""
    program = """
import os, sys, time
from tdx_headroom.commands import answers
assess, seen = answers.assess, sys.argv.pop(1)
def meet(facts, what_if):
    open(os.path.join(seen, str(os.getpid())), "w").close()
    while len(os.listdir(seen)) < 2:
        time.sleep(0.01)
    return assess(facts, what_if)
answers.assess = meet
from tdx_headroom.cli import main
sys.exit(main())
"""
    (tmp_path / "seen").mkdir()
    facts = tmp_path / "facts.jsonl"
    line = json.dumps({"schema": "tdx-headroom/facts/1", "memory_regions": [[0, 1 << 31, 0]], "cmrs": None})
    facts.write_text(f"{line}\n" * 4000)
    inputs = [str(GOOD), str(HOSTS / "no-tdx")] if kind == "trees" else ["--facts", str(facts)]
    options = ["plan", "--format", "json", "--jobs", "2"]
    done = run(str(tmp_path / "seen"), *options, *inputs, program=program)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == (2 if kind == "trees" else 4000)


@pytest.mark.parametrize("command", ["plan", "history"])
def test_a_line_with_an_error_of_our_own(command: str, tmp_path: Path) -> None:
    """It is told where that happened, and the lines around it are answered."""
    program = """
import sys
from tdx_headroom.commands import answers
from tdx_headroom.inputs import history
def broken(assess):
    def judge(facts, *more):
        return 1 / 0 if facts.host == "broken" else assess(facts, *more)
    return judge
answers.assess, history.assess = broken(answers.assess), broken(history.assess)
from tdx_headroom.cli import main
sys.exit(main())
"""
    facts = {"schema": "tdx-headroom/facts/1", "memory_regions": [[0, 1 << 31, 0]], "cmrs": None}
    path = tmp_path / "facts.jsonl"
    path.write_text("".join(json.dumps({**facts, "host": host}) + "\n" for host in ("a", "broken", "b")))
    done = run(command, "--facts", str(path), program=program)
    said = done.stdout + done.stderr
    assert "internal error: ZeroDivisionError" in said
    assert "Traceback" not in said
    hosts = [json.loads(line)["host"] for line in done.stdout.splitlines()]
    assert [host for host in hosts if host != "broken"] == ["a", "b"]
    assert done.returncode == os.EX_DATAERR


def test_a_damaged_stream_in_a_pipe(tmp_path: Path) -> None:
    """Whatever came before the damage is answered; then it is told what is wrong with the input."""
    facts = {"schema": "tdx-headroom/facts/1", "memory_regions": [[0, 1 << 31, 0]], "cmrs": None}
    # Without repetition, so that half of what it is packed into is half of the lines.
    lines = [
        json.dumps({**facts, "host": f"h{i}", "kernel_release": os.urandom(8).hex()}) for i in range(2000)
    ]
    packed = gzip.compress("\n".join(lines).encode())
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    threading.Thread(target=pipe.write_bytes, args=(packed[: len(packed) // 2],), daemon=True).start()
    done = run("plan", "--format", "json", str(pipe), str(GOOD))
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    *of_pipe, good = [answer["host"] for answer in answers]
    assert of_pipe == [f"h{i}" for i in range(len(of_pipe))]
    assert 500 < len(of_pipe) < 1500
    assert good == json.loads(run("plan", "--format", "json", str(GOOD)).stdout)["host"]
    assert f"{pipe} is cut short" in done.stderr
    assert done.returncode == os.EX_DATAERR


def test_bad_lines_of_several_streams(tmp_path: Path) -> None:
    """Each answer names the stream that it is about."""
    for name in ("a", "b"):
        (tmp_path / name).write_text("{}\n")
    done = run("plan", "--facts", str(tmp_path / "a"), "--facts", str(tmp_path / "b"))
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(answer["input"], answer["line"]) for answer in answers] == [
        (str(tmp_path / name), 1) for name in ("a", "b")
    ]


def test_inputs_that_end_their_process(tmp_path: Path) -> None:
    """Each is one line that names it; all others are audited."""
    data = capture_of(tmp_path / "good-0.tar.gz")
    names = ("broken-1", "good-2", "hanging-3", "hungry-4", "killed-5", "killed-6", "good-7")
    for name in names:
        (tmp_path / f"{name}.tar.gz").write_bytes(data)
    done = run("fleet", str(tmp_path), "--format", "csv", "--input-timeout", "2s", program=KILLED)
    inputs = [Path(row.split(",")[0]).name for row in done.stdout.splitlines()[1:]]
    assert list(dict.fromkeys(inputs)) == ["good-0.tar.gz", "good-2.tar.gz", "good-7.tar.gz"]
    told = {Path(line.split(": ")[1]).name: line.split(": ", 2)[2] for line in done.stderr.splitlines()}
    assert list(told) == [f"{name}.tar.gz" for name in sorted(names) if not name.startswith("good")]
    assert told["broken-1.tar.gz"].startswith("internal error: ZeroDivisionError")
    assert told["hanging-3.tar.gz"].startswith("it took longer than 2 s;")
    assert told["hungry-4.tar.gz"] == "there is not enough memory to read it"
    assert told["killed-5.tar.gz"].startswith("the process that was at it was ended by SIGKILL;")
    assert done.returncode != 0


def test_a_memory_limit(tmp_path: Path) -> None:
    """What needs more memory than there may be costs itself alone."""
    capture_of(tmp_path / "a.tar.gz")
    (tmp_path / "c.tar.gz").write_bytes((tmp_path / "a.tar.gz").read_bytes())
    (tmp_path / "b.log").write_bytes(b"[    0.000000] Linux version 6.17.0 (x) #1\n" * (4 << 20))
    limit = 300 << 20
    done = run(
        "fleet",
        str(tmp_path),
        "--format",
        "csv",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
    assert [Path(row.split(",")[0]).name for row in done.stdout.splitlines()[1::2]] == [
        "a.tar.gz",
        "c.tar.gz",
    ]
    assert "b.log" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_line_that_ends_its_process(tmp_path: Path) -> None:
    """Of a batch of lines only that one has no answer."""
    program = """
import os, signal, sys
from tdx_headroom.commands import answers
assess = answers.assess
def judge(facts, what_if):
    if facts.host == "killer":
        os.kill(os.getpid(), signal.SIGKILL)
    return assess(facts, what_if)
answers.assess = judge
from tdx_headroom.cli import main
sys.exit(main())
"""
    facts = {"schema": "tdx-headroom/facts/1", "memory_regions": [[0, 1 << 31, 0]], "cmrs": None}
    hosts = [f"h{i}" for i in range(1500)]
    hosts[1000] = "killer"
    path = tmp_path / "facts.jsonl"
    path.write_text("".join(json.dumps({**facts, "host": host}) + "\n" for host in hosts))
    done = run("plan", "--facts", str(path), program=program)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == 1500
    assert [answer.get("host") for answer in answers if "plan/1" in answer["schema"]] == [
        host for host in hosts if host != "killer"
    ]
    assert answers[1000]["schema"] == "tdx-headroom/error/1"
    assert (answers[1000]["line"], "SIGKILL" in answers[1000]["error"]) == (1001, True)


@pytest.mark.parametrize("kind", ["group", "process"])
def test_interrupted(kind: str, tmp_path: Path) -> None:
    """Ctrl-C ends the command and all its processes at once, without a traceback."""
    for name in ("a", "b", "c"):
        os.mkfifo(tmp_path / name)
    process = subprocess.Popen(
        [sys.executable, "-m", "tdx_headroom", "fleet", *(str(tmp_path / n) for n in "abc"), "--jobs", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        # A shell lets what it runs in the background ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  this process has one thread
    )
    own = psutil.Process(process.pid)
    while len(children := own.children()) < 2:
        assert process.poll() is None
        time.sleep(0.01)
    # They wait for what nobody will write.
    began = time.monotonic()
    if kind == "group":
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert time.monotonic() - began < 5, "1 s where nothing else runs"
    assert (process.returncode, out, err) == (130, b"", b"")
    # One that was just being started ends with its parent, not before it.
    assert not psutil.wait_procs(children, timeout=30)[1]


def test_killed(tmp_path: Path) -> None:
    """Even where the command itself is killed none of its processes stays."""
    os.mkfifo(tmp_path / "a")
    os.mkfifo(tmp_path / "b")
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tdx_headroom",
            "fleet",
            str(tmp_path / "a"),
            str(tmp_path / "b"),
            "--jobs",
            "2",
        ]
    )
    own = psutil.Process(process.pid)
    while len(children := own.children()) < 2:
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not psutil.wait_procs(children, timeout=30)[1]


def test_hostile_archives_among_good_ones(tmp_path: Path) -> None:
    """A hundred of them are a hundred lines, and every good one is audited."""
    data = capture_of(tmp_path / "good-000.tar.gz")
    for number in range(1, 20):
        (tmp_path / f"good-{number:03}.tar.gz").write_bytes(data)
    for number in range(100):
        bad = io.BytesIO()
        with tarfile.open(fileobj=bad, mode="w:gz") as tar:
            member = tarfile.TarInfo(["../proc/iomem", "/etc/passwd", "proc/iomem"][number % 3])
            if number % 3 == 2:
                member.type = tarfile.FIFOTYPE
            tar.addfile(member)
        raw = bad.getvalue()
        raw = raw if number % 4 else data[: len(data) * number // 101 + 20]
        (tmp_path / f"good-{number % 20:03}-bad-{number:03}.tar.gz").write_bytes(raw)
    done = run("fleet", str(tmp_path), "--format", "json")
    *hosts, totals = map(json.loads, done.stdout.splitlines())
    assert (totals["hosts"], totals["unreadable"]) == (20, 100)
    assert {host["host"] for host in hosts} == {"good-2-node"}
    assert len(done.stderr.splitlines()) == 100


def _write(stream: IO[str], text: str) -> None:
    stream.write(text)
    stream.flush()


def test_answers_while_the_pipe_is_open() -> None:
    """Whoever writes a line, or many, and waits, has the answers before anything more is written."""
    line = json.dumps({"schema": "tdx-headroom/facts/1", "memory_regions": [[0, 1 << 31, 0]], "cmrs": None})
    command = [sys.executable, "-m", "tdx_headroom", "plan", "--facts", "-", "--jobs", "2"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        # An answer that does not come ends the command, and with it the test.
        clock = threading.Timer(300, process.kill)
        clock.start()
        for count in (1, 3, 2000):
            writer = threading.Thread(target=_write, args=(process.stdin, f"{line}\n" * count))
            writer.start()
            for _ in range(count):
                assert json.loads(process.stdout.readline())["schema"] == "tdx-headroom/plan/1"
            writer.join()
        clock.cancel()
        process.stdin.close()
        assert process.wait() == 0


def test_memory(tmp_path: Path) -> None:
    """What the processes take grows with their number, and not with that of the inputs."""
    data = capture_of(tmp_path / "host.tar.gz")
    taken = {}
    for count in (100, 1000):
        folder = tmp_path / str(count)
        folder.mkdir()
        for number in range(count):
            (folder / f"{number:04}.tar.gz").write_bytes(data)
        program = """
import resource, sys
from tdx_headroom.cli import main
main()
print(*(row.split()[1] for row in open("/proc/self/status") if "VmHWM" in row), file=sys.stderr)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
"""
        done = run("fleet", str(folder), "--format", "csv", "--jobs", "2", program=program)
        assert done.stdout.count("\n") == 1 + 2 * count
        taken[count] = [int(figure) for figure in done.stderr.split()]
    for few, many in zip(taken[100], taken[1000], strict=True):
        assert many < few * 1.05 + 1024, taken
