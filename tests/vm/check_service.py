# SPDX-License-Identifier: Apache-2.0
"""The units under a real systemd: `python -m tests.vm` runs this in a guest of each Debian suite."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tdx_headroom.service.users import DYNAMIC
from tests.vm.guests import PORT, SERVICE
from tests.vm.install import UNIT_FOLDER, drop_in, remove_drop_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.vm.guests import Guest

UNITS = (
    "tdx-headroom.service",
    "tdx-headroom.socket",
    "tdx-headroom-textfile.service",
    "tdx-headroom-textfile.timer",
)
FILES = {"/iomem", "/kmsg", "/memblock/memory", "/memblock/reserved"}
PRIVILEGED_SOURCES = ("iomem", "memblock", "kernel-log")
COLLECTOR = "/var/lib/prometheus/node-exporter"


ASK_BY_HAND = (
    "python3 -c 'import urllib.request as u;"
    """ print(u.urlopen("http://127.0.0.1:10111/metrics").read().decode())'"""
)
ASK_UNIX = """
import http.client, socket
connection = http.client.HTTPConnection("localhost")
connection.sock = socket.socket(socket.AF_UNIX)
connection.sock.connect("/run/tdx-headroom.socket")
connection.request("GET", "/api/v1/plan")
print(connection.getresponse().read().decode())
"""


def assessed_at(guest: Guest) -> float:
    return guest.value("tdx_headroom_assessment_timestamp_seconds") or 0.0


def open_files(guest: Guest) -> list[str]:
    """What the agent has open of the files that only root can open: where the links of /proc/PID/fd end."""
    links = guest.run(f"readlink /proc/{guest.prop('MainPID')}/fd/*").splitlines()
    return sorted(end for link in links for end in FILES if link.endswith(end))


def all_read(guest: Guest) -> bool:
    sources = guest.sources()
    return all(sources[name] == 1 for name in PRIVILEGED_SOURCES)


@pytest.fixture
def settings(guest: Guest) -> Iterator[Callable[[str], None]]:
    """Gives the service other settings until the check is over."""

    def give(text: str) -> None:
        drop_in(guest.machine, SERVICE, "zz-check.conf", f"[Service]\n{text}\n".encode())
        guest.run(f"systemctl restart {SERVICE}")

    yield give
    remove_drop_in(guest.machine, SERVICE, "zz-check.conf")
    guest.run(
        f"systemctl stop {SERVICE}; systemctl reset-failed; systemctl start tdx-headroom.socket {SERVICE}"
    )


def test_it_is_active_and_says_how_it_is(guest: Guest) -> None:
    """The service is up, has said so itself (Type=notify), and shows the verdict in its status."""
    assert guest.prop("ActiveState") == "active"
    assert guest.prop("SubState") == "running"
    assert guest.prop("Type") == "notify"
    assert "TDX is up in this boot with " in guest.prop("StatusText")
    assert guest.prop("NRestarts") == "0"


def test_it_has_no_privilege(guest: Guest) -> None:
    """A user of its own, no capability in any set, no_new_privs, a system call filter, a user namespace."""
    pid = guest.prop("MainPID")
    status = dict(
        line.split(":\t", 1) for line in guest.run(f"cat /proc/{pid}/status").splitlines() if ":\t" in line
    )
    (user,), (group,) = set(status["Uid"].split()), set(status["Gid"].split())
    # The packages have made a user of the unit's name, which systemd then takes in place of a dynamic one.
    if own := guest.run("id --user tdx-headroom || true").strip():
        assert (user, group) == (own, guest.run("id --group tdx-headroom").strip())
        assert own != "0"
    else:
        assert user == group
        assert 61184 <= int(user) <= 65519
    sets = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    assert {name: int(status[name], 16) for name in sets} == dict.fromkeys(sets, 0)
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert guest.run(f"readlink /proc/{pid}/ns/user") != guest.run("readlink /proc/1/ns/user")


