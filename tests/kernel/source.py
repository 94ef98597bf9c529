# SPDX-License-Identifier: Apache-2.0
"""Debian's linux-source packages: which version there is, and its unpacked tree."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.kernel.tools import KernelTestError, MissingError, cache_folder, last_line, run

if TYPE_CHECKING:
    from pathlib import Path

SUITES: dict[str, str | None] = {"6.12": None, "7.3": "trixie-backports"}
"""Kernel series that are tested, and the suite that has them (None: the suites of this machine)."""

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


@dataclass(frozen=True, slots=True)
class Source:
    """One version of a linux-source package.

    Args:
        series: upstream series, ``6.12``.
        version: Debian's version, ``6.12.117-1~deb12u1``.
        apt_options: options that make apt see the suite that it comes from.
    """

    series: str
    version: str
    apt_options: tuple[str, ...]

    @property
    def package(self) -> str:
        """Name of the package."""
        return f"linux-source-{self.series}"

    def unpack(self, folder: Path) -> Path:
        """Download the package into ``folder`` and unpack it there.

        Returns:
            The kernel's source tree.

        Raises:
            MissingError: it could not be downloaded.
            KernelTestError: it could not be unpacked.
        """
        done = subprocess.run(
            ["apt-get", "-q", *self.apt_options, "download", f"{self.package}={self.version}"],
            cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise MissingError(
                f"{self.package} {self.version}: no download ({last_line(done.stderr)}); network?"
            )
        (deb,) = folder.glob(f"{self.package}_*.deb")
        member = f"./usr/src/{self.package}.tar.xz"
        unpack = 'set -o pipefail; dpkg-deb --fsys-tarfile "$1" | tar -xO "$2" | xz -dc -T0 | tar -x'
        run(["bash", "-c", unpack, "unpack", deb, member], cwd=folder)
        deb.unlink()
        tree = folder / self.package
        if not (tree / "Makefile").exists():
            raise KernelTestError(f"{deb.name}: {member} holds no kernel tree")
        return tree


def find_source(series: str) -> Source:
    """The newest version of the series that apt offers.

    Raises:
        MissingError: apt has none, also after an update of its lists.
    """
    if series not in SUITES:
        raise MissingError(f"kernel {series}: not one of {', '.join(SUITES)}")
    if shutil.which("apt-get") is None:
        raise MissingError(f"linux-source-{series}: no apt-get here; this needs Debian")
    options = suite_options(SUITES[series])
    source = _candidate(series, options)
    if source is None:
        done = subprocess.run(
            ["apt-get", "-q", *options, "update"], capture_output=True, text=True, check=False
        )
        source = _candidate(series, options)
        if source is None:
            raise MissingError(
                f"linux-source-{series}: apt has no such package ({last_line(done.stderr)}); network?"
            )
    return source


def _candidate(series: str, options: tuple[str, ...]) -> Source | None:
    policy = run(["apt-cache", *options, "policy", f"linux-source-{series}"])
    found = re.search(r"^\s*Candidate: (\d\S*)$", policy, re.MULTILINE)
    return Source(series, found[1], options) if found else None


def _mirrors() -> list[str]:
    """Debian mirrors that apt is configured with, those of security updates left out."""
    targets = run(["apt-get", "indextargets", "--format", "$(LABEL)|$(REPO_URI)", "Created-By: Packages"])
    return [line.partition("|")[2] for line in targets.splitlines() if line.startswith("Debian|")]


def suite_options(suite: str | None, *, sources: bool = False) -> tuple[str, ...]:
    """apt options for another suite of the mirror in use; the machine's own sources stay as they are.

    Args:
        suite: its name; None for those of this machine.
        sources: whether source packages are wanted, and those alone.
    """
    if suite is None:
        return ()
    mirrors = _mirrors()
    if not mirrors:
        subprocess.run(["apt-get", "-q", "update"], capture_output=True, check=False)
        mirrors = _mirrors()
    if not mirrors:
        raise MissingError(f"{suite}: apt knows no Debian mirror; is this Debian, and is there a network?")
    kind = "deb-src" if sources else "deb"
    apt = cache_folder() / (f"apt-{suite}-sources" if sources else f"apt-{suite}")
    for name in ("lists/partial", "cache/archives/partial"):
        (apt / name).mkdir(parents=True, exist_ok=True)
    (apt / "sources.list").write_text(f"{kind} [signed-by={KEYRING}] {mirrors[0]} {suite} main\n")
    return (
        f"-oDir::Etc::sourcelist={apt / 'sources.list'}",
        "-oDir::Etc::sourceparts=-",
        f"-oDir::State::lists={apt / 'lists'}",
        f"-oDir::Cache={apt / 'cache'}",
        "-oAPT::Sandbox::User=root",
    )
