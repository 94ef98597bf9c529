# SPDX-License-Identifier: Apache-2.0
"""What is said where nothing is proposed, on the page and in a ticket."""

from __future__ import annotations

from dataclasses import replace

from tests.golden.test_golden import assess_host

from tdx_headroom.facts.boots import RUNNING_KERNEL, BootEntry, BootInventory, Role
from tdx_headroom.output.no_remedy import no_remedy
from tdx_headroom.output.page import render_page
from tdx_headroom.output.terminal import Style
from tdx_headroom.output.text import render, render_short
from tdx_headroom.verdict import State
from tdx_headroom.verdict.assessment import assess
from tdx_headroom.verdict.obstacles import other_kernels


def test_a_ticket_says_that_nothing_is_to_be_done() -> None:
    """A host that is well is told so, and only there."""
    assessment = assess_host("good-2-node")
    assert "  What to do\n  - Nothing. Under kernels" in render_short(assessment, Style())
    assert "Nothing." not in render_short(assess_host("emerald-rapids"), Style())
    assert "What to do" not in render_short(assess_host("no-tdx"), Style())


def test_a_ticket_names_the_risk_of_another_kernel() -> None:
    """The short form has no warnings that it could point to: it says them."""
    known = assess_host("emerald-rapids").facts
    assessment = assess(replace(known, kernel_release="6.8.0-1010-intel", kernel_log=None, log_health=None))
    (risk,) = (found.text for found in assessment.verdict.findings if found.kind == other_kernels.KIND)
    assert assessment.verdict.state is State.WILL_INITIALIZE
    assert not assessment.verdict.remedies
    assert "see above" in (no_remedy(assessment) or "")
    assert " ".join(render_short(assessment, Style()).split()).count(risk) == 1


def test_a_next_boot_that_nothing_tells_of_is_called_so() -> None:
    """It is not known from the kernel that runs, only taken to be that one; what files tell is known."""
    facts = assess_host("good-2-node").facts
    running = BootEntry(
        release=facts.kernel_release,
        arguments=facts.command_line,
        roles=(Role.RUNNING, Role.NEXT),
        differs=(),
        known_from=RUNNING_KERNEL,
    )
    for entry, taken in ((running, True), (replace(running, known_from="boot/grub/grub.cfg"), False)):
        boots = BootInventory(entries=(entry,), configured=not taken)
        assessment = assess(replace(facts, boots=boots))
        text = " ".join(render(assessment, Style()).split())
        page = render_page(assessment)
        for output in (text, page):
            assert ("taken to be the running one again, as no boot configuration is known" in output) == taken
            assert "known from the running kernel" not in output
            assert "<code>the running kernel" not in output
            assert ("boot/grub/grub.cfg" in output) != taken
