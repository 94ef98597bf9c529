# SPDX-License-Identifier: Apache-2.0
"""What is made once for hosts with the same memory is what is made for each of them."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tdx_headroom.address import GIB, MIB, Range
from tdx_headroom.boots import memory_map
from tdx_headroom.facts.boots import KernelTraits
from tdx_headroom.facts.host_facts import GivenBases, HostFacts, MemoryRegion, Placement
from tdx_headroom.facts.observations import FirmwareRange, NodeRange, Origin, Suspect, Zone
from tdx_headroom.host.choose import read_facts
from tdx_headroom.hostfs.root import Root
from tdx_headroom.kept import KEPT, MAX_CHARACTERS, MAX_ROWS
from tdx_headroom.plan import Strategy, plan_host, plans_of, shared
from tdx_headroom.verdict.remedies import search, trial
from tdx_headroom.verdict.remedies.moves import without
from tdx_headroom.verdict.staged import movable_zones

if TYPE_CHECKING:
    from collections.abc import Callable

HOSTS = Path(__file__).parents[2] / "hosts"
NAMES = sorted(path.name for path in HOSTS.iterdir() if path.is_dir())


@pytest.fixture(autouse=True)
def nothing_kept() -> None:
    """What other tests had made is not there."""
    for made in (shared._plans, search._kept, memory_map._kept, trial._kept):
        made.cache_clear()


def host(name: str) -> HostFacts:
    return read_facts(Root(HOSTS / name))


def many(regions: int, **more: Any) -> HostFacts:  # noqa: ANN401  of HostFacts
    """Memory in so many pieces, between holes of the same size."""
    pieces = (MemoryRegion(i * 2 * MIB, (i * 2 + 1) * MIB, 0) for i in range(1, regions + 1))
    return HostFacts(**{"memory_regions": tuple(pieces), "pamt_placement": Placement.NONE, **more})


def crowded(**more: Any) -> HostFacts:  # noqa: ANN401  of HostFacts
    """A TDMR with an area too many, between room for the kernel's image and room for PAMTs."""
    image = MemoryRegion(MIB, GIB // 2, 0)
    low = (MemoryRegion(GIB + i * 32 * MIB, GIB + (i * 32 + 28) * MIB, 0) for i in range(17))
    return HostFacts(**{"memory_regions": (image, *low, MemoryRegion(4 * GIB, 20 * GIB, 0)), **more})


def with_movable_memory() -> HostFacts:
    """The same with a movable zone, whose start moves with what is given up."""
    arguments = ("movablecore=8G",)
    facts = crowded(command_line=arguments)
    return replace(facts, zones=movable_zones(facts.memory_regions or (), arguments))


def with_late_memory() -> HostFacts:
    """The same with a piece that a driver adds after the boot."""
    facts = crowded()
    start, end, _ = (facts.memory_regions or ())[4]
    return replace(facts, suspects=(Suspect(start, end, Origin.KMEM, "dax0.0", late=True),))


@pytest.mark.parametrize("name", NAMES)
def test_plans_are_those_of_all_facts(name: str) -> None:
    """Nothing that a plan is made of is left out of what counts."""
    facts = host(name)
    assert plans_of(facts) == plan_host(facts)
    assert plans_of(replace(facts, host="another")) is plans_of(facts)


def test_a_plan_is_made_of_what_counts() -> None:
    """No other part of the facts is looked at."""

    class Seen:
        """Facts that remember which of their parts were looked at."""

        def __init__(self, facts: HostFacts) -> None:
            self.facts, self.names = facts, set[str]()

        def __getattr__(self, name: str) -> object:
            self.names.add(name)
            return getattr(self.facts, name)

    counted = Seen(HostFacts())
    shared.what_counts(counted)  # type: ignore[arg-type]
    for facts in (host("emerald-rapids"), crowded(), many(3)):
        seen = Seen(facts)
        plan_host(seen)  # type: ignore[arg-type]
        assert seen.names <= counted.names
    assert counted.names < {field.name for field in fields(HostFacts)}


FAILING = {
    "emerald-rapids": lambda: host("emerald-rapids"),
    "granite-rapids-like": lambda: host("granite-rapids-like"),
    "movable": with_movable_memory,
    "late": with_late_memory,
}


@pytest.mark.parametrize("name", FAILING)
def test_a_search_is_that_of_all_facts(name: str) -> None:
    """Nor is anything left out that a search looks at."""
    facts = FAILING[name]()
    plan = plan_host(facts)[Strategy.MEMORY_REGIONS]
    assert plan is not None
    for goal in (search.Goal.FITS, search.Goal.ROOMY):
        found = search.search(facts, plan, goal)
        assert found == search._search(facts, plan, goal, nearest=False)
        assert search.search(replace(facts, host="another"), plan, goal) is found
    assert search._kept.cache_info().hits == 2


def test_facts_that_a_search_tells_apart() -> None:
    """Late memory, and the zones that movablecore= makes, are among what counts."""
    plain, movable, late = crowded(), with_movable_memory(), with_late_memory()
    found = []
    for facts in (plain, movable, late):
        plan = plan_host(facts)[Strategy.MEMORY_REGIONS]
        assert plan is not None
        found.append(search.search(facts, plan, search.Goal.ROOMY))
    assert search._kept.cache_info().misses == 3
    assert None not in found
    assert found[0] != found[2]


OTHERS = {
    "regions": lambda facts: replace(facts, memory_regions=(facts.memory_regions or ())[1:]),
    "limits": lambda facts: replace(facts, limits=facts.limits._replace(max_reserved_per_tdmr=3)),
    "cmrs": lambda facts: replace(facts, cmrs=((0, 1 << 40),)),
    "zones": lambda facts: replace(facts, zones=(Zone(0, "Normal", 4 * GIB, 5 * GIB),)),
    "reserved": lambda facts: replace(facts, reserved=(Range(4 * GIB, 6 * GIB),)),
    "huge pages": lambda facts: replace(facts, hugetlb_bytes=15 * GIB),
    "placement": lambda facts: replace(facts, pamt_placement=Placement.NONE),
}


@pytest.mark.parametrize("what", OTHERS)
def test_what_counts_is_told_apart(what: str) -> None:
    """Hosts that differ in one of these have plans of their own."""
    facts = crowded()
    other = OTHERS[what](facts)
    assert plans_of(facts) == plan_host(facts)
    assert plans_of(other) == plan_host(other)
    assert shared._plans.cache_info().misses == 2


LARGE = {
    "regions": many(MAX_ROWS + 1),
    "reserved": many(3, reserved=tuple(Range(i << 12, (i + 1) << 12) for i in range(MAX_ROWS))),
    "a name": many(3, zones=(Zone(0, "x" * (MAX_CHARACTERS + 1), 0, GIB),)),
    "arguments": many(3, command_line=("y" * (MAX_CHARACTERS + 1),)),
    "bases": many(2, pamt_placement=GivenBases((0,))),
}


@pytest.mark.parametrize("what", LARGE)
def test_large_facts_are_not_kept(what: str) -> None:
    """Whoever sends facts cannot fill memory with what is kept of them."""
    facts = LARGE[what]
    if what != "arguments":
        plan = plans_of(facts)[Strategy.MEMORY_REGIONS]
        assert plan is not None
        assert shared._plans.cache_info().currsize == 0
    else:
        plan = plan_host(facts)[Strategy.MEMORY_REGIONS]
        assert plan is not None
    search.search(facts, plan, search.Goal.ROOMY)
    assert search._kept.cache_info().currsize == 0


def test_few_are_kept() -> None:
    """The last ones, and no more."""
    for regions in range(1, KEPT + 3):
        plans_of(many(regions))
    assert shared._plans.cache_info().currsize == KEPT


GIVEN_UP = (Range(8 * GIB, 8 * GIB + 2 * MIB),)
BOOTS: dict[str, Callable[[HostFacts], HostFacts]] = {
    "line": lambda facts: replace(facts, command_line=("mem=4G",)),
    "no line": lambda facts: replace(facts, command_line=None),
    "firmware's map": lambda facts: replace(facts, firmware_map=(facts.firmware_map or ())[:-1]),
    "regions": lambda facts: replace(facts, memory_regions=(facts.memory_regions or ())[1:]),
    "source": lambda facts: replace(facts, memory_source=None),
    "late memory": lambda facts: replace(facts, suspects=(Suspect(0, MIB, Origin.KMEM, None, late=True),)),
    "nodes": lambda facts: replace(facts, node_ranges=(NodeRange(0, 4 * GIB, 0),)),
    "built-in line": lambda facts: replace(facts, traits=KernelTraits(built_in=("quiet",), overrides=True)),
    "kernel": lambda facts: replace(facts, kernel_release="7.3.0"),
}


@pytest.mark.parametrize("what", BOOTS)
def test_boots_that_give_up_memory_are_told_apart(what: str) -> None:
    """Whatever the memory under another line is made of; each answer is that of all facts."""
    facts = host("emerald-rapids")
    other = BOOTS[what](facts)
    for asked in (facts, other, replace(other, host="another")):
        regions = without(facts, GIVEN_UP).memory_regions or ()
        found = trial.is_left(asked, GIVEN_UP, regions)
        assert found is trial._is_left(asked, GIVEN_UP, regions)
        assert found is (what != "built-in line" or asked is facts)
    assert trial._kept.cache_info()[:2] == (1, 2)


def test_what_is_given_up_is_told_apart() -> None:
    """And so is the memory that is expected then."""
    facts = host("emerald-rapids")
    expected = without(facts, GIVEN_UP).memory_regions or ()
    assert trial.is_left(facts, GIVEN_UP, expected)
    assert not trial.is_left(facts, (), expected)
    assert not trial.is_left(facts, GIVEN_UP, expected[:-1])
    assert trial._kept.cache_info().misses == 3


MANY = MAX_ROWS + 1
LONG = "z" * (MAX_CHARACTERS + 1)
LARGE_BOOTS = {
    "firmware's map": {"firmware_map": (FirmwareRange(0, GIB, "System RAM"),) * MANY},
    "a kind": {"firmware_map": (FirmwareRange(0, GIB, LONG),)},
    "regions": {"memory_regions": many(MANY).memory_regions},
    "suspects": {"suspects": (Suspect(0, MIB, Origin.KMEM, None, late=True),) * MANY},
    "a device": {"suspects": (Suspect(0, MIB, Origin.KMEM, LONG, late=True),)},
    "line": {"command_line": ("quiet",) * MANY},
    "an argument": {"command_line": (LONG,)},
    "nodes": {"node_ranges": (NodeRange(0, GIB, 0),) * MANY},
    "built-in line": {"traits": KernelTraits(built_in=(LONG,))},
    "what was not read": {"traits": KernelTraits(unread=(LONG,))},
}


@pytest.mark.parametrize("what", LARGE_BOOTS)
def test_large_boots_are_not_kept(what: str) -> None:
    """The same of boots that give up memory."""
    trial.is_left(HostFacts(**LARGE_BOOTS[what]), GIVEN_UP, ())  # type: ignore[arg-type]
    trial.is_left(HostFacts(), GIVEN_UP * MANY, ())
    trial.is_left(HostFacts(), GIVEN_UP, many(MANY).memory_regions or ())
    assert trial._kept.cache_info().currsize == 0


RAM = (FirmwareRange(0, 8 * GIB, "System RAM"),)


def test_maps_are_told_apart() -> None:
    """Whatever a map is simulated from."""
    nodes = (NodeRange(0, 4 * GIB, 0), NodeRange(4 * GIB, 8 * GIB, 1))
    plain = memory_map.simulate(RAM, (), None)
    assert memory_map.simulate(RAM, (), None) is plain
    others = [
        memory_map.simulate(RAM, ("mem=4G",), None),
        memory_map.simulate(RAM, (), nodes),
        memory_map.simulate(RAM, (), nodes[:1], srat=True),
        memory_map.simulate(RAM, (), nodes[:1]),
        memory_map.simulate(RAM, ("memmap=exactmap", "memmap=4G@0"), None, running=("efi=nosoftreserve",)),
        memory_map.simulate((FirmwareRange(0, 4 * GIB, "System RAM"),), (), None),
    ]
    assert memory_map._kept.cache_info() == (1, 7, KEPT, 7)
    assert plain not in others


@pytest.mark.parametrize("what", ["ranges", "kinds", "arguments", "running"])
def test_large_maps_are_not_kept(what: str) -> None:
    """The same of maps that are simulated."""
    ranges = RAM * (MAX_ROWS + 1) if what == "ranges" else RAM
    if what == "kinds":
        ranges = (*RAM, FirmwareRange(9 * GIB, 10 * GIB, "z" * MAX_CHARACTERS))
    arguments = ("quiet",) * (MAX_ROWS if what == "arguments" else 1)
    running = ("quiet",) * (MAX_ROWS if what == "running" else 1)
    found = memory_map.simulate(ranges, arguments, None, running=running)
    assert found.regions == memory_map.simulate(RAM, ("quiet",), None).regions
    assert memory_map._kept.cache_info().currsize == 1
