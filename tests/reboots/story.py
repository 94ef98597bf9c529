# SPDX-License-Identifier: Apache-2.0
"""A whole upgrade, told by what its tools print: a healthy host, the hook, the alert, the gate, the way out.

A guest with GRUB under OVMF is upgraded: the kernel's package comes anew, and with it a package that keeps
small pieces of memory for its hardware by a file in /etc/default/grub.d. Together they make more holes than a
TDMR has reserved areas. Outside the guest are a real Prometheus and Alertmanager with the rules that are
shipped; only the times of rules and scrapes are shorter.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.integration.servers import Prometheus, alertmanager, prometheus
from tests.kernel.build import get_kernel
from tests.kernel.tools import KernelTestError, exit_status, run
from tests.reboots.disk import GRUB, copy_of, get_disk
from tests.reboots.guest import Guest, boot_disk
from tests.reboots.packages import get_packages
from tests.reboots.places import HERE, KERNEL_CONFIG, PACKAGES, SERIES
from tests.reboots.steps import holes
from tests.vm.install import build_package, install

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.integration.servers import Server

KERNEL = "7.3"
HOLES = 20
BOARD = "board-support"
CONTROL = f"""\
Package: {BOARD}
Version: 2.1
Architecture: all
Maintainer: nobody <nobody@localhost>
Description: keeps memory for the logs of a board's firmware
"""
GATE = HERE.parents[1] / "packaging/examples/tdx-reboot"
SAYS = "/usr/share/tdx-headroom/kernel-hooks/say-next-boot"
ALERT = "TDXNextBootWillFail"
SECONDS = 300


@dataclass
class Story:
    """What is done, and what is printed.

    Args:
        guest: the host.
        parts: of the text, so far.
    """

    guest: Guest
    parts: list[str] = field(default_factory=list)

    def tell(self, text: str) -> None:
        """A sentence between."""
        self.parts.append(text)

    def show(self, command: str, said: str) -> None:
        """A command, and what it has printed."""
        self.parts.append(f"```text\n# {command}\n{said.strip()}\n```")

    def run(self, command: str, *, fails: bool = False) -> str:
        """Run a command in the guest, as root, and show it.

        Args:
            command: for the shell.
            fails: whether it has to end with another status than 0, which is shown.

        Raises:
            KernelTestError: it ended otherwise.
        """
        said = self.guest.run(f'({command}) 2>&1; echo "status $?"')
        text, _, status = said.rpartition("status ")
        if (status != "0") is not fails:
            raise KernelTestError(f"{command}: status {status}: {text[-500:]}")
        self.show(command, text + (f"(status {status})" if fails else ""))
        return text


def main(arguments: Sequence[str] | None = None) -> int:
    """Let the story happen, and write it down.

    Returns:
        0: all went as the agent had told. 1 or more: it did not, or something was missing.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.reboots.story", description=__doc__)
    parser.add_argument(
        "--deb", type=Path, metavar="FILE", help="the agent (default: this checkout's package)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to write the text (default: stdout)")
    options = parser.parse_args(arguments)
    return exit_status("story", lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    kernels = {series: get_kernel(series, extra=KERNEL_CONFIG) for series in SERIES}
    packages = get_packages(kernels)
    disk = get_disk(GRUB, packages, kernels[KERNEL].image, KERNEL)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tdx-story-")))
        agent = options.deb or build_package("deb", folder)
        mine = stack.enter_context(copy_of(disk))
        guest = stack.enter_context(boot_disk(mine, packages.disk))
        install(guest.machine, agent)
        guest.machine.write("/usr/local/sbin/tdx-reboot", GATE.read_bytes())
        guest.machine.write(f"/root/{BOARD}.deb", _board(folder).read_bytes())
        guest.run("chmod 755 /usr/local/sbin/tdx-reboot")
        # An emulated processor takes 20 times as long as the hook gives the command.
        guest.run(f"sed -i 's/timeout -k 0.5 4.3/timeout -k 0.5 120/' {SAYS}")
        alerts = stack.enter_context(alertmanager(folder / "alertmanager"))
        scrape = {"job_name": "tdx-headroom", "static_configs": [{"targets": [_target(guest)]}]}
        server = stack.enter_context(prometheus(folder / "prometheus", [scrape], alerts.address))
        story = Story(guest)
        _tell(story, packages.kernels[KERNEL].release, server, alerts)
    text = "\n\n".join(story.parts) + "\n"
    if options.out:
        options.out.write_text(text)
    else:
        print(text, end="")
    return 0


def _board(folder: Path) -> Path:
    """A package that does no more than its file in /etc/default/grub.d."""
    tree, deb = folder / BOARD, folder / f"{BOARD}.deb"
    settings = tree / "etc/default/grub.d" / f"50-{BOARD}.cfg"
    for path in (settings.parent, tree / "DEBIAN"):
        path.mkdir(parents=True)
    kept = " ".join(holes(HOLES)).replace("$", "\\\\\\$")
    settings.write_text(f'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX {kept}"\n')
    (tree / "DEBIAN/control").write_text(CONTROL)
    run(["dpkg-deb", "--root-owner-group", "-b", tree, deb])
    return deb


def _target(guest: Guest) -> str:
    return f"127.0.0.1:{guest.machine.port}"


def _tell(story: Story, release: str, server: Prometheus, alerts: Server) -> None:
    guest = story.guest
    _healthy(story, release, server, alerts)
    _upgrade(story)
    _alert(story, server, alerts)
    story.tell("A reboot is due. The gate that is asked first does not let it happen:")
    guest.run("touch /run/reboot-required")
    story.run("tdx-reboot", fails=True)
    story.tell("What is there to do?")
    words = story.run("tdx-headroom remedy --no-color")
    if "off the command line" not in words:
        raise KernelTestError("remedy does not name the arguments")
    story.tell("The operator takes the package out whose arguments these are, and asks again:")
    story.run(f"dpkg --purge {BOARD} && update-grub")
    story.run("tdx-headroom boots --brief")
    _until(lambda: not _active(alerts), f"end of {ALERT}")
    story.tell("The alert has ended. Now the gate lets the reboot happen:")
    boot = guest.look().boot
    guest.run("systemd-run --no-block /usr/local/sbin/tdx-reboot")
    guest.machine.come_up()
    came = guest.look()
    story.show("uname -r; cat /proc/cmdline", f"{came.release}\n{came.line}")
    if came.boot == boot or came.release != release or not came.up:
        raise KernelTestError(f"what came is {came.release}, TDX {'up' if came.up else 'not up'}")
    story.run("dmesg | grep 'virt/tdx' | tail -n 2")


def _healthy(story: Story, release: str, server: Prometheus, alerts: Server) -> None:
    came = story.guest.look()
    if came.release != release or not came.up:
        raise KernelTestError(f"the host is not healthy: {came.release}, up: {came.up}")
    _until(lambda: bool(server.query('tdx_next_boot{verdict="will-initialize"} == 1')), "a scrape")
    story.tell("A healthy host:")
    story.run("uname -r; dmesg | grep 'virt/tdx' | tail -n 2")
    story.run("tdx-headroom boots --brief")
    if _active(alerts):
        raise KernelTestError(f"alerts before the upgrade: {_active(alerts)}")


def _upgrade(story: Story) -> None:
    story.tell("An upgrade. At its end the hook speaks:")
    words = story.run(f"dpkg --install /root/{BOARD}.deb {PACKAGES}/{KERNEL}.deb </dev/null")
    if "TDX will NOT come up" not in words:
        raise KernelTestError(f"the hook gives no alarm: {words[-400:]}")


def _alert(story: Story, server: Prometheus, alerts: Server) -> None:
    _until(lambda: bool(server.query('tdx_next_boot{verdict="will-fail"} == 1')), "the metric")
    _until(lambda: bool(_active(alerts)), ALERT)
    told = subprocess.run(
        ["amtool", "--alertmanager.url", f"http://{alerts.address}", "alert", "query", "-o", "extended"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    story.tell("Nobody has read that, perhaps. Prometheus has, by the agent, and Alertmanager pages:")
    story.show("amtool alert query -o extended", re.sub(r"http://\S+", "http://...", told))


def _active(alerts: Server) -> list[str]:
    return [
        alert["labels"]["alertname"]
        for alert in alerts.json("/api/v2/alerts?active=true")
        if alert["labels"]["alertname"] == ALERT
    ]


def _until(holds: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + SECONDS
    while not holds():
        if time.monotonic() > end:
            raise KernelTestError(f"no {what} within {SECONDS} s")
        time.sleep(0.5)


if __name__ == "__main__":
    sys.exit(main())
