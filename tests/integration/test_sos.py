# SPDX-License-Identifier: Apache-2.0
"""The real sos, with this project's plugin: what it collects gives this machine's plan."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKOUT = Path(__file__).parents[2]
PLUGIN = CHECKOUT / "packaging" / "sos" / "tdx_headroom.py"
PYTHON = "/usr/bin/python3"

pytestmark = [
    pytest.mark.program("sos"),
    pytest.mark.root("can make a sosreport"),
]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A sosreport, made by a copy of sos that has the plugin and finds this checkout's command."""
    folder = tmp_path_factory.mktemp("sos")
    found = subprocess.run(
        [PYTHON, "-c", "import os, sos; print(os.path.dirname(sos.__file__))"], capture_output=True, text=True
    )
    shutil.copytree(found.stdout.strip(), folder / "sos", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PLUGIN, folder / "sos/report/plugins")
    bin_folder = folder / "bin"
    bin_folder.mkdir()
    command = bin_folder / "tdx-headroom"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m tdx_headroom "$@"\n')
    command.chmod(0o755)
    for policy in (folder / "sos/policies").rglob("*.py"):
        policy.write_text(
            re.sub(r"^( +PATH = )(.)", rf"\1\2{bin_folder}:", policy.read_text(), flags=re.MULTILINE)
        )
    run = subprocess.run(
        [
            *(PYTHON, "/usr/bin/sos", "report", "--batch", "--quiet"),
            *("--only-plugins", "tdx_headroom,kernel,host", "--tmp-dir", str(folder), "--name", "test"),
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    archives = [*folder.glob("sosreport-*.tar.xz"), *folder.glob("sosreport-*.tar.gz")]
    assert len(archives) == 1, run.stdout + run.stderr
    yield archives[0]
    shutil.rmtree(folder)


def plan(*arguments: str | Path, stdin: bytes | None = None) -> dict[str, object]:
    run = subprocess.run(
        [sys.executable, "-m", "tdx_headroom", "plan", "--format", "json", *arguments],
        capture_output=True,
        input=stdin,
    )
    assert run.returncode == 0, run.stderr
    found: dict[str, object] = json.loads(run.stdout)
    return found


def test_a_sosreport_gives_this_machines_plan(report: Path) -> None:
    """Host, nodes and every strategy's plan come out of the sosreport as they come out of the machine."""
    here, there = plan(), plan(report)
    for key in ("host", "nodes_known", "strategies"):
        assert there[key] == here[key]


def test_a_capture_is_in_the_sosreport(report: Path) -> None:
    """Where the agent is installed its own capture and its reports are in the sosreport."""
    with tarfile.open(report) as tar:
        names = {Path(m.name).name: m for m in tar.getmembers() if "sos_commands/tdx_headroom/" in m.name}
        member = tar.extractfile(names["capture.tar.gz"])
        assert member is not None
        capture = member.read()
    assert {"tdx-headroom_plan_--no-color", "tdx-headroom_check_--no-color"} <= set(names)
    with tarfile.open(fileobj=io.BytesIO(capture)) as tar:
        assert any(name.endswith("/manifest.json") for name in tar.getnames())
    assert plan("-", stdin=capture)["strategies"] == plan()["strategies"]
