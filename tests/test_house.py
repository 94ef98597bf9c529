# SPDX-License-Identifier: Apache-2.0
"""The rules of the house: lint, types, and the direction of imports."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PACKAGES
from tests.imports import impurities, modules_of
from tests.shares import FAULTS, LONG

CHECKOUT = Path(__file__).resolve().parents[1]
PACKAGE = CHECKOUT / "agent" / "tdx_headroom"

LAYERS = [
    {"address", "errors", "textlines", "kept"},
    {"child", "log", "whole_file"},
    {"hostfs"},
    {"facts"},
    {"sources"},
    {"boots"},
    {"plan"},
    {"host"},
    {"verdict"},
    {"inputs", "output"},
    {"capture"},
    {"web"},
    {"service"},
    {"commands"},
    {"cli"},
    {"__main__"},
]
"""What may import what: a module imports its own room and those of layers before it."""

PURE = (
    "address",
    "facts",
    "plan",
    "host.memory_map",
    "boots.memory_map",
    "boots.map_risks",
    "boots.movable",
    "verdict",
)
"""What reads nothing, waits for nothing and logs nothing, nor does anything that it imports."""


@pytest.mark.parametrize(
    "command", [["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]], ids=" ".join
)
def test_linters_are_silent(command: list[str]) -> None:
    """ruff and mypy --strict find nothing in the whole checkout."""
    run = subprocess.run([sys.executable, "-m", *command], cwd=CHECKOUT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def arrows_up(package: Path) -> list[str]:
    """Imports, those for types alone too, of a room that is not in a layer below."""
    depth = {name: i for i, layer in enumerate(LAYERS) for name in layer}
    found = []
    for name, module in modules_of(package).items():
        room = name.partition(".")[2].partition(".")[0]
        for imported in sorted(module.imports):
            _, _, inner = imported.partition("tdx_headroom.")
            other = inner.partition(".")[0]
            if room and other in depth and other != room and depth[other] >= depth[room]:
                found.append(f"{name} imports {imported}")
    return found


def test_arrows_go_one_way() -> None:
    """sources -> facts -> plan -> verdict -> outputs, and nothing back."""
    assert not arrows_up(PACKAGE)


def test_every_room_has_its_layer() -> None:
    """LAYERS names every module and package at the top, and nothing else."""
    rooms = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in FILES}
    assert {name for layer in LAYERS for name in layer} == rooms


def test_pure_parts_do_no_io() -> None:
    """The plan, what it is made from and what judges it read, wait and log nowhere, nor through others."""
    assert not impurities(PACKAGE, PURE)


def test_pure_parts_are_there() -> None:
    """No part of the list was moved, so that nobody looks at it any more."""
    assert not [name for name in PURE if f"tdx_headroom.{name}" not in modules_of(PACKAGE)]


@pytest.mark.parametrize(
    ("module", "planted", "chain"),
    [
        ("plan/build.py", "import socket", "plan.build -> socket"),
        ("plan/build.py", "from tdx_headroom.log import configure", "plan.build -> log -> structlog"),
        ("plan/build.py", "from tdx_headroom import log", "plan.build -> log -> structlog"),
        ("plan/build.py", "from .. import log", "plan.build -> log -> structlog"),
        ("plan/holes.py", "def late(): from ..log import configure", "plan.holes -> log -> structlog"),
        (
            "plan/build.py",
            "from tdx_headroom.hostfs.root import Root",
            "plan.build -> hostfs.root -> os.open",
        ),
        (
            "plan/build.py",
            "from tdx_headroom.sources.platform import read_release",
            "plan.build -> sources.platform -> psutil",
        ),
        ("address.py", "import importlib", "address -> importlib"),
        ("plan/__init__.py", "from os import environ", "plan -> os.environ"),
        ("plan/__init__.py", "import os.path as path", "plan -> os.path"),
        ("errors.py", "import traceback as t", "-> errors -> traceback"),
        ("errors.py", "print(os.getpid())", "-> errors -> os.getpid"),
        ("errors.py", "print(os.getpid())", "-> errors -> print()"),
    ],
)
def test_planted_io_is_found(tmp_path: Path, module: str, planted: str, chain: str) -> None:
    """Whatever way a pure module comes to something that reads, waits or logs, the chain is told."""
    copy = shutil.copytree(PACKAGE, tmp_path / PACKAGE.name, ignore=lambda *_: ["hosts"])
    with (copy / module).open("a") as file:
        file.write(f"\n{planted}\n")
    assert [found for found in impurities(copy, PURE) if found.endswith(chain)]


def test_imports_for_types_are_not_io(tmp_path: Path) -> None:
    """What only a type checker imports never runs; in the other branch it does."""
    package = tmp_path / "tdx_headroom"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "plan.py").write_text("if TYPE_CHECKING:\n    import socket\nelse:\n    import select\n")
    assert impurities(package, ("plan",)) == ["plan -> select"]


@pytest.mark.parametrize("planted", ["from tdx_headroom.verdict import judge", "from .. import output"])
def test_planted_arrows_are_found(tmp_path: Path, planted: str) -> None:
    """An import of a room above is found, relative ones too."""
    copy = shutil.copytree(PACKAGE, tmp_path / PACKAGE.name, ignore=lambda *_: ["hosts"])
    with (copy / "plan/build.py").open("a") as file:
        file.write(f"\nif TYPE_CHECKING:\n    {planted}\n")
    assert arrows_up(copy)


def test_only_root_opens_host_paths() -> None:
    """Every file of a host goes through Root; inputs/read.py what a user names, the state its own."""
    for path in FILES:
        if path.name in ("root.py", "read.py", "state_file.py", "handover.py", "whole_file.py"):
            continue
        calls = [n for n in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(n, ast.Call)]
        for call in calls:
            name = ast.unparse(call.func)
            assert name not in ("open", "io.open", "os.listdir", "os.scandir"), f"{path.name}: {name}"


def test_every_module_is_small() -> None:
    """No module of the package has more than 350 lines."""
    assert not {p.name: n for p in FILES if (n := len(p.read_text("utf-8").splitlines())) > 350}


SKIPPING = """\
import pytest
@pytest.mark.skipif(True, reason="by a mark")
def test_mark(): ...
def test_call(): pytest.skip("by a call")
@pytest.fixture
def lacking(): pytest.skip("by a fixture")
def test_fixture(lacking): ...
@pytest.mark.program("lintian")
def test_program(): ...
"""


@pytest.mark.parametrize(("flags", "lost"), [([], 0), (["--require-everything"], 4)])
def test_nothing_is_skipped_where_everything_is_required(tmp_path: Path, flags: list[str], lost: int) -> None:
    """CI fails for each test that is skipped, however that is said; elsewhere the reasons are listed."""
    (tmp_path / "test_skipping.py").write_text(SKIPPING)
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-c", "/dev/null", "-rA", *flags]
    run = subprocess.run(
        [*command, f"--rootdir={tmp_path}", tmp_path],
        cwd=CHECKOUT,
        env=os.environ | {"PATH": "/nowhere"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == bool(lost), run.stdout
    assert len(re.findall(r"^(?:FAILED|ERROR) ", run.stdout, re.MULTILINE)) == lost, run.stdout
    for reason in ("by a mark", "by a call", "by a fixture", "apt-get install lintian"):
        assert reason in run.stdout


def test_ci_installs_what_tests_need() -> None:
    """Every package that a test may ask for is one that .ci/run brings on a new machine."""
    script = (CHECKOUT / ".ci/run").read_text("utf-8")
    assert not {package for package in PACKAGES.values() if f"need+=({package})" not in script}


ESSENTIAL = {"bash", "cp", "dmesg", "mount", "python3", "setpriv", "sh", "umount", "unshare"}
"""Programs of packages that no Debian is without."""

TESTS = sorted(CHECKOUT.glob("tests/**/test_*.py"))


def programs(tree: ast.AST) -> set[str]:
    """What a file runs: the first words of lists that are run, or kept as a command."""
    lists: list[ast.expr] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("subprocess."):
            lists += node.args[:1]
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "command":
            lists.append(node.value)
    first = [node.elts[0] for node in lists if isinstance(node, ast.List | ast.Tuple) and node.elts]
    return {node.value for node in first if isinstance(node, ast.Constant) and isinstance(node.value, str)}


@pytest.mark.parametrize("path", TESTS, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_programs_are_named(path: Path) -> None:
    """A test that runs a program which a machine may lack names it, so that it is skipped there."""
    text = path.read_text("utf-8")
    names = {Path(name).name for name in programs(ast.parse(text))}
    lacking = [name for name in names - ESSENTIAL if f'program("{name}")' not in text]
    assert not [name for name in lacking if not ("program(name)" in text and f'"{name}"' in text)]


def test_long_modules_are_there() -> None:
    """Those that `make test` begins with have not been renamed; those that inject faults are all of them."""
    assert [module for module in LONG if not (CHECKOUT / module).is_file()] == []
    recording = {
        str(path.relative_to(CHECKOUT))
        for path in (CHECKOUT / "tests" / "integration").glob("test_*.py")
        if "tests.integration.recorded" in path.read_text("utf-8")
    }
    assert recording == set(FAULTS)
