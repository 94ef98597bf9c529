# SPDX-License-Identifier: Apache-2.0
"""The hosts of the fleet that the dashboards are drawn of: one for each thing that they can show."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tests.tools.synthetic import EMERALD_RAPIDS
from tests.tools.synthetic.common import tdx_lines
from tests.tools.synthetic.files import files_of
from tests.tools.synthetic.model import Kind

if TYPE_CHECKING:
    from tests.tools.synthetic.model import Host, Line

TESTS = Path(__file__).parents[1]

_MENDED = {0x5D3CF000, 0x5E5B3000}
"""Firmware areas without which the Emerald Rapids host fits, with one reserved area left."""


def _up(log: tuple[Line, ...]) -> tuple[Line, ...]:
    """The lines of a host that failed, had it not."""
    kept = tuple(line for line in log if "failed" not in line.text and "exhausted" not in line.text)
    return kept + tdx_lines("""
        10774047 6 1050644 KB allocated for PAMT
        10774052 6 module initialized
    """)


AT_RISK = replace(
    EMERALD_RAPIDS,
    name="at-risk",
    e820=tuple(e._replace(kind=Kind.RAM) if e.start in _MENDED else e for e in EMERALD_RAPIDS.e820),
    tdx=_up(EMERALD_RAPIDS.tdx),
    kvm_intel_tdx="Y",
)
MAINLINE_FAILS = replace(
    EMERALD_RAPIDS,
    name="mainline-fails",
    release="6.8.0-1007-intel",
    command_line=EMERALD_RAPIDS.command_line.replace("1004", "1007"),
    tdx=_up(EMERALD_RAPIDS.tdx),
    kvm_intel_tdx="Y",
)
"""That kernel leaves holes out that lie inside a CMR."""


def _write(folder: Path, host: Host) -> None:
    for path, text in files_of(host).items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def make(folder: Path) -> dict[str, Path]:
    """Write them; the root of each by the name that its agent has in Prometheus.

    Args:
        folder: to be made.
    """
    for host in (AT_RISK, MAINLINE_FAILS):
        _write(folder / host.name, host)
    shutil.copytree(TESTS / "hosts/good-2-node", folder / "staged")
    shutil.copytree(TESTS / "boots/debian-one", folder / "staged", symlinks=True, dirs_exist_ok=True)
    return {
        "healthy": TESTS / "hosts/good-2-node",
        "failed": TESTS / "hosts/emerald-rapids",
        "failed-too": TESTS / "hosts/granite-rapids-like",
        "at-risk": folder / "at-risk",
        "mainline-fails": folder / "mainline-fails",
        "staged": folder / "staged",
        "no-tdx": TESTS / "hosts/no-tdx",
    }
