# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tdx_headroom.errors import SourceError
from tdx_headroom.facts.observations import Zone
from tdx_headroom.hostfs.root import Root
from tdx_headroom.sources.zoneinfo import parse_zoneinfo, read_zoneinfo

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    HostTree = Callable[[Mapping[str, str | bytes]], Root]

ZONEINFO = """\
Node 0, zone      DMA
  per-node stats
      nr_inactive_anon 10
  pages free     3840
        boost    0
        spanned  4095
        present  3998
        managed  3840
        protection: (0, 1851, 64000, 64000, 64000)
      nr_free_pages 3840
  pagesets
    cpu: 0
              count:    0
  node_unreclaimable:  0
  start_pfn:           1
Node 0, zone   Normal
  pages free     100
        spanned  8388608
        present  8388608
        managed  8200000
  start_pfn:           1048576
Node 0, zone  Movable
  pages free     0
        spanned  0
        present  0
        managed  0
        protection: (0, 0, 0, 0, 0)
Node 1, zone   Normal
  pages free     100
        spanned  8388608
        present  8380000
        managed  8200000
  start_pfn:           9437184
Node 1, zone   Device
  pages free     0
        spanned  0
        present  0
        managed  0
"""
ZONES = [
    Zone(0, "DMA", 0x1000, 0x100_0000),
    Zone(0, "Normal", 0x1_0000_0000, 0x9_0000_0000),
    Zone(1, "Normal", 0x9_0000_0000, 0x11_0000_0000),
]


def test_zones() -> None:
    """Zones that have memory come in the file's order, in bytes, as far as they span."""
    assert parse_zoneinfo(ZONEINFO) == ZONES


@pytest.mark.parametrize(
    "change", [lambda t: t.replace("\n", "\r\n"), lambda t: t.rstrip("\n")], ids=["crlf", "cut"]
)
def test_line_ends_do_not_matter(change: Callable[[str], str]) -> None:
    """CRLF and a missing last line break give the same zones."""
    assert parse_zoneinfo(change(ZONEINFO)) == ZONES


@pytest.mark.parametrize(
    "text", ["", "garbage\n", "Node 0, zone  Movable\n        spanned  0\n        present  0\n"]
)
def test_no_zone(text: str) -> None:
    """A file without a zone that has memory is an error."""
    with pytest.raises(SourceError) as caught:
        parse_zoneinfo(text)
    assert str(caught.value) == "zoneinfo: no zone with memory in it"


@pytest.mark.parametrize("n", [1, 2])
def test_zone_without_a_start(n: int) -> None:
    """A zone with memory must tell where it starts, in the middle of the file and at its end."""
    cut = (
        ZONEINFO.replace("  start_pfn:           1\n", "")
        if n == 1
        else ZONEINFO[: ZONEINFO.index("  start_pfn:           94")]
    )
    with pytest.raises(SourceError) as caught:
        parse_zoneinfo(cut)
    where = "zone DMA of node 0" if n == 1 else "zone Normal of node 1"
    assert str(caught.value) == f"zoneinfo: {where} has no start_pfn"


def test_start_outside_a_zone() -> None:
    """A start before any zone's headline belongs to none."""
    assert parse_zoneinfo("  start_pfn:           7\n" + ZONEINFO) == ZONES


def test_reading(host_tree: HostTree) -> None:
    """The file is read from its place, a missing one is an error."""
    root = host_tree({"proc/zoneinfo": ZONEINFO})
    assert read_zoneinfo(root).value == ZONES
    assert str(read_zoneinfo(Root(root.locate("proc"))).error).endswith(
        "proc/zoneinfo: No such file or directory"
    )


def test_this_machine() -> None:
    """The running host has a zone with memory."""
    value = read_zoneinfo(Root("/")).value
    assert value
    assert all(zone.start < zone.end for zone in value)
