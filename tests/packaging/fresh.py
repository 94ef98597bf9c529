# SPDX-License-Identifier: Apache-2.0
"""The Debian package on fresh root file systems: ``python -m tests.packaging.fresh``; docs/release.md.

For each suite mmdebstrap makes a root file system, into which apt installs the package with its dependencies.
The command runs in it; without systemd the init script starts and stops the agent; with systemd, on this
machine's own kernel, the service serves this machine's plan. At the end a purge must leave nothing behind.
Before that kernels are installed and removed, and the hooks tell what becomes of TDX.
Then rpm installs the RPM there, which uses the same libraries, and it is booted once more.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from tests.kernel.tools import (
    KernelTestError,
    MissingError,
    bootstrap,
    exit_status,
    install_packages,
    last_line,
    run,
)
from tests.packaging.upgrade import UpgradeError, check_dpkg, check_kernel_install
from tests.tools.machine_memory import memory_bytes
from tests.tools.nspawn import BootError, booted
from tests.vm.install import build_package

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SUITES = ("trixie", "bookworm")
PROGRAMS = {
    "mmdebstrap": "mmdebstrap",
    "systemd-nspawn": "systemd-container",
    "dpkg-scanpackages": "dpkg-dev",
    "ip": "iproute2",
    "rpm": "rpm",
}
URL = "http://localhost:10110/metrics"
SCORE = "0.3"
"""What docs/security.md says."""

CONTAINER_CAPABILITIES = ("sys_admin", "syslog", "chown", "setuid", "setgid", "setpcap", "sys_chroot")
"""What docs/container.md gives it, and one for the chroot of this test."""
REMAINS = ("find", "/", "-xdev", "-iname", "*tdx*headroom*")
# What others keep under our name, and remove themselves. systemd deletes a stopped unit's private folders in
# a thread, which a power-off may overtake, and what is left at the next start (tmpfiles.d/systemd-tmp.conf).
OTHERS_REMOVE = ("/var/log/journal/*", "/var/lib/apt/lists/*", "/var/tmp/systemd-private-*")


class FreshError(KernelTestError):
    """A check has failed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the checks.

    Returns:
        0: all is well. 1: a check failed. 69: the machine lacks something. 70: a step failed.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.packaging.fresh", description=__doc__)
    parser.add_argument("--deb", type=Path, metavar="FILE", help="the package (default: this checkout's)")
    parser.add_argument("--rpm", type=Path, metavar="FILE", help="the RPM (default: this checkout's)")
    parser.add_argument("--suite", action="append", choices=SUITES, help="repeatable (default: all)")
    options = parser.parse_args(arguments)
    return exit_status("fresh", lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    if os.geteuid() != 0:
        raise MissingError("root: a root file system belongs to root")
    install_packages([package for name, package in PROGRAMS.items() if shutil.which(name) is None])
    with tempfile.TemporaryDirectory(prefix="tdx-fresh-") as name:
        folder = Path(name)
        deb = options.deb or build_package("deb", folder)
        rpm = options.rpm or build_package("rpm", folder)
        try:
            for suite in options.suite or SUITES:
                _check(suite, deb, rpm, folder)
        except (FreshError, UpgradeError, BootError) as error:
            print(f"fresh: FAILED: {error}", file=sys.stderr)
            return 1
    return 0


def _check(suite: str, deb: Path, rpm: Path, folder: Path) -> None:
    began = time.monotonic()
    tree = folder / suite
    _bootstrap(suite, deb, folder, tree)
    print(f"{suite}: root file system with the package after {time.monotonic() - began:.0f} s", flush=True)
    checks: dict[str, Callable[[], str]] = {
        "the command": partial(_command, tree),
        "the init script": partial(_init_script, tree),
        "as in a container": partial(_container, tree),
        "under systemd": partial(_systemd, tree),
        "a kernel by dpkg": partial(check_dpkg, tree),
        "a kernel by kernel-install": partial(check_kernel_install, tree),
        "after a purge": partial(_purge, tree),
        "from the RPM, under systemd": partial(_rpm, tree, rpm),
    }
    for what, check in checks.items():
        began = time.monotonic()
        said = check()
        print(f"{suite}: {what}: {said} ({time.monotonic() - began:.1f} s)", flush=True)
    shutil.rmtree(tree)


def _bootstrap(suite: str, deb: Path, folder: Path, tree: Path) -> None:
    """A root file system; apt takes the package from a folder, and what it depends on from Debian."""
    repository = folder / "repository"
    repository.mkdir(exist_ok=True)
    shutil.copyfile(deb, repository / deb.name)
    (repository / "Packages").write_text(run(["dpkg-scanpackages", "--multiversion", "."], cwd=repository))
    line = f"deb [trusted=yes] copy:{repository} ./"
    hook = f"--setup-hook=echo '{line}' > \"$1/etc/apt/sources.list.d/tdx-headroom.list\""
    bootstrap(suite, tree, ["systemd", "systemd-sysv", "curl", "tdx-headroom"], hook)
    # The chroots of this test have no systemd to talk to; a container gets its own id.
    (tree / "etc/machine-id").write_text("")


def _expect(what: str, is_so: object) -> None:
    if not is_so:
        raise FreshError(what)


def _chroot(tree: Path, *command: str) -> str:
    return run(["chroot", tree, *command])


def _command(tree: Path) -> str:
    """The command runs with the suite's own Python and libraries, and plans the bundled host."""
    version = _chroot(tree, "tdx-headroom", "--version").strip()
    host = "/usr/lib/python3/dist-packages/tdx_headroom/hosts/emerald-rapids"
    plan = json.loads(_chroot(tree, "tdx-headroom", "plan", "--root", host, "--format", "json"))
    needed = [tdmr["needed_holes"] for tdmr in plan["strategies"]["memory-regions"]["tdmrs"]]
    _expect(f"the bundled host needs {needed}", needed == [17, 1, 1, 1, 1])
    _expect("dpkg --verify", _chroot(tree, "dpkg", "--verify", "tdx-headroom") == "")
    return version


def _init_script(tree: Path) -> str:
    """Without systemd: start, scrape, status, reload, stop, in a network of its own."""
    script = f"""
        set -e
        ip link set lo up
        svc() {{ chroot {tree} /etc/init.d/tdx-headroom "$@" >/dev/null; }}
        mount --bind /dev {tree}/dev; mount -t proc proc {tree}/proc; mount --rbind /sys {tree}/sys
        trap 'svc stop' EXIT
        svc start
        for i in $(seq 1000); do chroot {tree} curl -sf {URL} > /dev/null && break; sleep 0.1; done
        svc status; svc reload
        chroot {tree} curl -sf {URL}
        id=$(awk '/^Uid:/ {{ print $2 }}' "/proc/$(cat {tree}/run/tdx-headroom.pid)/status")
        chroot {tree} getent passwd "$id" | cut -d: -f1
        svc stop
        ! svc status
    """
    said = run(["unshare", "--mount", "--net", "--fork", "bash", "-c", script])
    _expect("a scrape of the agent under the init script", "\ntdx_memory_bytes " in said)
    user = last_line(said)
    _expect(f"under the init script it is {user}", user == "tdx-headroom")
    return f"started, scraped and stopped, as {user}"


def _container(tree: Path) -> str:
    """As an engine would run it: own namespaces, read-only mounts of the host, few capabilities."""
    command = "tdx-headroom serve --path.rootfs /host --state-directory /state"
    few = ",".join(f"+{name}" for name in CONTAINER_CAPABILITIES)
    script = f"""
        set -e
        ip link set lo up
        mount --bind {tree} {tree}; cd {tree}
        mkdir -p host/proc host/sys host/dev state
        touch host/dev/kmsg
        mount --rbind /proc host/proc; mount -o remount,bind,ro host/proc
        mount --rbind /sys host/sys; mount -o remount,bind,ro host/sys
        mount --bind /dev/kmsg host/dev/kmsg; mount -o remount,bind,ro host/dev/kmsg
        mount -t proc proc proc
        setpriv --bounding-set=-all,{few} chroot . {command} 2> log &
        trap 'kill %1; wait %1 || true' EXIT
        for i in $(seq 1000); do chroot . curl -sf {URL} > /dev/null && break; sleep 0.1; done
        chroot . curl -sf {URL}
        grep ^CapEff: proc/$!/status
    """
    said = run(["unshare", "--mount", "--net", "--pid", "--uts", "--ipc", "--fork", "bash", "-c", script])
    text, _, capabilities = said.rpartition("CapEff:")
    samples = {
        (s.name, *s.labels.values()): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }
    _expect(f"capabilities {capabilities.strip()}", int(capabilities, 16) == 0)
    for source in ("iomem", "kernel-log", "firmware-memmap"):
        _expect(f"{source} was read in the container", samples["tdx_headroom_source_success", source] == 1)
    served = samples["tdx_memory_bytes",]
    _expect(f"{served:.0f} bytes served, {memory_bytes()} in /proc/iomem", served == memory_bytes())
    _expect("state is kept", (tree / "state/state.json").is_file())
    for name in ("host", "state", "log"):
        path = tree / name
        path.unlink() if path.is_file() else shutil.rmtree(path)
    return f"{served:.0f} bytes of memory planned, without a capability in the end"


def _systemd(tree: Path) -> str:
    """Booted with systemd the service runs, and serves the plan of this machine."""
    with booted(tree, "tdx-headroom.service") as enter:
        text = enter("curl", "--silent", "--fail", URL)
        rating = last_line(enter("systemd-analyze", "security", "--no-pager", "tdx-headroom"))
        user = enter("systemctl", "show", "--value", "--property=MainPID", "tdx-headroom").strip()
        status = enter("grep", "^Uid:", f"/proc/{user}/status").split()
        own = enter("id", "--user", "tdx-headroom").strip()
    families = {f.name: f for f in text_string_to_metric_families(text)}
    sources = {s.labels["source"]: s.value for s in families["tdx_headroom_source_success"].samples}
    _expect("iomem was read", sources["iomem"] == 1)
    served = families["tdx_memory_bytes"].samples[0].value
    _expect(f"{served:.0f} bytes served, {memory_bytes()} in /proc/iomem", served == memory_bytes())
    # systemd takes the package's user for its dynamic one, since it has the unit's name.
    _expect(f"its user is {status[1]}, the package's {own}", status[1] == own != "0")
    _expect(f"systemd-analyze security: {rating}", f": {SCORE} " in rating)
    return f"{served:.0f} bytes of memory planned, exposure {SCORE}"


def _purge(tree: Path) -> str:
    """After a purge nothing of the package is left, and the init script's links are gone."""
    _chroot(tree, "dpkg", "--purge", "tdx-headroom")
    (tree / "etc/apt/sources.list.d/tdx-headroom.list").unlink()
    _expect_nothing_left(tree, but_for=OTHERS_REMOVE)
    return "nothing left behind"


def _rpm(tree: Path, rpm: Path) -> str:
    """Installed by rpm, the service serves the same; erased, nothing of the package is left."""
    # --nodeps: rpm does not know what dpkg has installed.
    database = ["rpm", "--root", str(tree), "--nodeps"]
    run([*database, "--install", str(rpm)])
    check_kernel_install(tree)
    _chroot(tree, "systemctl", "enable", "tdx-headroom.socket", "tdx-headroom.service")
    said = _systemd(tree)
    _chroot(tree, "systemctl", "disable", "tdx-headroom.socket", "tdx-headroom.service")
    run([*database, "--erase", "tdx-headroom"])
    # On an RPM distribution the scriptlet has systemd clean the state, which is not running here.
    _expect_nothing_left(tree, but_for=(*OTHERS_REMOVE, "/var/lib/*"))
    return said


def _expect_nothing_left(tree: Path, *, but_for: Sequence[str]) -> None:
    left = [
        path
        for path in _chroot(tree, *REMAINS).splitlines()
        if not any(fnmatchcase(path, pattern) for pattern in but_for)
    ]
    _expect(f"left behind: {' '.join(left)}", not left)


if __name__ == "__main__":
    sys.exit(main())
