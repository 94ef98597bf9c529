# SPDX-License-Identifier: Apache-2.0
"""How many series a host costs whoever stores them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.integration.agent import agent

HOSTS = Path(__file__).parents[1] / "hosts"
GIB = 1 << 30
MAX_TDMRS = 64
APART = 4 * GIB
"""The second piece of memory lies above the hole below 4 GiB, where there is a CMR, too."""


def split_into_tdmrs(root: Path, count: int) -> None:
    """Memory in so many places, each with a TDMR of its own; CMRs stay in the log, for all strategies."""
    rows = [(n * APART, n * APART + GIB) for n in range(count)]
    memblock = "".join(f"{n:4}: 0x{s:016x}..0x{e - 1:016x}    0 NONE\n" for n, (s, e) in enumerate(rows))
    (root / "sys/kernel/debug/memblock/memory").write_text(memblock)
    (root / "proc/iomem").write_text("".join(f"{s:08x}-{e - 1:08x} : System RAM\n" for s, e in rows))


@pytest.mark.parametrize(
    ("host", "tdmrs", "limit"),
    [
        ("good-2-node", 2, 91),
        ("emerald-rapids", 5, 120),
        ("emerald-rapids", MAX_TDMRS, 300),
        ("no-tdx", 2, 37),
    ],
)
def test_series_of_a_host_are_bounded(tmp_path: Path, host: str, tdmrs: int, limit: int) -> None:
    """A host in good order has 90 series, its process included, and the largest one fewer than 300."""
    root, state = tmp_path / "host", tmp_path / "state"
    shutil.copytree(HOSTS / host, root)
    state.mkdir()
    if host != "no-tdx":
        split_into_tdmrs(root, tdmrs)
    with agent("--path.rootfs", str(root), "--state-directory", str(state)) as running:
        running.get("/metrics")
        samples = running.samples("/metrics")
        headroom = [key for key in samples if key[0] == "tdx_tdmr_reserved_areas_headroom"]
        assert len(headroom) == (0 if host == "no-tdx" else tdmrs)
        if host == "good-2-node":
            assert not [key for key in samples if key[0] == "tdx_finding"], "not in good order"
        assert len(samples) < limit
        print(f"{len(samples)} series with {tdmrs} TDMRs")


def test_series_that_are_asked_for_are_bounded(tmp_path: Path) -> None:
    """With all collectors the largest host has fewer than 1000 series; a flag makes one of them usual."""
    root = tmp_path / "host"
    shutil.copytree(HOSTS / "emerald-rapids", root)
    split_into_tdmrs(root, MAX_TDMRS)
    with agent("--path.rootfs", str(root), "--collector.strategies") as running:
        everything, usual = running.samples(), running.samples("/metrics")
        assert len(everything) < 1000
        headroom = [key for key in usual if key[0] == "tdx_tdmr_reserved_areas_headroom"]
        assert len(headroom) == 3 * MAX_TDMRS
        assert usual.keys() < everything.keys()
        assert running.get("/metrics?collect[]=cpu")[0] == 400
