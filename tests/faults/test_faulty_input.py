# SPDX-License-Identifier: Apache-2.0
"""Faulty input, one defect a file; README.md says what each proves."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tdx_headroom.facts.host_facts import FactsError, HostFacts
from tdx_headroom.host.choose import facts_from_log, read_facts
from tdx_headroom.hostfs.root import Root
from tdx_headroom.sources.firmware_memmap import firmware_ram, read_firmware_memmap
from tdx_headroom.sources.iomem import read_iomem, system_ram
from tdx_headroom.sources.kernel_log.boot_map import read_boot_map
from tdx_headroom.sources.kernel_log.reader import read_kernel_log, read_log_file
from tdx_headroom.sources.memblock import read_memblock
from tdx_headroom.sources.nodes import read_nodes
from tdx_headroom.sources.zoneinfo import read_zoneinfo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tdx_headroom.sources.reading import Reading

FOLDER = Path(__file__).parent
EXPECTED: dict[str, dict[str, Any]] = json.loads((FOLDER / "expected.json").read_text("utf-8"))
REFUSED = [name for name, expected in EXPECTED.items() if "reason" in expected]
READ = [name for name, expected in EXPECTED.items() if "ranges" in expected]
LOGS = [name for name, expected in EXPECTED.items() if "records" in expected]
FACTS = [name for name in EXPECTED if name.startswith("facts/")]

PLACES = {
    "iomem": "proc/iomem",
    "memblock": "sys/kernel/debug/memblock/memory",
    "firmware-memmap": "sys/firmware/memmap",
    "nodes": "sys/devices/system",
    "zoneinfo": "proc/zoneinfo",
    "kmsg": "dev/kmsg",
}
READERS: dict[str, Callable[[Root], Reading[Any]]] = {
    "iomem": read_iomem,
    "memblock": read_memblock,
    "firmware-memmap": read_firmware_memmap,
    "nodes": read_nodes,
    "zoneinfo": read_zoneinfo,
    "kmsg": read_kernel_log,
}
RANGES: dict[str, Callable[[Any], Iterable[Any]]] = {
    "iomem": system_ram,
    "firmware-memmap": firmware_ram,
    "memblock": list,
    "nodes": list,
}


def source_of(name: str) -> str:
    return name.partition("/")[0]


def host_with(name: str, tmp_path: Path) -> Root:
    """A host that has this input in its place and nothing else."""
    path = tmp_path / "host" / PLACES[source_of(name)]
    path.parent.mkdir(parents=True)
    if (FOLDER / name).is_dir():
        shutil.copytree(FOLDER / name, path)
    else:
        shutil.copyfile(FOLDER / name, path)
    return Root(tmp_path / "host")


def log_text(name: str) -> Reading[Any]:
    text = (FOLDER / name).read_bytes().decode("utf-8", "backslashreplace")
    return read_log_file(name, text)


def read(name: str, tmp_path: Path) -> Reading[Any]:
    """The reading of a source that is given this input."""
    source = source_of(name)
    if source in READERS:
        return READERS[source](host_with(name, tmp_path))
    if source == "log":
        return log_text(name)
    log = log_text(name)
    assert log.value is not None
    boot = read_boot_map(log.value, log.origin)
    lists: dict[str, Reading[Any]] = {r.source: r for r in (boot.e820, boot.node_ranges, boot.srat)}
    return lists[source]


def load(name: str) -> HostFacts:
    return HostFacts.from_json(json.loads((FOLDER / name).read_text("utf-8")))


def test_everything_is_accounted_for() -> None:
    """Every input has its expectation and its line in the README, and the other way round."""
    inputs = {
        f"{folder.name}/{path.name}"
        for folder in FOLDER.iterdir()
        if folder.is_dir() and folder.name != "__pycache__"
        for path in folder.iterdir()
    }
    readme = (FOLDER / "README.md").read_text("utf-8")
    told = set()
    for section in readme.split("\n## ")[1:]:
        source = section.split("\n")[0]
        told |= {f"{source}/{defect}" for defect in re.findall(r"^\| `(.+?)` \| \S", section, re.MULTILINE)}
    assert inputs == set(EXPECTED) == told
    assert sorted(REFUSED + READ + LOGS) == sorted(EXPECTED)


@pytest.mark.parametrize("name", [name for name in REFUSED if name not in FACTS])
def test_refused(name: str, tmp_path: Path) -> None:
    """Faulty input gives no value but an error with source, line number, reason and hint, in one line."""
    expected = EXPECTED[name]
    reading = read(name, tmp_path)
    error = reading.error
    assert reading.value is None
    assert error is not None
    assert (error.source, error.line) == (expected["source"], expected["line"])
    root = str(tmp_path / "host")
    assert error.reason.replace(root, "<root>") == expected["reason"]
    assert str(error).replace(root, "<root>") == expected["shown"]
    assert str(error).isprintable()


@pytest.mark.parametrize("name", [name for name in REFUSED if name in FACTS])
def test_facts_refused(name: str) -> None:
    """Faulty facts are refused with the part that is faulty and what to give instead."""
    with pytest.raises(FactsError) as caught:
        load(name)
    expected = EXPECTED[name]
    assert caught.value.message == expected["reason"]
    assert f"facts: {caught.value}" == expected["shown"]


@pytest.mark.parametrize("name", [name for name in READ if name not in FACTS])
def test_read(name: str, tmp_path: Path) -> None:
    """Odd input that a host may have is read, and gives exactly these ranges."""
    reading = read(name, tmp_path)
    assert reading.error is None
    found = RANGES[source_of(name)](reading.value)
    assert [[hex(r.start), hex(r.end)] for r in found] == EXPECTED[name]["ranges"]


@pytest.mark.parametrize("name", LOGS)
def test_log_read(name: str) -> None:
    """Of a damaged log what is whole is read, and no list goes on across what is missing."""
    log = log_text(name).value
    assert log is not None
    assert [record.text for record in log.records] == EXPECTED[name]["records"]
    assert sorted(log.gaps) == EXPECTED[name]["gaps"]
    assert not log.verified


@pytest.mark.parametrize("name", [name for name in READ if name in FACTS])
def test_facts_read(name: str) -> None:
    """Odd facts are taken as given."""
    facts = load(name)
    expected = EXPECTED[name]
    assert [[hex(r.start), hex(r.end)] for r in facts.memory_regions or ()] == expected["ranges"]
    if "cmrs" in expected:
        assert facts.cmrs == tuple(map(tuple, expected["cmrs"]))
    assert HostFacts.from_json(facts.to_json()) == facts


@pytest.mark.parametrize("name", [name for name in REFUSED if source_of(name) in PLACES])
def test_faulty_source_of_a_host(name: str, tmp_path: Path) -> None:
    """A host with a faulty source has facts all the same; they tell of the fault and use nothing of it."""
    root = host_with(name, tmp_path)
    facts = read_facts(root)
    expected = EXPECTED[name]
    source = "kernel-log" if name.startswith("kmsg/") else expected["source"]
    (status,) = (status for status in facts.sources if status.source == source)
    assert not status.ok
    assert status.error is not None
    assert expected["reason"].replace("<root>", root.path) in status.error
    assert facts.memory_regions is None


@pytest.mark.parametrize("name", [name for name in REFUSED if name.startswith(("log-e820/", "log-node-"))])
def test_faulty_list_of_a_log(name: str) -> None:
    """A log with a faulty list tells of the fault and gives no memory map."""
    facts = facts_from_log(log_text(name))
    (status,) = (status for status in facts.sources if status.source == source_of(name))
    assert status.error is not None
    assert EXPECTED[name]["reason"] in status.error
    assert facts.memory_regions is None
