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
from tests.imports import circles, impurities, modules_of
from tests.opened import openings
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


def test_nothing_imports_itself_through_others() -> None:
    """Within a room as between rooms, no module needs another one that needs it, when the program runs."""
    assert not circles(PACKAGE)


@pytest.mark.parametrize(
    ("module", "planted"),
    [
        ("verdict/model.py", "from tdx_headroom.verdict.judge import judge"),
        ("verdict/obstacles/lasting.py", "from tdx_headroom.verdict import State"),
        ("plan/holes.py", "def late(): from .build import plan"),
    ],
)
def test_planted_circles_are_found(tmp_path: Path, module: str, planted: str) -> None:
    """Through however many modules, and also where it is imported late."""
    copy = shutil.copytree(PACKAGE, tmp_path / PACKAGE.name, ignore=lambda *_: ["hosts"])
    with (copy / module).open("a") as file:
        file.write(f"\n{planted}\n")
    name = f"tdx_headroom.{module.removesuffix('.py').replace('/', '.')}"
    assert [circle for circle in circles(copy) if name in circle]


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


OPENING = {
    "hostfs/": "opens the host's files for all others",
    "inputs/expand.py": "what a user names",
    "inputs/read.py": "what a user names",
    "inputs/together.py": "what a user names",
    "commands/hosts.py": "what a user names",
    "commands/output_file.py": "where a user wants a file to be written",
    "whole_file.py": "writes files",
    "service/handover.py": "the state's folder",
    "service/state_file.py": "the state's file",
    "web/config_yaml.py": "the web configuration, which a user names",
    "web/config_reload.py": "the web configuration, whether it has changed",
    "web/listen.py": "sockets that a user names, and those that systemd hands over",
    "child.py": "where the agent's own code is",
    "output/page.py": "the page's own templates",
    "cli.py": "/dev/null, in place of standard streams that are closed",
    "service/clean_process.py": "the agent's own descriptors and memory",
    "service/folder_watch.py": "whether a folder that inotify watches by its path is still the same",
    "service/privileges.py": "whether the user that it has become can look into the host's root",
    "service/users.py": "user ids of the system that the agent runs on, whatever host it looks at",
}
"""Who opens paths of its own, and of what; a folder ends with a slash."""


def opening() -> dict[str, list[str]]:
    """Who opens paths of the machine, and how."""
    found = {str(path.relative_to(PACKAGE)): openings(path.read_text("utf-8")) for path in FILES}
    return {name: how for name, how in found.items() if how}


def test_only_root_opens_host_paths() -> None:
    """Every file of a host goes through its root: so a captured host is read as the live one is."""
    assert not {name: how for name, how in opening().items() if not name.startswith(tuple(OPENING))}


def test_no_exemption_is_left_over() -> None:
    """Nobody may open paths who does not."""
    assert not [name for name in OPENING if not any(other.startswith(name) for other in opening())]


@pytest.mark.parametrize(
    "planted",
    [
        "open('/proc/iomem')",
        "io.open('/proc/iomem')",
        "os.open('/proc/iomem', os.O_RDONLY)",
        "os.listdir('/proc')",
        "os.scandir('/proc')",
        "os.stat('/proc/iomem')",
        "list(map(os.lstat, ['/proc/iomem']))",
        "os.path.exists('/proc/iomem')",
        "Path('/proc/iomem').read_text()",
        "Path('/proc/iomem').read_bytes()",
        "Path('/proc/iomem').open()",
        "Path('/proc/iomem').open('rb')",
        "Path('/proc/iomem').exists()",
        "Path('/proc/iomem').stat(follow_symlinks=False)",
        "list(Path('/proc').iterdir())",
        "list(Path('/proc').glob('*'))",
        "glob.glob('/proc/*')",
        "gzip.open('/proc/config.gz')",
        "from os import stat as look; look('/proc/iomem')",
        "import os as system; system.listdir('/proc')",
        "from os import path; path.isdir('/proc')",
    ],
)
def test_planted_openings_are_found(planted: str) -> None:
    """However it is written."""
    assert openings(f"def f(files):\n    {planted}\n")


@pytest.mark.parametrize(
    "harmless",
    [
        "files.open(SOURCE, path)",
        "files.read(SOURCE, path)",
        "self._files.read_bytes(SOURCE, path, limit=1)",
        "files.exists('boot')",
        "self.open = files.open",
        "member.isdir()",
        "tarfile.open(fileobj=stream, mode='r:')",
        "os.fstat(fd)",
        "import os.path; os.path.join('a', 'b')",
    ],
)
def test_what_a_root_opens_is_no_opening(harmless: str) -> None:
    """A host's files are asked by the same names."""
    assert not openings(harmless)


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
