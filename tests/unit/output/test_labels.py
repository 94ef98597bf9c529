# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tdx_headroom.host.choose import read_facts
from tdx_headroom.hostfs.root import Root
from tdx_headroom.output.labels import label_number, render_labels
from tdx_headroom.verdict.assessment import assess

HOSTS = Path(__file__).parents[2] / "hosts"
NAME = r"tdx-headroom/[a-z]([a-z-]{0,61}[a-z])?"
VALUE = r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
"""What Kubernetes takes as a label's value."""


def labels(host: str) -> str:
    return render_labels(assess(read_facts(Root(HOSTS / host)))).decode()


def test_a_failing_host() -> None:
    """A host that misses by one area says so in labels that a selector can use."""
    assert labels("emerald-rapids") == (
        "tdx-headroom/verdict=failed\n"
        "tdx-headroom/next-boot=will-fail\n"
        "tdx-headroom/strategy=memory-regions\n"
        "tdx-headroom/headroom=minus-1\n"
        "tdx-headroom/mainline-headroom=minus-1\n"
    )


def test_a_host_without_tdx() -> None:
    """It has its verdict and nothing that would be said about TDX."""
    assert labels("no-tdx") == "tdx-headroom/verdict=not-tdx\n"


@pytest.mark.parametrize("host", sorted(path.name for path in HOSTS.iterdir() if path.is_dir()))
def test_kubernetes_takes_every_label(host: str) -> None:
    """Names and values keep to Kubernetes' rules."""
    for line in labels(host).splitlines():
        assert re.fullmatch(f"{NAME}={VALUE}", line), line


@pytest.mark.parametrize(("number", "text"), [(13, "13"), (0, "0"), (-1, "minus-1")])
def test_numbers(number: int, text: str) -> None:
    """No value begins with a minus."""
    assert label_number(number) == text


def test_the_command_replaces_the_file(tmp_path: Path) -> None:
    """`labels --output F` writes the file whole, readable for the discovery's worker; `-` prints the same."""
    command = [sys.executable, "-m", "tdx_headroom", "labels", "--path.rootfs", str(HOSTS / "emerald-rapids")]
    path = tmp_path / "tdx-headroom"
    path.write_text("old\n")
    run = subprocess.run([*command, "--output", str(path)], capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    assert path.read_text() == labels("emerald-rapids")
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [found.name for found in tmp_path.iterdir()] == [path.name]
    run = subprocess.run([*command, "--output", "-"], capture_output=True, text=True, timeout=60)
    assert run.stdout == labels("emerald-rapids")


def test_a_hidden_file_is_refused(tmp_path: Path) -> None:
    """The discovery passes hidden files over, so one is not written."""
    command = [sys.executable, "-m", "tdx_headroom", "labels", "--output", str(tmp_path / ".hidden")]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert run.returncode == 64
    assert len(run.stderr.splitlines()) == 1
    assert "is no file that Node Feature Discovery reads" in run.stderr