def test_it_has_no_network(guest: Guest) -> None:
    """Its network namespace is its own and has nothing but a loopback; the socket is systemd's."""
    pid = guest.prop("MainPID")
    assert guest.run(f"readlink /proc/{pid}/ns/net") != guest.run("readlink /proc/1/ns/net")
    links = guest.run(f"nsenter --target {pid} --net ip -brief link").splitlines()
    assert {line.split()[0].partition("@")[0] for line in links} <= {"lo", "sit0"}
    assert "systemd" in guest.run(f"ss --listening --tcp --processes --no-header 'sport = :{PORT}'")


def test_its_file_system_is_read_only(guest: Guest) -> None:
    """Only its state and its own /tmp can be written, and nothing in there executed; homes are empty."""
    enter = f"nsenter --target {guest.prop('MainPID')} --mount"
    for folder in ("/etc", "/usr", "/usr/bin", "/var", "/opt", "/boot", "/sys"):
        assert guest.machine.status(f"{enter} touch {folder}/x") != 0, folder
    for folder in ("/var/lib/private/tdx-headroom", "/tmp", "/var/tmp", "/dev/shm"):
        guest.run(f"{enter} sh -c 'echo true > {folder}/x && chmod 755 {folder}/x'")
        assert guest.machine.status(f"{enter} {folder}/x") == 126, folder
        guest.run(f"{enter} rm {folder}/x")
    assert guest.run(f"{enter} sh -c 'ls -A /root /home | grep -v : || true'").strip() == ""
    assert guest.machine.status(f"{enter} test -e /dev/kmsg") != 0


def test_it_sees_real_addresses(guest: Guest, note: Callable[[str], None]) -> None:
    """Every privileged source is read, and the memory in the plan is that of root's /proc/iomem."""
    assert all_read(guest)
    assert guest.value("tdx_memory_bytes") == guest.memory() > 1 << 29
    assert open_files(guest) == sorted(FILES)
    note(f"{guest.memory()} bytes of memory seen without a privilege")


def test_the_plan_is_the_kernels(guest: Guest) -> None:
    """What the agent computes is what this guest's own TDX code did and logged."""
    assert guest.value("tdx_plan_matches_kernel") == 1
    assert guest.value("tdx_module_state", state="initialized") == 1


def test_it_is_what_root_sees(guest: Guest) -> None:
    """A scrape has the same values as one that root makes with the files opened directly."""

    def plan(text: str) -> list[str]:
        wanted = re.compile(r"tdx_(?!headroom)\w+")
        changing = ("tdx_memory_map_changed", "tdx_boot_time_seconds")
        return sorted(
            line for line in text.splitlines() if wanted.match(line) and not line.startswith(changing)
        )

    root = plan(guest.run("tdx-headroom textfile --output -"))
    assert len(root) > 20
    assert plan(guest.machine.fetch("/metrics")) == root


def test_the_pages_are_served(guest: Guest) -> None:
    """The page, the plan and the health answers come through the socket, from outside the guest."""
    assert "<h1" in guest.machine.fetch("/")
    assert '"tdx-headroom/plan/1"' in guest.machine.fetch("/api/v1/plan")
    assert guest.machine.fetch("/-/ready") == "ok\n"


def test_its_exposure_is_low(guest: Guest, note: Callable[[str], None]) -> None:
    """The running systemd rates the loaded unit 0.3 or lower."""
    said = guest.run(f"systemd-analyze security --no-pager {SERVICE} | tail -1")
    score = re.search(r": ([0-9.]+) ", said)
    assert score, said
    note(f"systemd {guest.systemd} rates the service {score[1]}")
    assert float(score[1]) <= 0.3


def test_systemd_has_nothing_to_say(guest: Guest) -> None:
    """No unit has a line that this systemd does not understand; before 253 that is OpenFile= alone."""
    said = guest.machine.run(
        f"cd {UNIT_FOLDER} && systemd-analyze verify --man=no {' '.join(UNITS)} 2>&1", check=False
    )
    unknown = [line for line in said.splitlines() if "OpenFile" in line]
    assert [line for line in said.splitlines() if line not in unknown] == []
    assert bool(unknown) is not guest.has_open_file


