# SPDX-License-Identifier: Apache-2.0
"""What a verdict rests on, under the title that fits: on a host without TDX only the plan rests on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.verdict import State

if TYPE_CHECKING:
    from tdx_headroom.verdict.assessment import Assessment

OF_PLAN = "What the plan rests on"


def evidence_of(assessment: Assessment, title: str) -> tuple[str, list[str]]:
    """A title and the sentences below it; none where they would be about nothing that is shown.

    Args:
        assessment: of any host.
        title: where the verdict is about TDX on this host.
    """
    verdict = assessment.verdict
    contradiction = verdict.finding.contradiction
    sentences = [*verdict.evidence, *([contradiction] if contradiction else [])]
    if verdict.state is not State.NOT_TDX:
        return title, sentences
    # That there is no TDX is said by the summary, with how it is known.
    return OF_PLAN, sentences if any(plan is not None for plan in assessment.plans.values()) else []
