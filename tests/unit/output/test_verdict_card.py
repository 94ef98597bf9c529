# SPDX-License-Identifier: Apache-2.0
"""The page's first section: its headline, and what to do, for this kernel and for the next boot."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.unit.output.test_page import NEXT, servers

from tdx_headroom.facts.boots import BootEntry, BootInventory, Role
from tdx_headroom.facts.host_facts import HostFacts
from tdx_headroom.facts.kernel_report import FailureReason, KernelReport, ModuleState
from tdx_headroom.output.page import render_page
from tdx_headroom.verdict import State
from tdx_headroom.verdict.assessment import assess

if TYPE_CHECKING:
    from tdx_headroom.verdict.assessment import Assessment


UP = KernelReport(ModuleState.INITIALIZED, keyids=(64, 128), pamt_kib=4100)


def test_the_next_initialization_says_why_it_fails() -> None:
    """Where no plan says it, what decides does: never that it is not the memory map where it is."""
    failed = KernelReport(ModuleState.FAILED, FailureReason.RESERVED_AREAS, errno=-28)
    assessment = assess(HostFacts(kernel_release="6.8.0-1004-intel", kernel_log=failed))
    page = render_page(assessment)
    assert assessment.verdict.next_boot is State.WILL_FAIL
    assert "The same kernel on the same memory map fails again." in page
    assert "omething else" not in page


def staged(release: str, *arguments: str, log: KernelReport = UP) -> Assessment:
    """A host that is well, or as the log has it, and the boot that is staged on it."""
    entries = (
        BootEntry(release="6.16.0", arguments=("nohibernate",), roles=(Role.RUNNING,), differs=()),
        BootEntry("e", release=release, arguments=arguments, roles=(Role.NEXT,), known_from="grub.cfg"),
    )
    boots = BootInventory(entries=entries, configured=True)
    return assess(replace(servers([3]), boots=boots, kernel_log=log))


def section(page: str, title: str) -> str:
    """What is below a title of the first card, up to the next title."""
    return page.partition(f"<h3>{title}</h3>")[2].partition("<h3>")[0]


def test_what_to_do_is_about_the_next_boot_too() -> None:
    """A host that is up, whose next boot fails, is never told to do nothing."""
    assessment = staged("6.1.0-28-amd64")
    assert assessment.coming is not None
    assert assessment.coming.state is State.WILL_FAIL
    page = render_page(assessment)
    todo = section(page, "What to do")
    assert "TDX is up, but not after the next boot" in page
    assert "Before the next boot, of kernel 6.1.0-28-amd64:" in todo
    assert "initializes TDX the one that boots" in re.sub("<[^>]*>", "", todo)
    assert "Nothing" not in page
    order = [todo.index(text) for text in ("Before the next boot", "Under this kernel:", "Should a guest")]
    assert order == sorted(order)


def test_remedies_for_the_next_boot_are_told_once_and_without_addresses() -> None:
    """What this kernel's remedies say is not said again, and an address of the next boot's not at all."""
    log = KernelReport(ModuleState.FAILED, FailureReason.HIBERNATION, keyids=(64, 128))
    same = staged("6.16.0", "quiet", log=log)
    todo = section(render_page(same), "What to do")
    assert todo.count("nohibernate") == 1
    assert "memmap=4K%0x" not in render_page(staged("7.3.0", "memmap=4K%0x123456000-1+2"))


@pytest.mark.parametrize("state", [State.INITIALIZED, State.FAILED, State.WILL_INITIALIZE, State.CANNOT_TELL])
@pytest.mark.parametrize("of_map", NEXT)
@pytest.mark.parametrize("coming", [*NEXT[:3], State.CANNOT_TELL])
def test_the_headline_is_about_the_next_boot(state: State, of_map: State | None, coming: State) -> None:
    """Where the next boot does something else than this kernel, the headline says what."""
    assessment = staged("7.3.0")
    boots = tuple(boot._replace(state=coming) if boot.is_next else boot for boot in assessment.boots or ())
    verdict = replace(assessment.verdict, state=state, next_boot=of_map)
    page = render_page(replace(assessment, boots=boots, verdict=verdict))
    headline = re.search(r'<h2 id="verdict">.*</svg>(.*)</h2>', page)
    assert headline is not None
    assert ("next boot" in headline[1]) == (coming is not (of_map or State.CANNOT_TELL))
