# SPDX-License-Identifier: Apache-2.0
"""Every command that README.md and docs/ show runs here, or doc_commands.toml says who runs it.

Blocks are fenced and name their language. `sh` holds commands and comments; `console` holds commands after
`$ `, each followed by what it prints.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tdx_headroom.cli import command_parser, main

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKOUT = Path(__file__).parents[2]
HOST = CHECKOUT / "tests/hosts/good-2-node"
STAGED = CHECKOUT / "tests/boots/debian-two-saved"
PAGES = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").rglob("*.md"))]
LANGUAGES = {"python", "sh", "console", "text", "yaml", "ini", "toml"}
RUN_HERE = {"tdx-headroom", "ssh", "cat", "grep", "uname", "cp", "sed", "ln"}
"""First words of commands that run in the sandbox."""

ELSEWHERE: dict[str, dict[str, dict[str, str]]] = tomllib.loads(
    Path(__file__).with_name("doc_commands.toml").read_text("utf-8")
)
"""By runner, by file: each command, and the words of that file that show it there."""

LISTED = {c for files in ELSEWHERE.values() for commands in files.values() for c in commands}


class Shown(NamedTuple):
    """A command of a page, and the lines below it that it prints."""

    page: str
    command: str
    output: tuple[str, ...] = ()


def blocks(text: str) -> Iterator[tuple[str, list[str]]]:
    """Language and lines of each fenced block, without the indentation of a list that it stands in."""
    for indent, language, body in re.findall(r"(?ms)^( *)```(\S*)\n(.*?)^\1```$", text):
        yield language, [line.removeprefix(indent) for line in body.splitlines()]


def commands(page: str, text: str) -> Iterator[Shown]:
    """Commands of a page's blocks, each on one line and without its comment."""
    for language, lines in blocks(text):
        if language == "sh":
            for line in re.sub(r" *\\\n *", " ", "\n".join(lines)).split("\n"):
                command = re.sub(r"(^|\s+)#.*", "", line).strip()
                if command:
                    yield Shown(page, command)
        elif language == "console":
            for part in re.split(r"(?m)^\$ ", "\n".join(lines))[1:]:
                command, *output = part.rstrip().split("\n")
                yield Shown(page, command, tuple(output))


def first_word(command: str) -> str:
    return command.removeprefix("sudo ").split()[0]


def unmatched(shown: list[Shown]) -> list[Shown]:
    """Commands that neither run here nor are in the list."""
    return [s for s in shown if s.command not in LISTED and first_word(s.command) not in RUN_HERE]


SHOWN = [s for path in PAGES for s in commands(str(path.relative_to(CHECKOUT)), path.read_text("utf-8"))]
HERE = [shown for shown in SHOWN if shown.command not in LISTED and first_word(shown.command) in RUN_HERE]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_block_names_its_language(path: Path) -> None:
    """No block is indented only, and a reader and these tests know what each fence holds."""
    text = path.read_text("utf-8")
    assert [language for language, _ in blocks(text) if language not in LANGUAGES] == []
    assert re.findall(r"(?m)^\n {4,}\S.*", re.sub(r"(?ms)^( *)```.*?^\1```$", "", text)) == []


def test_every_command_is_run_by_somebody() -> None:
    """A command that runs here or is in the list; and nothing is in the list that no page shows."""
    assert unmatched(SHOWN) == []
    assert LISTED - {shown.command for shown in SHOWN} == set()


@pytest.mark.parametrize(
    "block",
    ["```sh\nmake\ncoffee --strong  # black\n```\n", "  ```console\n  $ make coffee\n  ready\n  ```\n"],
)
def test_an_unknown_command_is_noticed(block: str) -> None:
    """A command that nobody runs is named, in a block of either kind, in a list too."""
    assert any(
        "coffee" in shown.command for shown in unmatched(list(commands("a page", f"# Tea\n\n{block}")))
    )


