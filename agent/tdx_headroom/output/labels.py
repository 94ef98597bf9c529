# SPDX-License-Identifier: Apache-2.0
"""Node labels, a ``name=value`` a line, as the local source of Node Feature Discovery reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.plan import Strategy
from tdx_headroom.verdict import State

if TYPE_CHECKING:
    from tdx_headroom.verdict.assessment import Assessment

PREFIX = "tdx-headroom"
_NEXT_BOOT_TDX = {State.WILL_INITIALIZE: "true", State.AT_RISK: "at-risk", State.WILL_FAIL: "false"}


def render_labels(assessment: Assessment) -> bytes:
    """Every value is short and made of letters, digits, ``-`` and ``.``, as Kubernetes wants it.

    What is unknown has no label. A host without TDX has only its verdict. ``next-boot`` and ``next-boot-tdx``
    are about the boot that comes next; strategy and headroom are the running kernel's.

    Args:
        assessment: of the host.
    """
    verdict = assessment.verdict
    found: dict[str, str] = {"verdict": verdict.state}
    if verdict.state is not State.NOT_TDX:
        if assessment.next_boot is not None:
            found["next-boot"] = assessment.next_boot
        if assessment.coming is not None and assessment.coming.state in _NEXT_BOOT_TDX:
            found["next-boot-tdx"] = _NEXT_BOOT_TDX[assessment.coming.state]
        found["strategy"] = verdict.strategy
        for name, strategy in (
            ("headroom", verdict.strategy),
            ("mainline-headroom", Strategy.MEMORY_REGIONS),
        ):
            plan = assessment.plans[strategy]
            if plan is not None and plan.headroom is not None:
                found[name] = label_number(plan.headroom)
    return "".join(f"{PREFIX}/{name}={value}\n" for name, value in found.items()).encode()


def label_number(number: int) -> str:
    """A number as a label's value: it may not begin with a minus, so a negative one reads ``minus-1``."""
    return str(number) if number >= 0 else f"minus-{-number}"
