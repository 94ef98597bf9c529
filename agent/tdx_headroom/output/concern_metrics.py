# SPDX-License-Identifier: Apache-2.0
"""The metrics of a TDX host that alerts select, each without another one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.plan import Strategy
from tdx_headroom.verdict.concerns import Concern, concerns, is_unknown, mainline_fails

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tdx_headroom.output.metric_families import Sample
    from tdx_headroom.verdict.assessment import Assessment


def concern_samples(assessment: Assessment) -> Iterator[Sample]:
    """What is to be told of a TDX host; a figure that is unknown is absent.

    Args:
        assessment: of the host.
    """
    found = concerns(assessment)
    for concern in Concern:
        yield ("tdx_next_init_concern", (concern,), int(concern in found))
    yield ("tdx_verdict_unknown", (), int(is_unknown(assessment)))
    fails = mainline_fails(assessment)
    if fails is not None:
        yield ("tdx_mainline_kernel_fails", (), int(fails))
    plan = assessment.plans[assessment.verdict.strategy]
    if plan is not None and plan.headroom is not None:
        yield ("tdx_reserved_areas_headroom_min_own_kernel", (), plan.headroom)
        if plan.headroom_worst is not None:
            yield ("tdx_reserved_areas_headroom_worst_case_own_kernel", (), plan.headroom_worst)
    # Every strategy needs the same TDMRs; this one is always planned.
    mainline = assessment.plans[Strategy.MEMORY_REGIONS]
    if mainline is not None:
        yield ("tdx_tdmrs_headroom", (), assessment.facts.limits.max_tdmrs - mainline.tdmrs_needed)