def test_the_log_is_clean(guest: Guest) -> None:
    """Neither the agent nor systemd has complained about the service since its start."""
    log = guest.run(f"journalctl --no-pager --output=cat --unit={SERVICE}")
    bad = re.compile(
        r"level=(warning|error)|Traceback|denied|not permitted|Failed|Referenced but unset", re.IGNORECASE
    )
    assert [line for line in log.splitlines() if bad.search(line)] == []


def test_a_reload_reads_the_host_anew(guest: Guest) -> None:
    """`systemctl reload` makes a new assessment, and the service is active all the while."""
    before = assessed_at(guest)
    guest.run(f"systemctl reload {SERVICE}")
    guest.wait(lambda: assessed_at(guest) > before, 10, "a new assessment after a reload")
    guest.wait(lambda: guest.prop("ActiveState") == "active", 10, "active after a reload")


def test_a_restart_keeps_everything(guest: Guest) -> None:
    """After a restart the agent has its files and its state again, each file once."""
    pid = guest.prop("MainPID")
    guest.run(f"systemctl restart {SERVICE}")
    assert guest.prop("MainPID") != pid
    assert all_read(guest)
    assert open_files(guest) == sorted(FILES)
    assert guest.value("tdx_headroom_state_write_success") == 1
    assert "state.json" in guest.run("ls /var/lib/private/tdx-headroom")
    if not guest.has_open_file:
        assert guest.prop("NFileDescriptorStore") == "4"


def test_a_crash_is_made_good(guest: Guest) -> None:
    """Killed, it is started again by systemd and has its files again; the socket is never closed."""
    pid = guest.prop("MainPID")
    guest.run(f"kill -KILL {pid}")
    guest.wait(lambda: guest.prop("MainPID") not in (pid, "0"), 30, "a new process after SIGKILL")
    guest.wait(lambda: guest.prop("SubState") == "running", 60, "running after SIGKILL")
    assert all_read(guest)
    assert open_files(guest) == sorted(FILES)


def test_a_hang_is_noticed(
    guest: Guest, settings: Callable[[str], None], note: Callable[[str], None]
) -> None:
    """An agent that does not answer the watchdog is killed and started again."""
    settings("WatchdogSec=4\nTimeoutAbortSec=1\nRestartSec=1")
    pid = guest.prop("MainPID")
    time.sleep(6)
    assert guest.prop("MainPID") == pid, "it must answer the watchdog while it is well"
    guest.run(f"kill -STOP {pid}")
    took = guest.wait(lambda: guest.prop("MainPID") not in (pid, "0"), 60, "a new process after SIGSTOP")
    note(f"a hang was noticed and mended after {took:.0f} s with WatchdogSec=4")


@pytest.mark.usefixtures("settings")
def test_without_its_socket_it_says_so(guest: Guest) -> None:
    """Without a socket from systemd it ends with one line that says what to do."""
    drop_in(guest.machine, SERVICE, "zz-check.conf", b"[Service]\nRestart=no\n")
    guest.run("systemctl mask --now tdx-headroom.socket")
    try:
        assert guest.machine.status(f"systemctl restart {SERVICE}") != 0
        assert guest.prop("ExecMainStatus") == "69"
        assert "systemd has handed over no socket; start tdx-headroom.socket" in guest.log(20)
    finally:
        guest.run("systemctl unmask tdx-headroom.socket")


def test_a_configuration_as_credentials(guest: Guest, settings: Callable[[str], None]) -> None:
    """Files that only root can read reach the agent by LoadCredential=, as docs/systemd.md has it."""
    guest.machine.write(
        "/etc/tdx-headroom/web.yml",
        b"http_server_config:\n  headers:\n    X-Frame-Options: SAMEORIGIN\n",
        0o600,
    )
    settings(
        "LoadCredential=web.yml:/etc/tdx-headroom/web.yml\nExecStart=\n"
        "ExecStart=/usr/bin/tdx-headroom serve --web.systemd-socket --web.config.file %d/web.yml $ARGS"
    )
    with urllib.request.urlopen(f"http://127.0.0.1:{guest.machine.port}/", timeout=100) as answer:
        assert answer.headers["X-Frame-Options"] == "SAMEORIGIN"


