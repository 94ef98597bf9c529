# SPDX-License-Identifier: Apache-2.0
"""Dropping privileges happens once in a process and for good: each test is a process of its own."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.integration.agent import SECONDS, Running
from tests.tools.ports import free_port

from tdx_headroom.service import privileges
from tdx_headroom.service.users import DYNAMIC

IS_ROOT = os.geteuid() == 0
needs_root = pytest.mark.root("has privileges to drop")
NOBODY = pwd.getpwnam("nobody")

PRELUDE = """
import json, os, sys
from tdx_headroom.service import capabilities
from tdx_headroom.service import privileges
from tdx_headroom.errors import AgentError
from tdx_headroom.hostfs.root import Root
def status():
    wanted = ("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs")
    lines = (line.partition(":") for line in open("/proc/self/status"))
    return {name: value.split() for name, _, value in lines if name in wanted}
"""


def process(
    program: str, before: list[str] | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a program that uses the agent's modules."""
    command = [*(before or []), sys.executable, "-c", PRELUDE + program]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=os.environ | environment)


@needs_root
def test_nothing_is_left() -> None:
    """After dropping, ids, groups, every capability set and no_new_privs are as they must be."""
    run = process("privileges.drop('nobody'); print(json.dumps(status()))")
    assert run.returncode == 0, run.stderr
    status = json.loads(run.stdout.splitlines()[-1])
    assert status["Uid"] == [str(NOBODY.pw_uid)] * 4
    assert status["Gid"] == [str(NOBODY.pw_gid)] * 4
    assert set(status["Groups"]) == {str(g) for g in os.getgrouplist("nobody", NOBODY.pw_gid)}
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[name][0], 16) == 0, name
    assert status["NoNewPrivs"] == ["1"]


@needs_root
def test_by_default_it_is_nobody_else() -> None:
    """Without a user of its own it becomes a number that is nobody's, in a group that is nobody's."""
    run = process(
        """
from tdx_headroom.service import users
users.OWN = "tdx-headroom-which-nobody-has"
privileges.drop()
print(os.getresuid(), os.getresgid(), os.getgroups())
"""
    )
    number = int(run.stdout.splitlines()[-1].split("(")[1].split(",")[0])
    assert number in DYNAMIC
    assert run.stdout.splitlines()[-1] == f"{(number,) * 3} {(number,) * 3} [{number}]"


@needs_root
def test_a_key_of_roots_is_left_behind() -> None:
    """What is in root's session keyring could be read by whoever is in it, whatever the user."""
    run = process(
        """
import ctypes
libc = ctypes.CDLL(None)
def keyctl(number, *arguments):
    return libc.syscall(ctypes.c_long(number), *arguments)
if keyctl(250, 1, None) < 0:  # KEYCTL_JOIN_SESSION_KEYRING
    sys.exit("no keyrings")
key = keyctl(248, b"user", b"a", b"secret", ctypes.c_long(6), ctypes.c_long(-3))  # add_key()
privileges.drop("nobody")
print(key, keyctl(250, 11, key, ctypes.create_string_buffer(9), ctypes.c_long(9)))  # KEYCTL_READ
"""
    )
    if "no keyrings" in run.stderr:
        pytest.skip("there are no keyrings here")
    assert run.returncode == 0, run.stderr
    key, read = run.stdout.splitlines()[-1].split()
    assert (int(key) > 0, int(read)) == (True, -1)


@needs_root
def test_root_is_not_to_be_had_again() -> None:
    """Neither the user id, nor a capability, nor a file of root's comes back."""
    run = process(
        """
privileges.drop("nobody")
for attempt in (lambda: os.setuid(0), lambda: os.setgid(0), lambda: os.setgroups([0]),
                lambda: open("/etc/shadow"), lambda: os.chroot("/"), lambda: os.kill(1, 0)):
    try:
        attempt()
    except PermissionError:
        continue
    sys.exit("something was allowed")
"""
    )
    assert run.returncode == 0, run.stderr


