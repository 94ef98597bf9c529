# SPDX-License-Identifier: Apache-2.0
"""What systemd itself says about the units, without running them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tdx_headroom.boots.watched import WATCHED
from tdx_headroom.facts.boot_inventory import INVENTORY_PATH
from tdx_headroom.service.state_file import MAX_FILE
from tdx_headroom.service.users import OWN
from tdx_headroom.sources.registry import HANDED_OVER, PRIVILEGED

UNITS = Path(__file__).parents[2] / "systemd"
DROP_INS = UNITS / "drop-ins"
SERVICE = UNITS / "tdx-headroom.service"
TEXTFILE = UNITS / "tdx-headroom-textfile.service"
BOOTS = UNITS / "tdx-headroom-boots.service"
BOOTS_PATH = UNITS / "tdx-headroom-boots.path"
ALL = sorted(path for path in UNITS.iterdir() if path.is_file())

analyze = pytest.mark.program("systemd-analyze")


def laid_out(folder: Path, unit: Path, *drop_ins: Path) -> Path:
    """The unit with these drop-ins, as they would lie in /etc/systemd/system."""
    shutil.copyfile(unit, folder / unit.name)
    for drop_in in drop_ins:
        (folder / f"{unit.name}.d").mkdir(exist_ok=True)
        shutil.copyfile(drop_in, folder / f"{unit.name}.d" / drop_in.name)
    return folder / unit.name


def settings(unit: Path) -> list[tuple[str, str]]:
    """Keys and values, in order."""
    lines = (line.partition("=") for line in unit.read_text().splitlines() if not line.startswith("#"))
    return [(key, value) for key, equals, value in lines if equals]


def exposure(unit: Path) -> float:
    """What `systemd-analyze security` rates it, from 0 to 10."""
    command = ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(unit)]
    run = subprocess.run(command, capture_output=True, text=True)
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", run.stdout)
    assert found, run.stderr
    return float(found[1])


DROPS_ROOT = """\
[Service]
DynamicUser=no
User=root
CapabilityBoundingSet=CAP_SYS_ADMIN CAP_SYSLOG CAP_SETUID CAP_SETGID CAP_SETPCAP CAP_CHOWN
SecureBits=
PrivateUsers=no
ProtectKernelLogs=no
PrivateDevices=no
SystemCallFilter=@setuid capset chown fchown fchmod lchown fchownat
"""
"""The least that an agent needs that opens the files as root and then drops it, as by hand."""


@analyze
@pytest.mark.parametrize(
    ("unit", "drop_ins", "most"),
    [
        pytest.param(SERVICE, (), 0.3, id="service"),
        pytest.param(SERVICE, ("old-systemd.conf",), 0.3, id="old systemd"),
        pytest.param(SERVICE, ("network.conf",), 1.2, id="own listener"),
        pytest.param(TEXTFILE, (), 0.5, id="textfile"),
        pytest.param(BOOTS, (), 0.7, id="boots"),
    ],
)
def test_exposure(tmp_path: Path, unit: Path, drop_ins: tuple[str, ...], most: float) -> None:
    """`systemd-analyze security` finds no more than this."""
    assert exposure(laid_out(tmp_path, unit, *(DROP_INS / name for name in drop_ins))) <= most


@analyze
def test_exposure_with_root_dropped_by_the_agent(tmp_path: Path) -> None:
    """The other way to have the files with an old systemd costs more: why there is a helper."""
    unit = laid_out(tmp_path, SERVICE)
    drop_in = tmp_path / f"{unit.name}.d" / "root.conf"
    drop_in.parent.mkdir()
    drop_in.write_text(DROPS_ROOT)
    assert exposure(unit) >= 1.5


@analyze
@pytest.mark.parametrize("drop_in", [None, "network.conf", "old-systemd.conf"])
def test_systemd_understands_every_line(tmp_path: Path, drop_in: str | None) -> None:
    """`systemd-analyze verify` has nothing to say but, before systemd 253, that it has no OpenFile=."""
    for unit in ALL:
        given = [DROP_INS / drop_in] if drop_in and unit.suffix == ".service" else []
        path = laid_out(tmp_path, unit, *given)
        for file in (path, *(tmp_path / f"{unit.name}.d").glob("*")):
            # The command need not be installed here; its man page neither.
            file.write_text(file.read_text().replace("/usr/bin/tdx-headroom", "/bin/true"))
    run = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(tmp_path / unit.name for unit in ALL)],
        capture_output=True,
        text=True,
    )
    said = [line for line in run.stderr.splitlines() if "Unknown key" not in line or "OpenFile" not in line]
    assert said == []
    assert run.returncode == 0


@pytest.mark.parametrize("unit", [SERVICE, TEXTFILE], ids=lambda path: path.name)
def test_what_systemd_opens_is_what_the_agent_knows(unit: Path) -> None:
    """Each OpenFile= has the name by which the agent finds that path, is read-only and may be missing."""
    opened = [value.split(":") for key, value in settings(unit) if key == "OpenFile"]
    assert {name: path for path, name, _ in opened} == {name: f"/{HANDED_OVER[name]}" for name in PRIVILEGED}
    assert {options for _, _, options in opened} == {"read-only,graceful"}


@pytest.mark.parametrize("unit", [SERVICE, TEXTFILE], ids=lambda path: path.name)
def test_kmsg_is_allowed(unit: Path) -> None:
    """OpenFile= is carried out inside the unit's cgroup: without DeviceAllow= it fails."""
    assert ("DeviceAllow", "/dev/kmsg r") in settings(unit)


