# SPDX-License-Identifier: Apache-2.0
"""A guest's history: twelve boots with other maps, kernels and lines, and the agent comes with the eighth.

Each record has to be what the kernel did in that boot: release, holes of each TDMR, KiB of PAMTs, outcome.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client.parser import text_string_to_metric_families

from tests.kernel.build import get_kernel
from tests.kernel.tools import KernelTestError, exit_status
from tests.reboots.disk import GRUB, copy_of, get_disk
from tests.reboots.grub_steps import line, title
from tests.reboots.guest import boot_disk
from tests.reboots.packages import get_packages
from tests.reboots.places import KERNEL_CONFIG, SERIES
from tests.reboots.steps import Context, holes, sh
from tests.vm.install import build_package, install

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.reboots.guest import Came, Guest

INSTALLED_AT = 8
SECONDS = 300


@dataclass(frozen=True, slots=True)
class Planned:
    """A boot.

    Args:
        holes: of a page in the first GiB, besides the firmware's three.
        kernel: series.
        more: arguments.
    """

    holes: int
    kernel: str = "7.3"
    more: tuple[str, ...] = ()


BOOTS = (
    *(Planned(count) for count in (7, 9, 8, 14, 10)),
    Planned(10, "6.12"),
    Planned(10, more=("numa=off",)),
    *(Planned(count) for count in (12, 11, 13)),
    Planned(13, "6.12"),
    Planned(12),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it.

    Returns:
        0: all records are right. 1: one is not. 69: the machine lacks something. 70: a step failed.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.reboots.history", description=__doc__)
    parser.add_argument("--deb", type=Path, metavar="FILE", help="the agent (default: this checkout's)")
    options = parser.parse_args(arguments)
    return exit_status("history-test", lambda: _run(options.deb))


def _run(deb: Path | None) -> int:
    kernels = {series: get_kernel(series, install=True, extra=KERNEL_CONFIG) for series in SERIES}
    packages = get_packages(kernels)
    disk = get_disk(GRUB, packages, kernels["7.3"].image, "7.3")
    with tempfile.TemporaryDirectory(prefix="tdx-history-") as folder:
        agent = deb or build_package("deb", Path(folder))
        with copy_of(disk) as mine, boot_disk(mine, packages.disk) as guest:
            context = Context(guest, packages.kernels)
            context.install("6.12")
            came = [guest.look()]
            for number, boot in enumerate(BOOTS, 1):
                came.append(_boot(context, boot))
                print(f"boot {number}: {boot.holes} holes, {came[-1].release}", flush=True)
                if number == INSTALLED_AT:
                    install(guest.machine, agent)
            _wait_for(guest, len(came))
            differences = _compare(guest, came)
    for text in differences:
        print(f"  {text}")
    print(f"history-test: {len(came)} boots, {len(differences)} differences")
    return 1 if differences else 0


def _boot(context: Context, boot: Planned) -> Came:
    sh(f"{line(*holes(boot.holes), *boot.more)} && update-grub 2>&1")(context)
    if boot.kernel != "7.3":
        sh(f"grub-reboot '{title(boot.kernel)}'")(context)
    before = context.guest.look().boot
    context.guest.reboot()
    came = context.guest.look()
    if came.boot == before or came.release != context.release(boot.kernel):
        raise KernelTestError(f"{boot} was to come, and {came.release} did")
    return came


def _wait_for(guest: Guest, boots: int) -> None:
    """Until the service has so many boots on record; the journal also has that in which the disk was made."""
    end = time.monotonic() + SECONDS
    while (found := _recorded(guest)) < boots:
        if time.monotonic() > end:
            raise KernelTestError(f"tdx_recorded_boots is {found}, not {boots}")
        time.sleep(2)


def _recorded(guest: Guest) -> int:
    families = text_string_to_metric_families(guest.machine.fetch("/metrics"))
    return sum(int(s.value) for f in families for s in f.samples if s.name == "tdx_recorded_boots")


def _compare(guest: Guest, came: Sequence[Came]) -> list[str]:
    """All that differs between the kernel's boots and their records: of the command, and of the service."""
    told = json.loads(guest.run("tdx-headroom history --format json"))["boots"][-len(came) :]
    kept = json.loads(guest.run("cat /var/lib/tdx-headroom/state.json"))["history"][1 - len(came) :]
    found = []
    if len(told) != len(came):
        found.append(f"{len(told)} boots are told of {len(came)}")
    for number, (record, boot) in enumerate(zip(told, came, strict=False)):
        found += [f"boot {number}: {text}" for text in _differences(record, boot)]
    ids = [record["boot_id"] for record in kept]
    if ids != [boot.boot.replace("-", "") for boot in came[:-1]]:
        found.append(f"the state has other boots, or in another order: {ids}")
    outcomes = {record["boot_id"]: record["outcome"] for record in kept}
    for record in told[:-1]:
        if outcomes.get(record["boot_id"]) != record["outcome"]:
            found.append(
                f"{record['boot_id']}: {record['outcome']}, in the state {outcomes.get(record['boot_id'])}"
            )
    return found


def _differences(record: dict[str, Any], boot: Came) -> list[str]:
    truth = boot.truth
    outcome = "initialized" if truth.initialized else "failed" if truth.errno is not None else None
    rows: list[tuple[str, object, object]] = [
        ("boot", record["boot_id"], boot.boot.replace("-", "")),
        ("release", record["kernel_release"], boot.release),
        ("KiB of PAMTs", record["pamt_kib"], truth.pamt_kib),
    ]
    if outcome is not None:
        rows += [("outcome", record["outcome"], outcome), ("errno", record["errno"], truth.errno)]
    elif record["outcome"] in ("initialized", "failed"):
        rows.append(("outcome", record["outcome"], "TDX was not tried"))
    if truth.tdmrs is not None:
        pamts = {(t.pamt_base, t.pamt_4k + t.pamt_2m + t.pamt_1g) for t in truth.tdmrs}
        real = [
            (t.base, t.size, sum((t.base + offset, size) not in pamts for offset, size in t.areas))
            for t in truth.tdmrs
        ]
        areas: list[Any] = next(
            (a["tdmrs"] for a in record["areas"] if a["strategy"] == "memory-regions"), []
        )
        rows.append(("holes", [(base, size, count) for base, size, _, _, count in areas], real))
    return [f"{what}: {said}, it was {was}" for what, said, was in rows if said != was]


if __name__ == "__main__":
    sys.exit(main())
