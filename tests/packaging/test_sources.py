# SPDX-License-Identifier: Apache-2.0
"""What packages are made from: man pages, the generator for old systemd, versions, lists of dependencies."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
from typing import TYPE_CHECKING

import pytest
import yaml

from tdx_headroom import __version__
from tdx_headroom.cli import command_parser
from tdx_headroom.output.metric_families import FAMILIES
from tests.packaging.conftest import CHECKOUT
from tests.packaging.fresh import CONTAINER_CAPABILITIES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PACKAGING = CHECKOUT / "packaging"
PYPROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
DRAWN = "import make_man, sys; sys.stdout.write(make_man.make(open(sys.argv[1]).read(), sys.argv[1]))"


def page(name: str) -> str:
    """A man page as make_man.py makes it, without roff's escapes."""
    done = subprocess.run(
        [sys.executable, "-c", DRAWN, PACKAGING / "man" / f"{name}.in"],
        capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(PACKAGING / "man"), "SOURCE_DATE_EPOCH": "0"},
    )  # fmt: skip
    return done.stdout.replace("\\-", "-")


def options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Every option that --help of any command shows, and every command's name."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            shown = {choice.dest for choice in action._choices_actions}
            for name in shown:
                yield name
                yield from options(action.choices[name])
        elif action.help != argparse.SUPPRESS:
            yield from action.option_strings


def test_the_man_page_has_every_option() -> None:
    """All commands and options of the parser are in tdx-headroom.8."""
    text = page("tdx-headroom.8")
    assert 'TH TDX-HEADROOM 8 1970-01-01 "tdx-headroom ' + __version__ in text
    missing = {option for option in options(command_parser()) if option not in text}
    assert missing <= {"-h"}


def test_the_man_page_has_every_exit_status() -> None:
    """Each status of sysexits that the code ends with is told."""
    used = set()
    for path in (CHECKOUT / "agent").rglob("*.py"):
        used |= set(re.findall(r"\bos\.(EX_\w+)", path.read_text()))
    text = page("tdx-headroom.8")
    section = text[text.index(".SH EXIT STATUS") : text.index(".SH SIGNALS")]
    told = {int(number) for number in re.findall(r"\b\d+\b", section)}
    assert {name for name in used if getattr(os, name) not in told} == set()


def test_the_metrics_page_has_every_metric() -> None:
    """All families of the table are in tdx-headroom-metrics.7, with their labels."""
    text = page("tdx-headroom-metrics.7")
    for family in FAMILIES.values():
        assert family.name in text
        assert family.help in text
        assert all(label in text for label in family.labels)


