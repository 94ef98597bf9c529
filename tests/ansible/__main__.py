# SPDX-License-Identifier: Apache-2.0
"""The Ansible role of packaging/ansible on a fresh Debian 13: ``python -m tests.ansible``; docs/ansible.md.

ansible-lint looks at it. Then mmdebstrap makes a root file system with Debian's own Ansible and with what the
package depends on, systemd-nspawn boots it, and the playbook runs in it: as it is, again, with TLS on another
port, with the textfile in place of the service. Each time nothing may be left to do for a second run.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bcrypt

from tests.integration.certificates import make_authority
from tests.kernel.tools import KernelTestError, MissingError, bootstrap, exit_status, install_packages, run
from tests.tools.nspawn import BootError, booted
from tests.vm.image import PACKAGES
from tests.vm.install import CHECKOUT, build_package

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROLE = CHECKOUT / "packaging/ansible"
SUITE = "trixie"
OWN = ("systemd", "systemd-sysv", "ansible-core", "python3-apt", "curl", "ca-certificates")
PROGRAMS = {"mmdebstrap": "mmdebstrap", "systemd-nspawn": "systemd-container", "openssl": "openssl"}
PASSWORD = "correct horse battery staple"
TEXTFILE, TEXTFILES = "tdx-headroom-textfile.service", "/var/lib/prometheus/node-exporter/tdx-headroom.prom"
TIMER, SERVICE, SOCKET = "tdx-headroom-textfile.timer", "tdx-headroom.service", "tdx-headroom.socket"


class RoleError(KernelTestError):
    """A check has failed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the checks.

    Returns:
        0: all is well. 1: a check failed. 69: the machine lacks something. 70: a step failed.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.ansible", description=__doc__)
    parser.add_argument("--deb", type=Path, metavar="FILE", help="the package (default: this checkout's)")
    options = parser.parse_args(arguments)
    return exit_status("ansible-test", lambda: _run(options.deb))


def _run(deb: Path | None) -> int:
    if os.geteuid() != 0:
        raise MissingError("root: a root file system belongs to root")
    install_packages([package for name, package in PROGRAMS.items() if shutil.which(name) is None])
    run([Path(sys.executable).with_name("ansible-lint"), "--offline", "--strict"], cwd=ROLE)
    print("ansible-test: ansible-lint --strict: nothing found", flush=True)
    with tempfile.TemporaryDirectory(prefix="tdx-ansible-") as name:
        folder = Path(name)
        tree = folder / SUITE
        bootstrap(SUITE, tree, [*OWN, *(package for package in PACKAGES if package.startswith("python3"))])
        (tree / "etc/machine-id").write_text("")
        shutil.copytree(ROLE, tree / "root/ansible")
        package = shutil.copy(deb or build_package("deb", folder), tree / "root")
        files = _web_files(folder, tree / "root")
        try:
            with booted(tree, "multi-user.target") as enter:
                _check(enter, f"/root/{Path(package).name}", files)
        except (RoleError, BootError) as error:
            print(f"ansible-test: FAILED: {error}", file=sys.stderr)
            return 1
    return 0


def _web_files(folder: Path, home: Path) -> dict[str, str]:
    """A web configuration with TLS and a password, certificate and key; their paths for the playbook."""
    authority = make_authority(folder / "ca")
    shutil.copy(authority.certificate, home / "ca.pem")
    authority.issue("server", folder=home)
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    (home / "web.yml").write_text(
        "tls_server_config: {cert_file: server.pem, key_file: server.key}\n"
        f"basic_auth_users: {{prometheus: {hashed}}}\n"
    )
    return {name: f"/root/{name}" for name in ("web.yml", "server.pem", "server.key")}


def _check(enter: Callable[..., str], package: str, files: dict[str, str]) -> None:
    def play(what: str, **variables: object) -> None:
        began = time.monotonic()
        _play(enter, {"tdx_headroom_package": package, **variables})
        changes = _play(enter, {"tdx_headroom_package": package, **variables})
        if changes:
            raise RoleError(f"{what}: a second run changes {changes}")
        print(f"ansible-test: {what} ({time.monotonic() - began:.0f} s)", flush=True)

    def is_active(unit: str) -> bool:
        return "active" in enter("systemctl", "show", "--property=ActiveState", "--value", unit).split()

    said = _said(enter, {"tdx_headroom_package": "/root/ca.pem"})
    if "neither a .deb nor an .rpm" not in said or "failed=1" not in said:
        raise RoleError(f"of what is no package it says {said[-300:]!r}")

    play("as it is", tdx_headroom_args="--log.format json")
    _metrics(enter, "http://localhost:10110/metrics")
    if '"msg"' not in enter("journalctl", "--unit", SERVICE, "--output=cat"):
        raise RoleError("the options do not arrive")

    play(
        "TLS, a password and another port",
        tdx_headroom_listen=["127.0.0.1:9999"],
        tdx_headroom_web_files=files,
    )
    user = ("--cacert", "/root/ca.pem", "--user", f"prometheus:{PASSWORD}")
    _metrics(enter, *user, "https://localhost:9999/metrics")
    for words in (["http://localhost:10110/metrics"], [*user[:2], "https://localhost:9999/metrics"]):
        try:
            _ask(enter, *words)
        except KernelTestError:
            continue
        raise RoleError(f"{words[-1]} answers")

    play("the textfile", tdx_headroom_textfile=True)
    if not is_active(TIMER) or is_active(SERVICE) or is_active(SOCKET):
        raise RoleError(f"not {TIMER} alone is active")
    enter("systemctl", "start", TEXTFILE)
    if "\ntdx_memory_bytes " not in enter("cat", TEXTFILES):
        raise RoleError(f"no textfile at {TEXTFILES}")

    play("listening again")
    _metrics(enter, "http://localhost:10110/metrics")
    if is_active(TIMER):
        raise RoleError(f"{TIMER} is still active")


def _play(enter: Callable[..., str], variables: dict[str, Any]) -> int:
    """Run the playbook; how many tasks changed something."""
    said = _said(enter, variables)
    found = re.search(r"changed=(\d+) +unreachable=0 +failed=0", said)
    if found is None:
        raise RoleError(f"no recap: {said[-300:]!r}")
    return int(found[1])


def _said(enter: Callable[..., str], variables: dict[str, Any]) -> str:
    """What the playbook prints, whether it fails or not."""
    words = ["env", "HOME=/root", "LANG=C.UTF-8", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "ANSIBLE_NOCOLOR=1"]
    words += ["ansible-playbook", "--connection=local", "--inventory=localhost,", "/root/ansible/site.yml"]
    words += ["--extra-vars", json.dumps({"ansible_become": False, **variables})]
    return enter("sh", "-c", '"$@" 2>&1 || true', "sh", *words)


def _ask(enter: Callable[..., str], *words: str) -> str:
    return enter("curl", "--silent", "--fail", "--max-time", "60", *words)


def _metrics(enter: Callable[..., str], *words: str) -> None:
    """Ask for the metrics, which must be ours; the socket makes curl wait for a service that starts."""
    text = _ask(enter, *words)
    if "\ntdx_memory_bytes " not in text:
        raise RoleError(f"no metrics at {words[-1]}")


if __name__ == "__main__":
    sys.exit(main())
