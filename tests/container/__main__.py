# SPDX-License-Identifier: Apache-2.0
"""The container image under podman, by the commands of docs/container.md: ``python -m tests.container``.

The base image is made of Debian's packages, under the name that the Containerfile has. Everything else is
what the page shows: the build, the agent's container, the one that reads boot entries, the textfile. Then:
what was read, the capabilities that are left, the health check, a restart, a stop. Needs root.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tests.container import checks
from tests.container.podman import PROGRAMS, Podman, podman
from tests.kernel.tools import (
    KernelTestError,
    MissingError,
    bootstrap,
    cache_folder,
    exit_status,
    install_packages,
    new_folder,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CHECKOUT = Path(__file__).resolve().parents[2]
RECIPE = CHECKOUT / "packaging/container/Containerfile"
PAGE = CHECKOUT / "docs/container.md"
SUITE = "trixie"
PACKAGES = ("python3", "python3-venv", "python3-pip", "python-is-python3")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the checks.

    Returns:
        0: all is well. 1: a check failed. 69: the machine lacks something. 70: a step failed.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.container", description=__doc__)
    parser.add_argument("--fresh", action="store_true", help="make the base image anew")
    options = parser.parse_args(arguments)
    return exit_status("container-test", lambda: _run(fresh=options.fresh))


def _run(*, fresh: bool) -> int:
    if os.geteuid() != 0:
        raise MissingError("root: the image is run as root")
    install_packages([package for name, package in PROGRAMS.items() if shutil.which(name) is None])
    began = time.monotonic()
    base = _base(fresh=fresh)
    _say("root file system of the base image", began)
    with tempfile.TemporaryDirectory(prefix="tdx-container-") as name, podman(Path(name)) as engine:
        shown = commands(PAGE.read_text("utf-8"))
        steps: dict[str, Callable[[], str | None]] = {
            "base image": partial(_import, engine, base),
            "image": partial(engine.build, shown["build"][0], CHECKOUT),
            "the image's settings": partial(checks.image, engine),
            "the agent": partial(checks.agent, engine, shown["run"]),
            "health check": partial(checks.health, engine),
            "restart": partial(checks.restart, engine),
            "stop": partial(checks.stop, engine),
            "health check under TLS": partial(checks.health_under_tls, engine, shown["run"]),
            "boot entries": partial(checks.boots, engine, shown["run"]),
            "textfile": partial(checks.textfile, engine, shown["run"]),
        }
        for what, step in steps.items():
            began = time.monotonic()
            try:
                _say(what, began, step() or "")
            except checks.CheckError as error:
                print(f"container-test: FAILED: {what}: {error}", file=sys.stderr)
                return 1
    return 0


def _say(what: str, began: float, said: str = "") -> None:
    text = f"{what}: {said}" if said else what
    print(f"container-test: {text} ({time.monotonic() - began:.1f} s)", flush=True)


def commands(page: str) -> dict[str, list[list[str]]]:
    """The page's podman commands: by the first word the others, in their order."""
    found: dict[str, list[list[str]]] = {}
    for line in re.findall(r"(?m)^podman (.*)$", re.sub(r" *\\\n *", " ", page)):
        first, *words = shlex.split(line)
        found.setdefault(first, []).append(words)
    return found


def _base(*, fresh: bool) -> Path:
    """The tar of the base image's root file system, from the cache or made now."""
    folder = cache_folder().with_name("container") / SUITE
    if fresh or not folder.exists():
        with new_folder(folder) as made:
            bootstrap(SUITE, made / "base.tar", PACKAGES)
    return folder / "base.tar"


def _import(engine: Podman, base: Path) -> str:
    """Give the root file system the name that the recipe builds from; it must have that Python."""
    recipe = RECIPE.read_text("utf-8")
    version = re.search(r"(?m)^ARG PYTHON=(\S+)$", recipe)
    names = set(re.findall(r"(?m)^FROM (\S+)", recipe))
    if version is None or len(names) != 1:
        raise KernelTestError(f"{RECIPE.name} names no Python, or several images to start from")
    name = names.pop().replace("${PYTHON}", version[1])
    engine("import", "--quiet", base, f"docker.io/library/{name}")
    said = engine.once("--network=none", name, "python", "--version").strip()
    if not said.startswith(f"Python {version[1]}."):
        raise KernelTestError(f"Debian {SUITE} has {said}, the recipe wants {version[1]}")
    return f"{said} of Debian {SUITE} as {name}"


if __name__ == "__main__":
    sys.exit(main())
