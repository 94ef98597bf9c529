# SPDX-License-Identifier: Apache-2.0
"""The agent as a Debian package or as a wheel, and its installation in a guest."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.kernel.tools import KernelTestError, MissingError, last_line, run

if TYPE_CHECKING:
    from tests.vm.machine import Machine

CHECKOUT = Path(__file__).resolve().parents[2]
UNITS = CHECKOUT / "systemd"
DROP_INS = UNITS / "drop-ins"
UNIT_FOLDER = "/usr/lib/systemd/system"
"""Where a package has its units: one in /etc could not be masked."""

DROP_IN_FOLDER = "/etc/systemd/system"

COMMAND = b"""#!/usr/bin/python3
import sys
from tdx_headroom.cli import main
sys.exit(main())
"""


def build_package(kind: str, folder: Path) -> Path:
    """Build a package of this checkout.

    Args:
        kind: ``deb`` or ``rpm``.
        folder: where it is put.

    Raises:
        MissingError: its build dependencies cannot be installed.
        KernelTestError: it does not build.
    """
    program = CHECKOUT / "packaging" / "release.py"
    command: list[str | Path] = [sys.executable, program, kind, "--install-needed", "--out", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 69:
        raise MissingError(last_line(done.stderr))
    if done.returncode != 0:
        raise KernelTestError(f"the {kind} does not build:\n{done.stderr.strip()}")
    return Path(done.stdout.strip())


def next_version(deb: Path, folder: Path, version: str) -> Path:
    """The same package as a later version, in its name and in its code, for an upgrade."""
    tree = folder / "next"
    run(["dpkg-deb", "-R", deb, tree])
    for path, pattern, new in (
        (tree / "DEBIAN/control", r"(?m)^Version: .*$", f"Version: {version}"),
        (
            tree / "usr/lib/python3/dist-packages/tdx_headroom/__init__.py",
            r'__version__ = ".*"',
            f'__version__ = "{version}"',
        ),
    ):
        path.write_text(re.sub(pattern, new, path.read_text()))
    (tree / "DEBIAN/md5sums").unlink()
    result = folder / f"tdx-headroom_{version}_all.deb"
    run(["dpkg-deb", "--root-owner-group", "-b", tree, result])
    return result


def install(guest: Machine, agent: Path) -> None:
    """Install the agent in a guest that has its dependencies.

    A Debian package is installed by dpkg, which starts the service. Of a wheel the modules go where Debian's
    own are, with the command and the units from the checkout; nothing is started.
    """
    if agent.suffix == ".deb":
        install_deb(guest, agent)
    else:
        _install_wheel(guest, agent)


def install_deb(guest: Machine, deb: Path) -> str:
    """Install or upgrade to a Debian package; what dpkg has said."""
    guest.write(f"/opt/vm-test/{deb.name}", deb.read_bytes())
    said = guest.run(f"DEBIAN_FRONTEND=noninteractive dpkg --install /opt/vm-test/{deb.name}")
    guest.run(f"rm /opt/vm-test/{deb.name}")
    return said


def _install_wheel(guest: Machine, wheel: Path) -> None:
    guest.write("/opt/vm-test/agent.whl", wheel.read_bytes())
    guest.run("python3 -m zipfile -e /opt/vm-test/agent.whl /usr/lib/python3/dist-packages")
    guest.run("python3 -m compileall -q /usr/lib/python3/dist-packages/tdx_headroom")
    guest.write("/usr/bin/tdx-headroom", COMMAND, 0o755)
    for unit in UNITS.iterdir():
        if unit.is_file():
            guest.write(f"{UNIT_FOLDER}/{unit.name}", unit.read_bytes())
    guest.run("systemctl daemon-reload")


def drop_in(guest: Machine, unit: str, name: str, content: bytes | None = None) -> None:
    """Put one of the example drop-ins, or one with this content, in its place."""
    data = (DROP_INS / name).read_bytes() if content is None else content
    guest.write(f"{DROP_IN_FOLDER}/{unit}.d/{name}", data)
    guest.run("systemctl daemon-reload")


def mask_drop_in(guest: Machine, unit: str, name: str) -> None:
    """Take away a drop-in that a generator makes; :func:`remove_drop_in` brings it back."""
    guest.run(
        f"mkdir -p {DROP_IN_FOLDER}/{unit}.d && ln -sf /dev/null {DROP_IN_FOLDER}/{unit}.d/{name}"
        " && systemctl daemon-reload"
    )


def remove_drop_in(guest: Machine, unit: str, name: str) -> None:
    """Take a drop-in away again."""
    guest.run(f"rm -f {DROP_IN_FOLDER}/{unit}.d/{name} && systemctl daemon-reload")
