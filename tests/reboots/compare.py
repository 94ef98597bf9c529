# SPDX-License-Identifier: Apache-2.0
"""What the agent foretold of a boot against what came."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.kernel.truth import HandedTdmr
    from tests.reboots.guest import Came

WATCHED = (
    *("memmap", "mem", "nohibernate", "hibernate", "numa", "kvm_intel.tdx", "kvm-intel.tdx", "hugepages"),
    *("crashkernel", "efi", "add_efi_memmap", "acpi", "noacpi", "initcall_blacklist"),
)
"""Arguments that bear on TDX or memory: one that came and was not foretold is a difference."""

OWN = ("initcall_blacklist",)
"""Of these the test's kernels have some built in, and the agent need not tell of them."""

UP = {"will-initialize": True, "will-fail": False}
"""Verdicts that promise something."""


@dataclass(frozen=True, slots=True)
class Foretold:
    """The boot that comes next, as ``tdx-headroom boots --format json`` has it.

    Args:
        release: of the kernel; None: it cannot tell.
        entry: of the loader.
        line: arguments of the command line.
        verdict: about TDX.
        roles: of the entry.
        why: the verdict in a sentence, or why it cannot be told what boots.
        plan: TDMRs and their reserved areas, or None.
    """

    release: str | None
    entry: str | None
    line: tuple[str, ...]
    verdict: str
    roles: tuple[str, ...]
    why: str
    plan: Mapping[str, Any] | None

    @property
    def headroom(self) -> int | None:
        """Areas left in the fullest TDMR."""
        left = [t["headroom"] for t in (self.plan or {}).get("tdmrs", ()) if t["headroom"] is not None]
        return min(left, default=None)


def read_foretold(answer: Mapping[str, Any]) -> tuple[Foretold, list[str]]:
    """The next boot in the agent's answer, and in what parts of the answer contradict each other."""
    verdict = answer["verdict"]
    coming = [boot for boot in answer["boots"] or () if "next" in boot["roles"]]
    if len(coming) != 1:
        why = str(verdict.get("boots_unknown"))
        found = [] if verdict["boots_next"] is None else [f"boots_next without one next entry: {len(coming)}"]
        return Foretold(None, None, (), "cannot-tell", (), why, None), found
    (boot,) = coming
    found = [
        f"{name} is {verdict[name]}, but of the next entry {boot[key]}"
        for name, key in (("boots_next", "kernel_release"), ("entry_next", "entry"))
        if verdict[name] != boot[key]
    ]
    line = tuple((boot["command_line"] or "").split())
    roles, why = tuple(boot["roles"]), str(boot["why"])
    foretold = Foretold(
        boot["kernel_release"], boot["entry"], line, boot["verdict"], roles, why, boot["plan"]
    )
    return foretold, found


def compare(foretold: Foretold, came: Came) -> list[str]:
    """All differences, in words."""
    found = []
    if foretold.release is not None and foretold.release != came.release:
        return [f"kernel: foretold {foretold.release}, came {came.release}"]
    if foretold.release is not None:
        found += _line(foretold.line, came.line.split())
    promised = UP.get(foretold.verdict)
    if promised is not None and promised is not came.up:
        found.append(f"TDX: foretold {foretold.verdict}, came {'up' if came.up else 'not up'}")
    if foretold.plan is not None:
        found += _plan(foretold, came)
    return found


def _line(foretold: tuple[str, ...], came: list[str]) -> list[str]:
    rest = iter(came)
    lost = [argument for argument in foretold if argument not in rest]
    watched = [a for a in came if a.partition("=")[0] in WATCHED and a.partition("=")[0] not in OWN]
    more = [argument for argument in watched if argument not in foretold]
    found = [f"command line: foretold {argument}, not there in this order" for argument in lost]
    return found + [f"command line: {argument} was not foretold" for argument in more]


def _plan(foretold: Foretold, came: Came) -> list[str]:
    plan, truth = foretold.plan, came.truth
    assert plan is not None
    if not truth.attempted:
        return []
    found = []
    if truth.messages != tuple(plan["messages"]):
        found.append(f"the kernel's lines: foretold {plan['messages']}, came {list(truth.messages)}")
    if not truth.constructed:
        if truth.errno != plan["errno"]:
            found.append(f"errno: foretold {plan['errno']}, came {truth.errno}")
        return found
    assert truth.tdmrs is not None
    if truth.initialized and truth.pamt_kib != plan["pamt_kib"]:
        found.append(f"KiB of PAMTs: foretold {plan['pamt_kib']}, came {truth.pamt_kib}")
    if len(truth.tdmrs) != len(plan["tdmrs"]):
        return [*found, f"TDMRs: foretold {len(plan['tdmrs'])}, came {len(truth.tdmrs)}"]
    for number, (real, planned) in enumerate(zip(truth.tdmrs, plan["tdmrs"], strict=True)):
        found += [f"TDMR {number}: {text}" for text in _tdmr(real, planned, truth.tdmrs)]
    return found


def _tdmr(real: HandedTdmr, planned: Mapping[str, Any], others: tuple[HandedTdmr, ...]) -> list[str]:
    """Place, size and holes to the byte; PAMTs may lie elsewhere than predicted."""
    pamts = {(o.pamt_base - real.base, o.pamt_4k + o.pamt_2m + o.pamt_1g) for o in others}
    holes = [area for area in real.areas if area not in pamts]
    size = planned["pamt"]
    planned_holes = [(a["offset"], a["size"]) for a in planned["reserved_areas"] if a["kind"] == "hole"]
    rows = [
        ("place", (planned["base"], planned["size"]), (real.base, real.size)),
        (
            "sizes of the PAMT",
            (size["size_4k"], size["size_2m"], size["size_1g"]),
            (real.pamt_4k, real.pamt_2m, real.pamt_1g),
        ),
        ("reserved areas", planned_holes, holes),
    ]
    return [f"{what}: foretold {said}, came {was}" for what, said, was in rows if said != was]


def pamts_elsewhere(foretold: Foretold, came: Came) -> int:
    """In how many TDMRs PAMTs lie so that the number of reserved areas is not the predicted one."""
    if foretold.plan is None or came.truth.tdmrs is None:
        return 0
    pairs = zip(came.truth.tdmrs, foretold.plan["tdmrs"], strict=False)
    return sum(len(real.areas) != planned["needed"] for real, planned in pairs)
