# SPDX-License-Identifier: Apache-2.0
"""The registry of sources: a row has all its pieces, and what goes by a file's path agrees with it."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tdx_headroom.facts.sources import MemorySource
from tdx_headroom.host.readings import read_all
from tdx_headroom.hostfs.files import NameKind
from tdx_headroom.hostfs.memory import MemoryRoot
from tdx_headroom.hostfs.recording import RecordingRoot
from tdx_headroom.hostfs.root import Root
from tdx_headroom.sources import registry
from tdx_headroom.sources.registry import HANDED_OVER, SELECTION, SOURCES, File

if TYPE_CHECKING:
    from pathlib import Path

FILES = [(source.name, file) for source in SOURCES for file in source.files]


def test_names_are_the_rows_own() -> None:
    """No two rows share a name or a descriptor; each source of memory regions outside the log has a row."""
    names = Counter([source.name for source in SOURCES])
    assert max(names.values()) == 1
    assert len({file.handed_over for _, file in FILES if file.handed_over}) == len(HANDED_OVER)
    in_the_log = {source for source in MemorySource if source.from_log}
    assert set(MemorySource) - in_the_log <= names.keys()


def test_what_is_handed_over_has_one_path() -> None:
    """The row's pattern is the path itself where systemd opens the file."""
    for path in HANDED_OVER.values():
        assert re.fullmatch(r"[a-z/]+", path), path
        assert SELECTION.text(path), path


@pytest.mark.parametrize(("name", "file"), FILES, ids=[file.path[:60] for _, file in FILES])
def test_each_file_has_a_reduction(name: str, file: File) -> None:
    """A file that a capture leaves out would be missing where its plan is made again.

    The log is reduced as a whole, and what a sosreport tells is written where a live host has it.
    """
    known = file.reduce is not None or name == "kernel-log" or file.path.startswith("sos_commands/")
    assert known, f"give {file.path} a reduction (sources/reduce.py)"


def test_every_row_is_read() -> None:
    """Whatever a host lacks, each source that reads on its own has a reading, under its own name."""
    readings = read_all(MemoryRoot("/empty", {}))
    assert readings.found.keys() == {source.name for source in SOURCES if source.read is not None}
    assert all(reading.source == name for name, reading in readings.found.items())


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("sys/devices/system/node/node12", NameKind.DIRECTORY),
        ("sys/devices/system/node/node12/memory3", NameKind.NAME),
        ("sys/devices/system/node/node12/cpulist", NameKind.UNKEPT),
        ("sys/devices/system/node/has_cpu", None),
        # Not by how the last part begins.
        ("lib/modules/6.12.5/memory-notifier.ko", NameKind.UNKEPT),
        ("boot/node", NameKind.UNKEPT),
        ("etc/memory", None),
    ],
)
def test_what_is_kept_of_names(path: str, kind: NameKind | None) -> None:
    """The row of a source says it, for archives and captures alike."""
    assert SELECTION.name(path) is kind


def test_names_have_no_groups_of_their_own() -> None:
    """The group that matches tells the row."""
    assert registry._names().groups == len(registry._NAMES)


def test_a_capture_records_no_name_that_only_looks_like_a_node(tmp_path: Path) -> None:
    """Names that a source looks up, and of which a capture holds nothing, whatever they begin with."""
    for path in ("sys/devices/system/node/node0/memory1", "lib/modules/memory9", "boot/node7"):
        (tmp_path / path).mkdir(parents=True)
    root = RecordingRoot(Root(tmp_path), SELECTION)
    for folder in ("sys/devices/system/node", "sys/devices/system/node/node0", "lib/modules", "boot"):
        root.entries("x", folder)
    assert root.names == [
        "sys/devices/system/node/",
        "sys/devices/system/node/node0/",
        "sys/devices/system/node/node0/",
        "sys/devices/system/node/node0/memory1",
        "lib/modules/",
        "boot/",
    ]
