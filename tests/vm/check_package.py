# SPDX-License-Identifier: Apache-2.0
"""The Debian package in a guest: installed, upgraded, removed, purged; each check goes on from the last."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.vm.guests import PORT, PREPARED, SERVICE
from tests.vm.install import install_deb, next_version

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.vm.guests import Guest

NEXT = "99.0"
SOCKET = "tdx-headroom.socket"
TIMER = "tdx-headroom-textfile.timer"
ONE_SHOT = "tdx-headroom-textfile.service"
BOOTS = ("tdx-headroom-boots.path", "tdx-headroom-boots.service")
TEXTFILE = "/var/lib/prometheus/node-exporter/tdx-headroom.prom"
NEEDED = ("iomem", "memblock", "kernel-log")

# Runs in the guest: asks again and again, and says how often there was no answer.
ASK_ON = """
import time, urllib.request
asked = failed = slowest = 0
end = time.monotonic() + 3600
while time.monotonic() < end:
    try:
        open("/run/stop-asking").close()
        break
    except FileNotFoundError:
        pass
    began = time.monotonic()
    asked += 1
    try:
        urllib.request.urlopen("http://127.0.0.1:10110/metrics", timeout=300).read()
    except OSError as error:
        failed += 1
        print(error)
    slowest = max(slowest, time.monotonic() - began)
    time.sleep(0.1)
print(f"asked {asked} failed {failed} slowest {slowest:.1f}")
"""


@pytest.fixture(autouse=True)
def _only_a_package() -> None:
    if PREPARED[0].agent.suffix != ".deb":
        pytest.skip("installed from a wheel")


def active(guest: Guest, unit: str) -> str:
    return guest.machine.run(f"systemctl is-active {unit}", check=False).strip()


def enabled(guest: Guest, unit: str) -> str:
    return guest.machine.run(f"systemctl is-enabled {unit}", check=False).strip()


def test_it_runs_after_the_installation(guest: Guest) -> None:
    """The service and its socket are enabled and run; the timer is there, and does not."""
    assert [active(guest, unit) for unit in (SERVICE, SOCKET, TIMER)] == ["active", "active", "inactive"]
    assert [enabled(guest, unit) for unit in (SERVICE, SOCKET, TIMER)] == ["enabled", "enabled", "disabled"]
    sources = guest.sources()
    assert {name: sources[name] for name in NEEDED} == dict.fromkeys(NEEDED, 1)
    assert "tdx-headroom(8)" in guest.prop("Documentation")
    assert guest.run("dpkg --verify tdx-headroom") == ""


def test_old_systemd_gets_its_helper_and_new_does_not(guest: Guest) -> None:
    """The drop-in that lets a helper run as root is in force only where OpenFile= is not known."""
    assert ("old-systemd.conf" in guest.prop("DropInPaths")) is not guest.has_open_file
    assert ("open-files" in guest.prop("ExecStartPre")) is not guest.has_open_file


def test_an_upgrade_restarts_it(guest: Guest, tmp_path: Path, note: Callable[[str], None]) -> None:
    """The new version runs with the old state and settings; nobody is refused meanwhile.

    A request that the old process is just answering may be lost; all others wait in the open socket.
    """
    guest.run("echo 'ARGS=\"--log.format json\"' > /etc/default/tdx-headroom")
    # Before the timer, which may elapse at any moment: a unit that is starting does not see a new folder.
    guest.run(f"mkdir -p {TEXTFILE.rpartition('/')[0]}")
    guest.run(f"systemctl restart {SERVICE} && systemctl enable --now {TIMER}")
    pid = guest.prop("MainPID")
    state = guest.run("stat -c %i /var/lib/private/tdx-headroom")
    guest.machine.write("/opt/vm-test/ask.py", ASK_ON.encode())
    guest.run("systemd-run --quiet --unit=asking --property=StandardOutput=file:/run/asked"
              " python3 /opt/vm-test/ask.py")  # fmt: skip
    install_deb(guest.machine, next_version(PREPARED[0].agent, tmp_path, NEXT))
    guest.wait(lambda: guest.prop("SubState") == "running", 60, "running after an upgrade")
    assert guest.prop("MainPID") not in (pid, "0")
    assert guest.value("tdx_headroom_build_info", version=NEXT) == 1
    guest.run("touch /run/stop-asking")
    guest.wait(lambda: active(guest, "asking") == "inactive", 60, "the last answer")
    asked = guest.run("cat /run/asked")
    note(asked.splitlines()[-1])
    result = re.search(r"asked (\d+) failed (\d+)", asked)
    assert result
    assert (int(result[1]) > 3, int(result[2]) <= 1) == (True, True), asked
    assert "refused" not in asked
    assert [active(guest, unit) for unit in (SERVICE, SOCKET, TIMER)] == ["active"] * 3
    assert "--log.format json" in guest.run(f"tr '\\0' ' ' < /proc/{guest.prop('MainPID')}/cmdline")
    assert guest.run("stat -c %i /var/lib/private/tdx-headroom") == state
    assert guest.value("tdx_headroom_state_write_success") == 1


def test_a_removal_leaves_nothing_running(guest: Guest) -> None:
    """No process, no socket, no timer, no file that node_exporter would go on exporting; the state stays.

    Nor is anything left as failed, although the one shot is just being carried out.
    """
    guest.run(f"systemctl start {ONE_SHOT}")
    assert guest.machine.status(f"test -s {TEXTFILE}") == 0
    guest.run(f"systemctl start --no-block {ONE_SHOT}")
    guest.run(
        f"until pid=$(systemctl show --value --property=MainPID {ONE_SHOT}) && [ $pid != 0 ]; do :; done;"
        " kill -STOP $pid"
    )
    assert active(guest, ONE_SHOT) == "activating"
    guest.run("dpkg --remove tdx-headroom")
    assert [active(guest, unit) for unit in (SERVICE, SOCKET, TIMER, ONE_SHOT, *BOOTS)] == ["inactive"] * 6
    assert guest.machine.status("test -e /run/tdx-headroom-boots") == 1
    assert guest.machine.run("pgrep --full bin/tdx-headroom", check=False) == ""
    assert guest.run(f"ss --listening --tcp --no-header 'sport = :{PORT}'") == ""
    assert guest.machine.status(f"test -e {TEXTFILE}") == 1
    assert guest.machine.status("systemctl cat tdx-headroom.service") == 1
    assert guest.machine.status("systemctl is-failed 'tdx-headroom*'") != 0
    assert guest.machine.status("test -s /var/lib/private/tdx-headroom/state.json") == 0
    assert guest.run("cat /etc/default/tdx-headroom") == 'ARGS="--log.format json"'


def test_a_purge_leaves_nothing_behind(guest: Guest) -> None:
    """After it no file of the package is left, not even what it has made itself."""
    guest.run("dpkg --purge tdx-headroom")
    left = guest.run("find / -xdev -iname '*tdx*headroom*' -not -path '/var/log/journal/*'")
    assert left == ""
    assert guest.machine.status("dpkg-query --show tdx-headroom") == 1
    guest.run("systemctl daemon-reload")
    assert "tdx-headroom" not in guest.run("systemctl list-units --all --no-legend --plain")