@pytest.mark.program("man")
@pytest.mark.parametrize("name", ["tdx-headroom.8", "tdx-headroom-metrics.7"])
def test_man_has_no_warning(name: str, tmp_path: Path) -> None:
    """man(1) shows the page without a warning."""
    file = tmp_path / name
    file.write_text(page(name).replace("-", "\\-"))
    done = subprocess.run(
        ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", file],
        capture_output=True, text=True, env={**os.environ, "MANWIDTH": "100", "LC_ALL": "C.UTF-8"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout) > 2000


@pytest.mark.parametrize(
    ("version", "given"), [("252 (252.38-1~deb12u1)", True), ("253 (253-1)", False), ("257.13", False)]
)
def test_the_generator_looks_at_the_version(version: str, given: bool, tmp_path: Path) -> None:  # noqa: FBT001
    """Before 253 both services get the drop-in, from 253 on none does."""
    systemctl = tmp_path / "bin" / "systemctl"
    systemctl.parent.mkdir()
    systemctl.write_text(f"#!/bin/sh\necho 'systemd {version}'\necho '+PAM'\n")
    systemctl.chmod(0o755)
    out = tmp_path / "out"
    out.mkdir()
    subprocess.run(
        [CHECKOUT / "systemd/generators/tdx-headroom", out, out, out],
        check=True, env={"PATH": f"{systemctl.parent}:/usr/bin:/bin"},
    )  # fmt: skip
    links = {str(path.relative_to(out)): str(path.readlink()) for path in out.rglob("*.conf")}
    source = "/usr/share/tdx-headroom/systemd/old-systemd.conf"
    units = ("tdx-headroom.service", "tdx-headroom-textfile.service")
    assert links == ({f"{unit}.d/old-systemd.conf": source for unit in units} if given else {})


@pytest.mark.parametrize("dynamic", [True, False], ids=["link and folder", "folder"])
def test_a_purge_takes_the_state_away(dynamic: bool, tmp_path: Path) -> None:  # noqa: FBT001
    """Of a service with a user of its own, and of one with a fixed user or none."""
    kept = tmp_path / "var/lib" / ("private/tdx-headroom" if dynamic else "tdx-headroom")
    kept.mkdir(parents=True)
    (kept / "state.json").write_text("{}")
    if dynamic:
        (tmp_path / "var/lib/tdx-headroom").symlink_to("private/tdx-headroom")
    script = (PACKAGING / "debian/tdx-headroom.postrm").read_text().replace("/var/", f"{tmp_path}/var/")
    done = subprocess.run(["sh", "-c", script, "postrm", "purge"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert list((tmp_path / "var/lib").iterdir()) == []


def test_all_versions_are_the_same() -> None:
    """The code, Debian's changelog, the RPM's spec and the image's label have one version."""
    done = subprocess.run(
        [sys.executable, "-c", "import release; print(release.version())"],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(PACKAGING)},
    )  # fmt: skip
    assert done.stdout.strip() == __version__, done.stderr


@pytest.mark.program("dpkg-checkbuilddeps")
def test_what_a_release_needs_is_named_in_one_line(tmp_path: Path) -> None:
    """Everything that is missing is told at once, before anything is made, with what would bring it."""
    control = tmp_path / "control"
    control.write_text("Source: x\nBuild-Depends: no-such-tool (>= 2), no-such-library\n")
    script = f"import pathlib, release; release._require(['deb', 'rpm'], pathlib.Path({str(control)!r}))"
    environment = {**os.environ, "PYTHONPATH": str(PACKAGING)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    said = done.stderr.splitlines()[-1]
    assert "no-such-tool (>= 2), no-such-library" in said
    assert "--install-needed" in said


def test_debian_12s_python_can_unpack_the_sdist(tmp_path: Path) -> None:
    """Python 3.11.2, with which the release is made on Debian 12, has an extractall() without filter=."""
    (tmp_path / "file").write_text("x")
    with tarfile.open(tmp_path / "sdist-1.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "file", "sdist-1/file")
    script = (
        "import pathlib, sys, tarfile, release\n"
        "new = tarfile.TarFile.extractall\n"
        "def old(self, path='.', members=None, *, numeric_owner=False):\n"
        "    new(self, path, members, numeric_owner=numeric_owner)\n"
        "tarfile.TarFile.extractall = old\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "print((release._unpacked(folder, folder / 'sdist-1.tar.gz', 'deb') / 'file').read_text())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(PACKAGING)}
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.stdout == "x\n", done.stderr


def test_the_rpms_libraries_are_pyprojects() -> None:
    """What is looked for before rpmbuild runs are the runtime dependencies, by their names for import."""
    script = "import json, release; print(json.dumps(release.LIBRARIES))"
    environment = {**os.environ, "PYTHONPATH": str(PACKAGING)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    packages = set(json.loads(done.stdout).values())
    renamed = {"pyyaml": "python3-yaml"}
    assert packages == {renamed.get(n.lower(), f"python3-{n.lower()}") for n in dependencies()}


def dependencies() -> dict[str, str]:
    """Lowest version of every runtime dependency."""
    return dict(entry.split(">=") for entry in PYPROJECT["project"]["dependencies"])


def test_the_lowest_versions_are_pyprojects() -> None:
    """tests/lowest.txt, which CI tests with, has the floors of pyproject.toml."""
    lines = (CHECKOUT / "tests/lowest.txt").read_text().splitlines()
    lowest = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert lowest.keys() == dependencies().keys()
    for name, version in dependencies().items():
        assert lowest[name].startswith(version), name


def test_the_spec_has_pyprojects_dependencies() -> None:
    """The RPM requires the same lowest versions."""
    spec = (PACKAGING / "rpm/tdx-headroom.spec").read_text()
    required = dict(re.findall(r"^Requires: +python3-(\S+) >= (\S+)$", spec, re.MULTILINE))
    names = {"prometheus-client": "prometheus_client", "Jinja2": "jinja2", "PyYAML": "pyyaml"}
    assert required == {names.get(name, name): version for name, version in dependencies().items()}


@pytest.mark.program("git")
def test_the_sdist_has_what_packages_need() -> None:
    """Every tracked file is in the sdist's list, but for those that only git needs."""
    include = PYPROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    if not (CHECKOUT / ".git").exists():
        pytest.skip("no git checkout")  # an unpacked sdist: that is what this test is about
    listed = subprocess.run(["git", "ls-files"], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    tops = {f"/{name.split('/')[0]}" for name in listed.stdout.splitlines()}
    assert tops - set(include) <= {"/.gitignore", "/pyproject.toml"}


def test_workflows_say_what_they_do() -> None:
    """The test matrix has each Python that is promised, and both ends of the dependencies' versions."""
    workflow = yaml.safe_load((CHECKOUT / ".github/workflows/test.yml").read_text())
    matrix = workflow["jobs"]["python"]["strategy"]["matrix"]
    assert matrix["python"] == ["3.11", "3.12", "3.13", "3.14"]
    assert PYPROJECT["project"]["requires-python"] == ">=3.11"
    assert {"python": "3.11", "dependencies": "lowest"} in matrix["include"]
    release = (CHECKOUT / ".github/workflows/release.yml").read_text()
    assert yaml.safe_load(release)["jobs"].keys() == {"make", "publish"}
    assert "make release" in release


def test_the_container_copies_what_there_is() -> None:
    """Everything that the image is made from is in the checkout."""
    recipe = (PACKAGING / "container/Containerfile").read_text()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", recipe, re.MULTILINE)
    names = [name for line in copied for name in line.split()]
    assert {"agent", "pyproject.toml"} <= set(names)
    assert [name for name in names if not (CHECKOUT / name).exists()] == []


def test_the_container_gets_the_capabilities_that_were_tried() -> None:
    """Each in an option of its own: docker takes a list with commas for the name of one capability."""
    page = (CHECKOUT / "docs/container.md").read_text()
    command = page[page.index("podman run --name tdx-headroom ") :]
    given = re.findall(r"--cap-add (\S+)", command[: command.index("```")])
    assert [name.lower() for name in given] == [*CONTAINER_CAPABILITIES][:-1]
