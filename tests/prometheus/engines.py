# SPDX-License-Identifier: Apache-2.0
"""Prometheus, Alertmanager and VictoriaMetrics of Debian's unstable suite, unpacked in the cache folder.

Nothing of them is installed: each program is started through the suite's own dynamic linker, so that it sees
the files of this machine and the libraries of its suite.
"""

from __future__ import annotations

import gzip
import os
import re
import shutil
from typing import TYPE_CHECKING, NamedTuple

from tests.kernel.tools import MissingError, bootstrap, cache_folder, install_packages, new_folder, run

if TYPE_CHECKING:
    from pathlib import Path

SUITE = "sid"
PROGRAMS = {
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "amtool": "prometheus-alertmanager",
    "victoria-metrics": "victoria-metrics",
    "vmalert": "victoria-metrics",
    "vmalert-tool": "victoria-metrics",
}
"""By program: the package that has it."""

_LIBRARIES = "usr/lib/x86_64-linux-gnu"
_STARTER = f"""\
#!/bin/sh
tree=$(dirname "$(dirname "$(readlink -f "$0")")")
libraries=$tree/{_LIBRARIES}
exec "$libraries/ld-linux-x86-64.so.2" --library-path "$libraries" "$tree/usr/bin/${{0##*/}}" "$@"
"""


class Engines(NamedTuple):
    """Programs of one origin.

    Args:
        origin: where they are from, for a reader.
        versions: by package.
        path: for PATH.
    """

    origin: str
    versions: dict[str, str]
    path: str

    @property
    def environment(self) -> dict[str, str]:
        """In which the programs are found by their names."""
        return {**os.environ, "PATH": self.path}

    def find(self, name: str) -> str:
        """The path of one of the programs.

        Raises:
            MissingError: it is not there.
        """
        path = shutil.which(name, path=self.path)
        if path is None:
            raise MissingError(f"{name}, of {self.origin}")
        return path

    def __str__(self) -> str:
        return ", ".join(f"{name} {version}" for name, version in self.versions.items()) + f" ({self.origin})"


def installed() -> Engines:
    """Those that this machine has, or now gets, from its own Debian.

    Raises:
        MissingError: they could not be installed.
    """
    _get("promtool", "amtool")
    packages = ("prometheus", "prometheus-alertmanager")
    versions = {name: run(["dpkg-query", "--show", "--showformat=${Version}", name]) for name in packages}
    return Engines("installed here", versions, os.environ.get("PATH", os.defpath))


def others() -> None:
    """Have the programs that the tests need beside an engine.

    Raises:
        MissingError: they could not be installed.
    """
    _get("openssl", "prometheus-node-exporter")


def _get(*names: str) -> None:
    packages = {"promtool": "prometheus", "amtool": "prometheus-alertmanager"}
    install_packages([packages.get(name, name) for name in names if shutil.which(name) is None])


def newest(*, fresh: bool) -> Engines:
    """Those of Debian's unstable suite.

    Args:
        fresh: look for newer ones, even if some are in the cache.

    Raises:
        MissingError: they are not in the cache and could not be had.
    """
    folder = cache_folder().with_name("prometheus")
    cached = sorted(folder.glob(f"{SUITE}-*"), key=lambda tree: tree.stat().st_mtime)
    tree = cached[-1] if cached and not fresh else _unpack(folder)
    path = f"{tree / 'programs'}:{os.environ.get('PATH', os.defpath)}"
    return Engines(f"Debian {SUITE}", _versions(tree), path)


def _unpack(folder: Path) -> Path:
    if os.geteuid() != 0:
        raise MissingError("root: mmdebstrap makes a root file system, which belongs to root")
    install_packages(["mmdebstrap"] if shutil.which("mmdebstrap") is None else [])
    folder.mkdir(parents=True, exist_ok=True)
    with new_folder(folder / "new") as tree:
        # Unpacked is enough; a mirror that is behind still has them.
        options = ("--variant=extract", '--aptopt=Acquire::Check-Valid-Until "false"')
        bootstrap(SUITE, tree, sorted(set(PROGRAMS.values())), *options)
        (tree / "programs").mkdir()
        for name in PROGRAMS:
            starter = tree / "programs" / name
            starter.write_text(_STARTER)
            starter.chmod(0o755)
    name = "-".join([SUITE, *_versions(folder / "new").values()])
    shutil.rmtree(folder / name, ignore_errors=True)
    return (folder / "new").rename(folder / name)


def _versions(tree: Path) -> dict[str, str]:
    """By package, from the first line of its changelog."""
    found = {}
    for package in sorted(set(PROGRAMS.values())):
        with gzip.open(tree / f"usr/share/doc/{package}/changelog.Debian.gz", "rt", encoding="utf-8") as log:
            line = re.match(r"\S+ \((\S+)\)", log.readline())
        found[package] = line[1] if line else "unknown"
    return found
