# SPDX-License-Identifier: Apache-2.0
"""The registry of sources: a row has all its pieces, and what goes by a file's path agrees with it."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from tdx_headroom.facts.sources import MemorySource
from tdx_headroom.host.readings import read_all
from tdx_headroom.hostfs.memory import MemoryRoot
from tdx_headroom.sources.registry import HANDED_OVER, SELECTION, SOURCES, File

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
