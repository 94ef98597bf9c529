# SPDX-License-Identifier: Apache-2.0
"""The rules of the house: lint, types, and the direction of imports."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PACKAGES

CHECKOUT = Path(__file__).resolve().parents[1]
PACKAGE = CHECKOUT / "agent" / "tdx_headroom"

LAYERS = [
    {"address", "errors", "textlines"},
    {"log", "whole_file"},
    {"hostfs"},
    {"facts"},
    {"sources"},
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
"""What may import what: a module imports its own layer and those before it. docs/architecture.md draws it."""

READS_OR_WAITS = {
    "os",
    "io",
    "socket",
    "subprocess",
    "time",
    "datetime",
    "asyncio",
    "pathlib",
    "structlog",
    "psutil",
}
PURE = ("address.py", "facts", "plan", "host/memory_map.py", "verdict")


@pytest.mark.parametrize(
    "command", [["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]], ids=" ".join
)
def test_linters_are_silent(command: list[str]) -> None:
    """ruff and mypy --strict find nothing in the whole checkout."""
    run = subprocess.run([sys.executable, "-m", *command], cwd=CHECKOUT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


def imports(path: Path) -> set[str]:
    """Absolute names of the modules that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def part(path: Path) -> str:
    """The part of the package that a file belongs to: its module, or its sub-package."""
    relative = path.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows_go_one_way(path: Path) -> None:
    """sources -> facts -> plan -> verdict -> outputs, and nothing back."""
    depth = {name: i for i, layer in enumerate(LAYERS) for name in layer}
    own = depth[part(path)]
    for name in imports(path):
        if name.startswith("tdx_headroom.") and (other := name.split(".")[1]) in depth:
            assert depth[other] <= own, f"{path.name} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_pure_parts_do_no_io(path: Path) -> None:
    """The plan, what it is made from and what judges it read nothing, wait for nothing and log nothing."""
    relative = path.relative_to(PACKAGE)
    if str(relative) in PURE or relative.parts[0] in PURE:
        assert not {name.split(".")[0] for name in imports(path)} & READS_OR_WAITS


def test_pure_parts_are_there() -> None:
    """No part of the list was moved, so that nobody looks at it any more."""
    assert not [name for name in PURE if not (PACKAGE / name).exists()]


def test_only_root_opens_host_paths() -> None:
    """Every file of a host goes through Root; inputs/read.py what a user names, the state its own."""
    for path in FILES:
        if path.name in ("root.py", "read.py", "state.py", "handover.py", "whole_file.py"):
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