def test_other_sockets(guest: Guest) -> None:
    """A unix socket shows full addresses to root, and IPAddressDeny= of the socket unit keeps others out."""
    content = b"[Socket]\nListenStream=/run/tdx-headroom.socket\nSocketMode=0660\nIPAddressDeny=any\n"
    drop_in(guest.machine, "tdx-headroom.socket", "zz-check.conf", content)
    restart = (
        f"systemctl stop {SERVICE} && systemctl restart tdx-headroom.socket && systemctl start {SERVICE}"
    )
    guest.run(restart)
    try:
        plan = json.loads(guest.run(f"python3 -c '{ASK_UNIX}'"))
        areas = [a for tdmr in plan["strategies"]["memory-regions"]["tdmrs"] for a in tdmr["reserved_areas"]]
        assert any(area["offset"] % (1 << 20) for area in areas), "addresses finer than a MiB"
        with pytest.raises(OSError, match=r"timed out|reset|refused|without response"):
            guest.machine.fetch("/metrics", timeout=5)
    finally:
        remove_drop_in(guest.machine, "tdx-headroom.socket", "zz-check.conf")
        guest.run(restart)
    assert "tdx_tdmrs" in guest.machine.fetch("/metrics")


def test_with_its_own_listener(guest: Guest, note: Callable[[str], None]) -> None:
    """With network.conf it listens itself, can be scraped from outside, and is rated 1.2 or lower."""
    shown = f"systemctl cat {SERVICE} | grep -e --web.listen-address"
    mask = f"{shown} && systemctl mask --now tdx-headroom.socket"
    assert guest.machine.status(mask) != 0, "without the drop-in the socket stays"
    assert guest.run("systemctl is-active tdx-headroom.socket").strip() == "active"
    drop_in(guest.machine, SERVICE, "network.conf")
    guest.run(f"{mask} && systemctl restart {SERVICE}")
    try:
        assert all_read(guest)
        listeners = guest.run(f"ss --listening --tcp --processes --no-header 'sport = :{PORT}'")
        assert f"pid={guest.prop('MainPID')}," in listeners
        assert "systemd" not in listeners
        said = guest.run(f"systemd-analyze security --no-pager {SERVICE} | tail -1")
        score = re.search(r": ([0-9.]+) ", said)
        assert score, said
        note(f"systemd {guest.systemd} rates it {score[1]}")
        assert float(score[1]) <= 1.2
    finally:
        remove_drop_in(guest.machine, SERVICE, "network.conf")
        guest.run("systemctl unmask tdx-headroom.socket")
        guest.run(f"systemctl stop {SERVICE} && systemctl start tdx-headroom.socket {SERVICE}")


def test_with_the_drop_in_for_old_systemd(guest: Guest) -> None:
    """old-systemd.conf does no harm where OpenFile= works, and without either the agent falls back."""
    if guest.has_open_file:
        drop_in(guest.machine, SERVICE, "old-systemd.conf")
        guest.run(f"systemctl restart {SERVICE}")
        assert all_read(guest)
        assert open_files(guest) == sorted(FILES)
        remove_drop_in(guest.machine, SERVICE, "old-systemd.conf")
        drop_in(guest.machine, SERVICE, "zz-check.conf", b"[Service]\nOpenFile=\n")
    else:
        guest.leave_old_systemd_alone()
    try:
        guest.run(f"systemctl stop {SERVICE} && systemctl start {SERVICE}")
        sources = guest.sources()
        # The log's records that matter were kept in the state directory.
        assert (sources["iomem"], sources["memblock"], sources["firmware-memmap"]) == (0, 0, 1)
        assert "not privileged" in guest.log(60)
    finally:
        remove_drop_in(guest.machine, SERVICE, "zz-check.conf")
        guest.help_old_systemd()
        guest.run(f"systemctl daemon-reload && systemctl restart {SERVICE}")