@pytest.mark.parametrize("unit", [SERVICE, TEXTFILE, BOOTS], ids=lambda path: path.name)
def test_what_it_may_use_up(unit: Path) -> None:
    """Memory, processes, processors, and the size of a file, which the state never comes near to."""
    given = dict(settings(unit))
    assert {"MemoryMax", "TasksMax", "CPUQuota", "LimitFSIZE", "LimitCORE"} <= given.keys()
    assert given["CPUQuota"] == "100%"
    assert given["LimitFSIZE"] == f"{MAX_FILE >> 20}M"


def test_what_is_watched_is_what_the_agent_compares() -> None:
    """The path unit names each directory whose state an inventory holds, and no other."""
    watched = [value for key, value in settings(BOOTS_PATH) if key == "PathChanged"]
    assert watched == [f"/{path}" for path in WATCHED]


def test_no_burst_of_changes_ends_the_watch() -> None:
    """A one shot that is refused for its many starts would take the path unit with it."""
    assert ("StartLimitIntervalSec", "0") in settings(BOOTS)
    assert ("RuntimeDirectory", INVENTORY_PATH.split("/")[1]) in settings(BOOTS)


def test_no_network_by_default() -> None:
    """The service has no network, and can open no socket that would reach one."""
    given = settings(SERVICE)
    assert ("PrivateNetwork", "yes") in given
    assert [value for key, value in given if key == "RestrictAddressFamilies"] == ["AF_UNIX AF_NETLINK"]


def test_the_port_is_the_agents() -> None:
    """The socket unit and the drop-in with its own listener use the agent's port."""
    from tdx_headroom.commands.web_flags import DEFAULT_PORT

    assert ("ListenStream", str(DEFAULT_PORT)) in settings(UNITS / "tdx-headroom.socket")
    commands = [value for key, value in settings(DROP_INS / "network.conf") if key == "ExecStart"]
    assert commands[0] == ""
    assert f"--web.listen-address :{DEFAULT_PORT}" in commands[1]
    assert ("SocketBindAllow", f"tcp:{DEFAULT_PORT}") in settings(DROP_INS / "network.conf")


def test_the_pages_commands_install_what_they_say(tmp_path: Path) -> None:
    """Each `install` line of docs/systemd.md works where none of the folders is there yet."""
    page = (UNITS.parent / "docs" / "systemd.md").read_text()
    lines = re.findall(r"^(install .*)$", page, re.MULTILINE)
    assert len(lines) >= 3
    for line in lines:
        command = re.sub(r" /(?=etc/|usr/)", f" {tmp_path}/", line)
        done = subprocess.run(["bash", "-c", command], cwd=UNITS.parent, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), line
    assert {path.name for path in tmp_path.rglob("*")} >= {path.name for path in ALL}


@pytest.mark.program("systemd-sysusers")
def test_the_user_can_be_made(tmp_path: Path) -> None:
    """systemd-sysusers makes the agent's user, one that cannot log in, from the file of the packages."""
    file = UNITS.parent / "packaging/sysusers/tdx-headroom.conf"
    (tmp_path / "etc").mkdir()
    subprocess.run(["systemd-sysusers", f"--root={tmp_path}", file], check=True, capture_output=True)
    entries = [line.split(":") for line in (tmp_path / "etc/passwd").read_text().splitlines()]
    ours = [entry for entry in entries if entry[0] == OWN]
    assert [entry[-1] for entry in ours] == ["/usr/sbin/nologin"]