@needs_root
def test_securebits_that_keep_capabilities() -> None:
    """Also where changing the user id would keep all capabilities (SECBIT_NO_SETUID_FIXUP), none is left."""
    run = process(
        """
capabilities._prctl(28, 1 << 2)
privileges.drop("nobody")
print(json.dumps(status()))
"""
    )
    assert run.returncode == 0, run.stderr
    status = json.loads(run.stdout.splitlines()[-1])
    assert {int(status[name][0], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}


@needs_root
def test_without_cap_setpcap_the_bounding_set_stays() -> None:
    """A bounding set that cannot be emptied is told and is no error: no program gains anything from it."""
    run = process(
        """
privileges.drop("nobody")
print(json.dumps(status()))
""",
        ["setpriv", "--bounding-set=-setpcap"],
    )
    assert run.returncode == 0, run.stderr
    *logged, last = run.stdout.splitlines()
    status = json.loads(last)
    assert int(status["CapBnd"][0], 16) != 0
    assert int(status["CapEff"][0], 16) == 0
    assert "bounding set" in "".join(logged)


@needs_root
def test_root_that_may_not_change_its_user() -> None:
    """Root without CAP_SETUID is an error with a way out, not an agent that goes on as root."""
    run = process(
        """
try:
    privileges.drop("nobody")
except AgentError as error:
    print(error, error.status)
""",
        ["setpriv", "--bounding-set=-setuid,-setgid"],
    )
    assert "cannot become nobody: setgroups: Operation not permitted" in run.stdout
    assert "--user root" in run.stdout


@needs_root
def test_root_on_request() -> None:
    """--user root keeps everything, and says so."""
    run = process("privileges.drop('root'); print(json.dumps(status()))")
    *logged, last = run.stdout.splitlines()
    assert json.loads(last)["Uid"] == ["0"] * 4
    assert "keeps running as root" in "".join(logged)


@needs_root
def test_a_thread_would_keep_its_privileges() -> None:
    """With a thread running nothing is dropped and it is an error."""
    run = process(
        """
import threading, time
threading.Thread(target=time.sleep, args=(2,), daemon=True).start()
try:
    privileges.drop("nobody")
except AgentError as error:
    print(error)
"""
    )
    assert "a thread is running" in run.stdout


@needs_root
@pytest.mark.parametrize(
    ("sabotage", "complaint"),
    [
        ("capabilities.empty_sets = lambda: None; capabilities._prctl(28, 1 << 2)", "effective capabilities"),
        ("capabilities.set_no_new_privs = lambda: None", "no_new_privs is not set"),
        ("os.setgroups = lambda groups: None", "groups ["),
        ("os.setresgid = lambda *ids: None", "group ids (0, 0, 0)"),
        ("os.setresuid = lambda *ids: None", "user ids (0, 0, 0)"),
    ],
)
def test_what_is_left_is_noticed(sabotage: str, complaint: str) -> None:
    """A step that has no effect is found out afterwards and ends the agent."""
    run = process(
        f"""
os.setgroups([4])
{sabotage}
try:
    privileges.drop("nobody")
except AgentError as error:
    print(error)
"""
    )
    assert "privileges are left after becoming nobody" in run.stdout, run.stderr
    assert complaint in run.stdout


@needs_root
def test_files_stay_readable() -> None:
    """Real addresses and the kernel's log are read after dropping, again and again."""
    run = process(
        """
from tdx_headroom.sources.iomem import read_iomem
from tdx_headroom.sources.kernel_log.reader import read_kernel_log
root = Root("/")
root = Root("/", privileges.give_up(root, "nobody"))
for _ in range(2):
    rows, log = read_iomem(root), read_kernel_log(root)
    assert rows.error is None and len(rows.value) > 0, rows.error
    assert log.error is None and len(log.value.records) > 0, log.error
assert read_iomem(Root("/")).error is not None
"""
    )
    assert run.returncode == 0, run.stderr


@needs_root
def test_a_checkout_that_is_roots_alone(tmp_path: Path) -> None:
    """The page is rendered after dropping although the agent's own files cannot be read any more."""
    package = Path(privileges.__file__).parents[1]
    shutil.copytree(package, tmp_path / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    tmp_path.chmod(0o700)
    run = process(
        f"""
from tdx_headroom.verdict.assessment import assess
from tdx_headroom.host.choose import read_facts
from tdx_headroom.output.page import render_page
assert privileges.__file__.startswith({str(tmp_path)!r})
host = assess(read_facts(Root({str(tmp_path / package.name / "hosts" / "emerald-rapids")!r})))
privileges.preload(Root("/"))
privileges.drop("nobody")
assert not os.path.exists(privileges.__file__)
print(len(render_page(host)))
""",
        PYTHONPATH=str(tmp_path),
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout.splitlines()[-1]) > 10_000


@needs_root
def test_of_a_captured_tree_nothing_is_opened(tmp_path: Path) -> None:
    """The files of a captured tree may be replaced: no descriptor of them is kept."""
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/iomem").write_text("00100000-3fffffff : System RAM\n")
    run = process(f"print(privileges.give_up(Root({str(tmp_path)!r}), 'root'))")
    assert run.stdout.splitlines()[-1] == "{}", run.stderr


@needs_root
def test_a_captured_tree_that_is_roots_alone(tmp_path: Path) -> None:
    """A tree that the user cannot read is an error with a hint, not a host without memory."""
    tmp_path.chmod(0o700)
    run = process(
        f"""
try:
    privileges.give_up(Root({str(tmp_path)!r}), "nobody")
except AgentError as error:
    print(error)
"""
    )
    assert f"nobody cannot read {tmp_path}; make it readable for everybody" in run.stdout


def test_without_root_there_is_nothing_to_drop() -> None:
    """Started without root nothing happens, unless another user is asked for."""
    program = """
privileges.drop()
try:
    privileges.drop("root")
except AgentError as error:
    print(error, error.status)
"""
    if IS_ROOT:
        # Not by another program before it: this Python may be root's alone.
        program = f"os.setgroups([]); os.setresgid(*[65534] * 3); os.setresuid(*[65534] * 3)\n{program}"
    run = process(program)
    assert run.stdout == f"only root can become root; leave --user out {os.EX_NOPERM}\n", run.stderr


@pytest.mark.parametrize("command", ["demo", "serve"])
def test_after_preloading_nothing_is_loaded(command: str, tmp_path: Path) -> None:
    """A whole life of the agent after preload() loads no further module or template: they may be root's."""
    port = free_port()
    # As root it would load all over again, which proves nothing.
    extra = ["--user", "root"] if IS_ROOT else []
    # Only of a captured host are boot entries looked for.
    of_demo = "from tdx_headroom.boots.inventory import BootReader as Boots; boots = Boots()"
    boots = of_demo if command == "demo" else "boots = None"
    program = f"""
from tdx_headroom.cli import main
import tdx_headroom.commands.{command}
{boots}
privileges.preload(Root("/"), boots)
def watch(event, arguments):
    code = (".py", ".pyc", ".so", ".html", ".css")
    if event == "import" or event == "open" and str(arguments[0]).endswith(code):
        os.write(2, f"loaded: {{arguments[0]}}\\n".encode())
sys.addaudithook(watch)
sys.exit(main(["{command}", *{extra!r}, "--web.listen-address", "127.0.0.1:{port}"]))
"""
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-c", PRELUDE + program], stderr=log)
    running = Running(process, port, tmp_path / "log")
    try:
        running.wait_for("msg=serving")
        for path in ("/", "/style.css", "/metrics", "/api/v1/plan", "/-/healthy", "/-/ready", "/nothing"):
            running.get(path)
        running.get("/metrics", {"Accept": "application/openmetrics-text; version=1.0.0"})
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"nonsense\r\n\r\n")
        process.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        running.get("/metrics")
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
    finally:
        process.kill()
        process.wait()
    assert [line for line in running.log if line.startswith("loaded:")] == []
