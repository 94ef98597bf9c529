# SPDX-License-Identifier: Apache-2.0
"""What a process inherits is left behind for good: each test is a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tdx_headroom.service.clean_process import clean_environment

REPORT = """
import json, os, sys
from pathlib import Path
from tdx_headroom.service import clean_process
from tdx_headroom.child import child_environment
from tdx_headroom.service.clean_process import drop_inherited
clean_process._AT_ONCE = int(sys.argv[2])
drop_inherited(json.loads(sys.argv[1]))
names = [name.split(b"=")[0].decode() for name in Path("/proc/self/environ").read_bytes().split(b"\\0")]
print(json.dumps({
    "open": sorted(int(p.name) for p in Path("/proc/self/fd").iterdir() if p.exists()),
    "stdin": os.readlink("/proc/self/fd/0"),
    "environment": sorted(os.environ), "first": sorted(filter(None, names)),
    "from_c": sorted(line.split("=")[0] for line in os.popen("/usr/bin/env").read().splitlines()),
    "child": sorted(child_environment()),
}))
"""


Found = dict[str, list[int] | list[str] | str]


def left(script: str, keep: list[int], at_once: int = 1 << 20, **environment: str) -> Found:
    """What a process has left that a shell with these descriptors has started."""
    arguments = [sys.executable, "-c", REPORT, json.dumps(keep), str(at_once)]
    command = ["bash", "-c", f'{script} exec "$@"', "bash", *arguments]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert run.returncode == 0, run.stderr
    found: Found = json.loads(run.stdout)
    return found


def test_descriptors() -> None:
    """Only those that are known stay, wherever they are; standard input is /dev/null."""
    script = "exec 3</etc/passwd 7<>/tmp 8</etc/passwd 200</etc/passwd 0</etc/passwd;"
    found = left(script.replace("7<>/tmp", "7</etc/group"), [8])
    assert found["open"] == [0, 1, 2, 8]
    assert found["stdin"] == "/dev/null"


def test_descriptors_that_are_closed() -> None:
    """No file that is opened later becomes standard input or error."""
    assert left("exec 0<&- 2>&- 9</etc/passwd;", [])["open"] == [0, 1, 2]


def test_descriptors_beyond_those_that_are_closed_at_once() -> None:
    """Nor does one with a larger number stay: few machines have any above a million, so 100 does for it."""
    script = "exec 150</etc/passwd 200</etc/passwd;"
    assert left(script, [150], at_once=100)["open"] == [0, 1, 2, 150]


def test_environment() -> None:
    """Only variables of use stay: in Python, in C, and in the memory that the process was started with."""
    found = left(
        "",
        [],
        PATH="/usr/bin:/bin",
        LC_ALL="C.UTF-8",
        NOTIFY_SOCKET="/run/x",
        OPENSSL_CONF="/etc/ssl/openssl.cnf",
        AWS_SECRET_ACCESS_KEY="secret",
        SSH_AUTH_SOCK="/tmp/agent",
        PYTHONDONTWRITEBYTECODE="1",
        PROMETHEUS_MULTIPROC_DIR="/tmp",
        LD_LIBRARY_PATH="/nowhere",
    )
    wanted = ["LC_ALL", "NOTIFY_SOCKET", "OPENSSL_CONF", "PATH"]
    assert found["environment"] == found["first"] == wanted
    assert set(found["from_c"]) - {"PWD", "SHLVL", "_"} == set(wanted)
    assert found["child"] == ["LC_ALL", "PATH"]


@pytest.mark.parametrize(
    ("name", "stays"),
    [
        *((name, True) for name in ("LANG", "WATCHDOG_USEC", "LISTEN_FDS", "CREDENTIALS_DIRECTORY")),
        *((name, False) for name in ("HOME", "LD_PRELOAD", "PYTHONPATH", "MYPATH", "PATHS")),
    ],
)
def test_names(*, name: str, stays: bool) -> None:
    """Names count as a whole."""
    environment = {name: "x"}
    clean_environment(environment)
    assert (name in environment) is stays
