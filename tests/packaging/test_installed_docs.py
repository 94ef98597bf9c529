# SPDX-License-Identifier: Apache-2.0
"""The documentation that packages install stands alone: links, paths and commands of an installed host."""

from __future__ import annotations

import re
import runpy
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.packaging.conftest import CHECKOUT
from tests.unit.test_doc_commands import blocks, commands

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

installed = runpy.run_path(str(CHECKOUT / "packaging/installed_docs.py"))["installed"]
DOC = "usr/share/doc/tdx-headroom"
OURS = re.compile(
    r"/usr/(?:share/(?:doc/)?tdx-headroom|lib/sysusers\.d|lib/systemd/system-generators)/[\w./*-]*\w"
)
"""A path that a package has."""
SOURCE = re.compile(r"(?<![\w/.-])(?:packaging|tests|systemd|agent|docs/dev|\.ci|\.github)/\w[\w./*-]*")
"""A path that only the source has."""


@pytest.fixture(
    params=[
        pytest.param(
            "deb_tree", marks=[pytest.mark.program("dpkg-checkbuilddeps"), pytest.mark.program("dh")]
        ),
        pytest.param(
            "rpm_tree",
            marks=[pytest.mark.program(name) for name in ("rpmbuild", "rpm", "rpm2cpio", "cpio")],
        ),
    ]
)
def tree(request: pytest.FixtureRequest) -> Path:
    """What is in each package."""
    found: Path = request.getfixturevalue(request.param)
    return found


def pages(tree: Path) -> Iterator[tuple[Path, str]]:
    for path in sorted((tree / DOC).rglob("*.md")):
        yield path, path.read_text("utf-8")


def texts(tree: Path) -> Iterator[tuple[Path, str]]:
    """Pages, examples, and what is to be copied, with its comments."""
    for folder in (DOC, "usr/share/tdx-headroom", "etc/default", "etc/sysconfig"):
        for path in sorted((tree / folder).rglob("*")):
            kept = path.is_file() and not {"hosts", "history", "python"} & set(path.parts)
            if kept and path.suffix not in (".png", ".webp", ".gz"):
                yield path, path.read_text("utf-8")


def test_pages_are_there(tree: Path) -> None:
    """README and the pages for operators are installed, and none about working on the source."""
    names = {str(path.relative_to(tree / DOC)) for path, _ in pages(tree)}
    assert names >= {"README.md", "docs/verdict.md", "docs/runbooks/TDXInitFailed.md", "docs/offline.md"}
    assert not [name for name in names if name.startswith(("docs/dev", "docs/arch", "docs/release"))]


def test_no_link_is_dead(tree: Path) -> None:
    """Every relative link leads to a file of the package."""
    dead = [
        f"{path.name}: {target}"
        for path, text in pages(tree)
        for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text)
        if not (path.parent / target).exists()
    ]
    assert dead == []


def test_paths_exist(tree: Path) -> None:
    """What a page, an example or a comment says is in the package is there."""
    missing = {
        f"{path.name}: {name}"
        for path, text in texts(tree)
        for name in OURS.findall(text)
        if not list(tree.glob(name.lstrip("/")))
    }
    assert missing == set()


def test_paths_of_the_source_are_told_as_such(tree: Path) -> None:
    """A path or target of make that only the source has is told as such, and is in no command."""
    wrong = []
    for path, text in pages(tree):
        words = re.sub(r"(?ms)^( *)```.*?^\1```$", "", text)
        named = re.finditer(rf"`(?:make [a-z]|(?:{SOURCE.pattern}))[^`]*`|{SOURCE.pattern}", words)
        wrong += [f"{path.name}: {n[0]}" for n in named if not words[n.end() :].startswith(" of the source")]
        for _, lines in blocks(text):
            wrong += [f"{path.name}: {line}" for line in lines if SOURCE.search(line) or "make " in line[:5]]
    assert wrong == []


def test_commands_run(tree: Path, tmp_path: Path) -> None:
    """Each command with a path of the package does what its page says, with the package's code."""
    code = next(tree.rglob("tdx_headroom/cli.py")).parents[1]
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin/tdx-headroom"
    command.write_text(f'#!/bin/sh\nPYTHONPATH={code} exec /usr/bin/python3 -P -B -m tdx_headroom "$@"\n')
    command.chmod(0o755)
    (tmp_path / "etc/prometheus").mkdir(parents=True)
    ran = set()
    for path, text in pages(tree):
        for shown in commands(path.name, text):
            if not OURS.search(shown.command) or shown.command.startswith("kubectl"):
                continue
            here = re.sub(r"(?<![\w/])/usr/", f"{tree}/usr/", shown.command)
            here = re.sub(r"(?<![\w/])/etc/", f"{tmp_path}/etc/", here)
            environment = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
            done = subprocess.run(["bash", "-c", here], capture_output=True, text=True, env=environment)
            assert (done.returncode, done.stderr) == (0, ""), shown
            said = done.stdout.replace(str(tree), "").split("\n")
            assert said[: len(shown.output)] == list(shown.output)
            ran.add(shown.command.split()[0])
    assert ran == {"tdx-headroom", "cp", "install"}


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("see [rules](../packaging/prometheus)", "see `/usr/share/tdx-headroom/prometheus`"),
        (
            "see [kernels](kernels.md#a) and [how](release.md)",
            "see [kernels](kernels.md#a) and docs/release.md of the source",
        ),
        ("`make test` shows (tests/vm) it", "`make test` of the source shows (tests/vm of the source) it"),
        ("a <!-- source -->b<!-- /source --><!-- installed: c -->.", "a c."),
        (
            "```sh\ncp packaging/examples/tdx-reboot .\n```",
            "```sh\ncp /usr/share/doc/tdx-headroom/examples/tdx-reboot .\n```",
        ),
        ("keep `/usr/local/lib/systemd/system` and packaging/prometheus-x", None),
    ],
)
def test_a_page_is_made_for_an_installed_host(text: str, becomes: str | None) -> None:
    """Links, paths and marks of a page become those of an installed one."""
    said = installed(text, "docs/boots.md")
    assert said == (becomes if becomes is not None else f"{text} of the source")


def test_every_mark_has_its_end() -> None:
    """A page that leaves its mark open would lose what follows it."""
    for path in (CHECKOUT / "README.md", *(CHECKOUT / "docs").rglob("*.md")):
        text = path.read_text("utf-8")
        marks = re.findall(r"<!-- (/?source) -->", re.sub(r"`[^`\n]*`", "", text))
        assert marks == ["source", "/source"] * (len(marks) // 2), path
