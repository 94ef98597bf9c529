# SPDX-License-Identifier: Apache-2.0
"""What is told of the sources of facts, and the text that the facts' JSON has of it."""

from __future__ import annotations

from typing import Any

import pytest

from tdx_headroom.errors import SourceError
from tdx_headroom.facts.host_facts import FactsError, HostFacts
from tdx_headroom.facts.sources import CmrSource, MemorySource, PlacementSource, SourceStatus


def decoded(**given: Any) -> HostFacts:  # noqa: ANN401  JSON values
    table = {"schema": "tdx-headroom/facts/1", "memory_regions": None, "cmrs": None}
    return HostFacts.from_json({**table, **given})


def test_merits_of_memory_sources() -> None:
    """Best first: the kernel's own lists, what shows the same memory, what the firmware gave."""
    merits = [(str(s), s.kernels_own, s.exact, s.from_log) for s in MemorySource]
    assert merits == [
        ("memblock", True, True, False),
        ("log-node-ranges", True, True, True),
        ("iomem", False, True, False),
        ("log-e820", False, False, True),
        ("firmware-memmap", False, False, False),
    ]


def test_a_memory_source_of_another_agent() -> None:
    """A name that this agent does not know is kept, and has no merits."""
    source = decoded(memory_source="dmi").memory_source
    assert source is not None
    assert (source, source.kernels_own, source.exact, source.from_log) == ("dmi", False, False, False)
    assert f"from {source}" == "from dmi"
    assert decoded(memory_source="iomem").memory_source is MemorySource.IOMEM
    with pytest.raises(FactsError, match="memory_source: 3 is none of memblock"):
        decoded(memory_source=3)


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("kernel-log", CmrSource()),
        ("last seen, boot b, BIOS version 1.2, A", CmrSource(boot_id="b", bios_version="1.2, A")),
        ("a colleague", CmrSource("a colleague")),
    ],
)
def test_source_of_cmrs(text: str, source: CmrSource) -> None:
    """Facts hold it as text, as they always did."""
    facts = decoded(cmr_source=text)
    assert facts.cmr_source == source
    assert facts.to_json()["cmr_source"] == str(source) == text
    assert source.last_seen is text.startswith("last")


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("zones from the memory regions, reserved memory unknown", PlacementSource()),
        (
            "zones from zoneinfo, reserved memory from memblock-reserved",
            PlacementSource("zoneinfo", "memblock-reserved"),
        ),
    ],
)
def test_source_of_places(text: str, source: PlacementSource) -> None:
    """Facts hold it as text; what no agent wrote says nothing."""
    facts = decoded(placement_source=text)
    assert facts.placement_source == source
    assert facts.to_json()["placement_source"] == str(source) == text
    assert decoded(placement_source="the stars").placement_source is None


def test_status_of_a_source_that_failed() -> None:
    """The sentence, what may be shared of it, and without the source's name where that is all before it."""
    error = SourceError("iomem", "not a row", line=2, text="secret", hint="look")
    status = SourceStatus.of("iomem", "/proc/iomem", error)
    assert status.error == status.reason == "iomem line 2: not a row: 'secret'; look"
    assert status.public == "iomem line 2: not a row; look"
    gone = SourceStatus.of("iomem", "/proc/iomem", SourceError("iomem", "gone", absent=True))
    assert (gone.ok, gone.error, gone.reason, gone.absent) == (False, "iomem: gone", "gone", True)
    assert SourceStatus.of("iomem", "/proc/iomem", None) == SourceStatus("iomem", "/proc/iomem", ok=True)
    facts = HostFacts(sources=(status,))
    assert facts.to_json()["sources"] == [
        {"source": "iomem", "origin": "/proc/iomem", "ok": False, "error": status.error}
    ]
