# SPDX-License-Identifier: Apache-2.0
"""What the agent proposes for the command line, through a real GRUB: its files keep it as it is."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from tests.unit.boots.emulator import emulated

from tdx_headroom.facts.command_line import map_edits
from tdx_headroom.host.choose import read_facts
from tdx_headroom.hostfs.root import Root
from tdx_headroom.verdict.assessment import assess

CHECKOUT = Path(__file__).parents[3]
MKCONFIG = Path("/usr/sbin/grub-mkconfig")
SCRIPT = Path("/etc/grub.d/10_linux")
KERNEL = "vmlinuz-6.12.0-1-amd64"
pytestmark = [pytest.mark.program(name) for name in ("grub-mkconfig", "grub-script-check", "grub-emu")]
WITH_DOLLAR = "memmap=4K$0x64158000"


@pytest.fixture
def proposed() -> str:
    """All arguments of the remedies for the host of the original report."""
    remedies = assess(read_facts(Root(CHECKOUT / "tests/hosts/emerald-rapids"))).verdict.remedies
    found = dict.fromkeys(a for r in remedies for a in re.findall(r"memmap=[!-~]*[0-9]", r))
    assert len(found) == 4
    assert all(edit.punches for edit in map_edits(found))
    return " ".join(found)


def written(folder: Path, default: str) -> str:
    """The first line of a kernel in the grub.cfg that grub-mkconfig makes of an /etc/default/grub."""
    (folder / "default").mkdir()
    (folder / "grub.d").mkdir()
    (folder / KERNEL).write_bytes(b"a kernel")
    (folder / "default/grub").write_text(f"{default}\n")
    # Both as they are, but for where they look for files.
    mkconfig, script = folder / "grub-mkconfig", folder / "grub.d/10_linux"
    mkconfig.write_text(re.sub(r"(?m)^sysconfdir=.*", f"sysconfdir={folder}", MKCONFIG.read_text()))
    script.write_text(SCRIPT.read_text().replace("/boot/vmlinuz-*", f"{folder}/vmlinuz-*"))
    for path in (mkconfig, script):
        path.chmod(0o755)
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
    run = subprocess.run([mkconfig], capture_output=True, text=True, env=environment, timeout=60)
    lines = [line for line in run.stdout.splitlines() if KERNEL in line and "\tlinux\t" in line]
    if not lines and "grub-probe" in run.stderr:
        pytest.skip(f"grub-mkconfig finds no disk here: {run.stderr.strip()[-200:]}")
    assert lines, run.stderr
    return lines[0].strip()


def arguments(folder: Path, line: str) -> list[str]:
    """What GRUB makes of the line's words, as the emulator shows them."""
    config = folder / "grub.cfg"
    config.write_text(f"echo BEGIN {line} END\nexit\n")
    subprocess.run(["grub-script-check", config], check=True)
    shown = re.search("BEGIN (.*) END", emulated(folder, config.read_text()))
    assert shown is not None
    return [word for word in shown[1].split(" ") if word.startswith("memmap")]


@pytest.mark.parametrize("quotes", ['"', "'"])
def test_the_proposal_in_etc_default_grub(tmp_path: Path, proposed: str, quotes: str) -> None:
    """Inside double quotes and single quotes it goes through sh, grub-mkconfig and GRUB unchanged."""
    line = written(tmp_path, f"GRUB_CMDLINE_LINUX={quotes}quiet {proposed}{quotes}")
    assert arguments(tmp_path, line) == proposed.split()


def test_the_proposal_in_grub_cfg(tmp_path: Path, proposed: str) -> None:
    """It stands in grub.cfg as it is."""
    assert arguments(tmp_path, proposed) == proposed.split()


@pytest.mark.parametrize(
    ("value", "survives"),
    [
        (r'"memmap=4K\\\$0x64158000"', True),
        (r"'memmap=4K\$0x64158000'", True),
        (r'"memmap=4K\$0x64158000"', False),
        ('"memmap=4K$0x64158000"', False),
        ("'memmap=4K$0x64158000'", False),
    ],
)
def test_what_the_docs_say_of_a_dollar(tmp_path: Path, value: str, *, survives: bool) -> None:
    """docs/verdict.md names the quoting that survives, and warns of the one that does not."""
    line = written(tmp_path, f"GRUB_CMDLINE_LINUX={value}")
    assert (arguments(tmp_path, line) == [WITH_DOLLAR]) is survives
    if survives:
        assert f"`{value[1:-1].removeprefix('memmap=')}`" in (CHECKOUT / "docs/verdict.md").read_text("utf-8")
