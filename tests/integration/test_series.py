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


def split_into_tdmrs(root: Path, count: int) -> None:
    """Memory in so many places, each with a TDMR of its own; CMRs stay in the log, for all strategies."""
    rows = [(2 * n * GIB, (2 * n + 1) * GIB) for n in range(count)]
    memblock = "".join(f"{n:4}: 0x{s:016x}..0x{e - 1:016x}    0 NONE\n" for n, (s, e) in enumerate(rows))
    (root / "sys/kernel/debug/memblock/memory").write_text(memblock)
    (root / "proc/iomem").write_text("".join(f"{s:08x}-{e - 1:08x} : System RAM\n" for s, e in rows))


@pytest.mark.parametrize(("tdmrs", "limit"), [(None, 200), (MAX_TDMRS, 1000)])
def test_series_of_a_host_are_bounded(tmp_path: Path, tdmrs: int | None, limit: int) -> None:
    """A usual host has fewer than 200 series, one with 64 TDMRs fewer than 1000, all included."""
    root, state = tmp_path / "host", tmp_path / "state"
    shutil.copytree(HOSTS / "emerald-rapids", root)
    state.mkdir()
    if tdmrs is not None:
        split_into_tdmrs(root, tdmrs)
    with agent("--path.rootfs", str(root), "--state-directory", str(state)) as running:
        running.get("/metrics")
        samples = running.samples()
        headroom = [key for key in samples if key[0] == "tdx_tdmr_reserved_areas_headroom"]
        assert len(headroom) == 3 * (tdmrs or 5)
        assert len(samples) < limit
        print(f"{len(samples)} series with {tdmrs or 5} TDMRs")