def test_a_file_for_node_exporter(guest: Guest, note: Callable[[str], None]) -> None:
    """The oneshot unit writes the collector's file, mode 0644, with root's view, and the timer runs it."""
    guest.run(f"mkdir -p -m 755 {COLLECTOR}")
    unit = "tdx-headroom-textfile.service"
    guest.help_old_systemd(unit)
    guest.run(f"systemctl start {unit}")
    assert guest.run(f"stat -c '%a %U' {COLLECTOR}/*") == "644 root"
    assert guest.run(f"ls -A {COLLECTOR}") == "tdx-headroom.prom"
    text = guest.run(f"cat {COLLECTOR}/tdx-headroom.prom")
    for source in PRIVILEGED_SOURCES:
        assert f'tdx_headroom_source_success{{source="{source}"}} 1.0' in text
    families = text_string_to_metric_families(text)
    values = {sample.name: sample.value for family in families for sample in family.samples}
    assert values["tdx_memory_bytes"] == guest.memory()
    guest.run("systemctl enable --now tdx-headroom-textfile.timer")
    assert unit in guest.run("systemctl list-timers --no-pager --all")
    said = guest.run(f"systemd-analyze security --no-pager {unit} | tail -1")
    note(said.removeprefix("→ "))


@pytest.mark.parametrize("user", ["tdx-headroom", "a number"])
def test_by_hand_as_root(guest: Guest, user: str) -> None:
    """Started as root it opens the files, becomes the package's user, or without it a number, and serves."""
    unit = f"by-hand-{user.replace(' ', '-')}"
    hidden = ""
    if user == "a number":
        guest.run("grep -v ^tdx-headroom: /etc/passwd > /run/passwd && chmod 644 /run/passwd")
        hidden = "-p BindReadOnlyPaths=/run/passwd:/etc/passwd"
    command = "tdx-headroom serve --web.listen-address 127.0.0.1:10111"
    guest.run(f"systemd-run --quiet --unit={unit} {hidden} {command}")
    guest.wait(lambda: guest.machine.status(ASK_BY_HAND) == 0, 30, "an answer of the agent started by hand")
    status = guest.run(f"cat /proc/{guest.prop('MainPID', unit)}/status")
    uid = int(status.partition("\nUid:\t")[2].split()[0])
    if user == "a number":
        assert uid in DYNAMIC
    else:
        assert uid == int(guest.run(f"id -u {user}"))
    assert re.findall(r"^Cap\w+:\t(\w+)$", status, re.MULTILINE) == ["0" * 16] * 5
    text = guest.run(ASK_BY_HAND)
    for source in PRIVILEGED_SOURCES:
        assert f'tdx_headroom_source_success{{source="{source}"}} 1.0' in text
    guest.run(f"systemctl stop {unit}")


def test_it_starts_at_boot(guest: Guest, note: Callable[[str], None]) -> None:
    """After a reboot it comes up by itself with all its files, and knows the boot before."""
    boot = guest.run("cat /proc/sys/kernel/random/boot_id")
    guest.machine.reboot()
    assert guest.run("cat /proc/sys/kernel/random/boot_id") != boot
    took = guest.wait(lambda: guest.prop("SubState") == "running", 60, "running after a reboot")
    note(f"running {took:.0f} s after the guest takes commands")
    assert all_read(guest)
    assert open_files(guest) == sorted(FILES)
    assert guest.value("tdx_memory_map_changed") == 0
    assert "ordering cycle" not in guest.run("journalctl --no-pager --boot --output=cat")


def test_memory_that_stays_offline_is_noticed(guest: Guest, note: Callable[[str], None]) -> None:
    """With TDX up the kernel refuses added memory: the event arrives at once, and the plan stays."""
    before = assessed_at(guest)
    memory = guest.value("tdx_memory_bytes")
    started = time.monotonic()
    guest.machine.add_memory(1024)
    guest.wait(lambda: assessed_at(guest) > before, 20, "a new assessment after memory was added")
    note(f"noticed within {time.monotonic() - started:.1f} s")
    assert "offline" in guest.run("cat /sys/devices/system/memory/memory*/state")
    assert guest.value("tdx_memory_bytes") == memory