@pytest.mark.parametrize(
    ("runner", "file", "command", "words"),
    [
        pytest.param(runner, file, command, words, id=command)
        for runner, files in ELSEWHERE.items()
        for file, listed in files.items()
        for command, words in listed.items()
    ],
)
def test_the_runner_has_the_command(runner: str, file: str, command: str, words: str) -> None:
    """The make target runs that file, which has the command; where nobody runs one, its page says so."""
    if runner == "nobody":
        assert file in {shown.page for shown in SHOWN if shown.command == command}
    elif runner.startswith("make "):
        recipe = re.search(
            rf"(?m)^{runner.removeprefix('make ')}:.*\n((?:\t.*\n)+)", (CHECKOUT / "Makefile").read_text()
        )
        assert recipe
        module = file.removesuffix(".py").replace("/", ".")
        started = re.findall(r"-m (tests[.\w]*|pytest)|(\S+/\S+\.py)", recipe[1])
        assert any(
            (name == "pytest" and module.rpartition(".")[2].startswith("test_"))
            or module.startswith(name or path.removesuffix(".py").replace("/", "."))
            for name, path in started
        )
    else:
        assert runner == file == ".ci/run"
    assert " ".join(words.split()) in " ".join((CHECKOUT / file).read_text("utf-8").split())


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the pages' commands name, and with this machine's programs for them."""
    folder = tmp_path_factory.mktemp("docs")
    for name in ("bin", "captures", "etc/prometheus", "usr/local/bin"):
        (folder / name).mkdir(parents=True)
    (folder / "etc/kubernetes/node-feature-discovery/features.d").mkdir(parents=True)
    for name in ("tests", "packaging"):
        (folder / name).symlink_to(CHECKOUT / name)
    log = CHECKOUT / "tests/field/logs/canonical-tdx-135-fail.log"
    programs = {
        # What would look at this machine looks at a captured host.
        "tdx-headroom": f"""
            case "$1 $#" in
                "check 1"|"plan 1"|"boots 1") set -- "$@" --root {HOST} ;;
                capture*|labels*|textfile*) set -- "$@" --path.rootfs {HOST} ;;
            esac
            exec {sys.executable} -m tdx_headroom "$@"
        """,
        "sudo": 'exec "$@"',
        "ssh": f"exec cat {log}",
    }
    for name, script in programs.items():
        (folder / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / "bin" / name).chmod(0o755)
    for name in ("dmesg.txt", "boot.log"):
        (folder / name).write_bytes(log.read_bytes())
    (folder / "iomem.txt").write_bytes((HOST / "proc/iomem").read_bytes())
    ranges = sorted(HOST.glob("sys/firmware/memmap/*/*"))
    rows = (f"/{path.relative_to(HOST)}:{path.read_text('utf-8')}" for path in ranges)
    (folder / "memmap.txt").write_text("".join(rows))
    facts = {"schema": "tdx-headroom/facts/1", "memory_regions": [[1 << 20, 1 << 30, 0]], "cmrs": None}
    (folder / "facts.jsonl").write_text(json.dumps(facts) + "\n")
    for name in ("host.tar.gz", "captures/host.tar.gz"):
        assert main(["capture", "-o", str(folder / name), "--path.rootfs", str(HOST)]) == 0
    shutil.copytree(HOST, folder / "staged")
    shutil.copytree(STAGED, folder / "staged", dirs_exist_ok=True)
    for initrd in (folder / "staged/boot").glob("initrd*"):
        os.utime(initrd, (0, 0))  # older than the host's boot, whenever they were checked out
    with tarfile.open(folder / "sosreport-rack7.tar.xz", "w:xz") as archive:
        archive.add(log, "sosreport-rack7/sos_commands/kernel/dmesg")
        archive.add(HOST / "proc/iomem", "sosreport-rack7/proc/iomem")
    return folder


@pytest.mark.parametrize("shown", HERE, ids=lambda shown: f"{shown.page}: {shown.command}")
def test_the_command_runs(sandbox: Path, shown: Shown) -> None:
    """It succeeds against a captured host, and prints what the page shows below it."""
    command = re.sub(r"(?<= )/(?=(?:proc|sys)/)", f"{HOST}/", shown.command)
    command = re.sub(r"(?<= )/(?=(?:etc|usr)/)", f"{sandbox}/", command)
    environment = {**os.environ, "PATH": f"{sandbox / 'bin'}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=sandbox,
        env=environment,
        capture_output=True,
        text=True,
    )
    worst = 3 if shown.command.startswith(("tdx-headroom check", "tdx-headroom boots")) else 0
    assert done.returncode <= worst, done.stderr
    assert done.stdout.split("\n")[: len(shown.output)] == list(shown.output)


def in_text() -> Iterator[tuple[str, str]]:
    """Commands of ours inside the pages' sentences and tables."""
    for path in PAGES:
        text = re.sub(r"(?ms)^( *)```.*?^\1```$", "", path.read_text("utf-8"))
        for span in re.findall(r"`([^`]+)`", text):
            command = " ".join(span.split()).removeprefix("sudo ")
            if command.startswith(("tdx-headroom ", "make ")):
                yield path.name, command


@pytest.mark.parametrize(("page", "command"), sorted(set(in_text())))
def test_a_command_in_a_sentence_is_understood(page: str, command: str) -> None:
    """Its options exist; of make, its target."""
    del page
    program, *words = shlex.split(command.replace("…", "").replace("START-END", "0x100000-0x200000"))
    if program == "make":
        targets = re.findall(r"(?m)^([a-z-]+):", (CHECKOUT / "Makefile").read_text())
        assert words[0] in targets
        return
    words = ["6.14.0-1009-intel" if word == "RELEASE" else word for word in words]
    if words[-1].startswith("--") and "=" not in words[-1]:
        words.append("VALUE")  # the sentence names an option, not what it is given
    if words[0] in ("capture", "textfile", "labels") and not {"-o", "--output"} & set(words):
        words += ["--output", "FILE"]
    command_parser().parse_args(words)
