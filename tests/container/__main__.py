# SPDX-License-Identifier: Apache-2.0
"""The container image under podman or docker, by docs/container.md: ``python -m tests.container``.

The base image is made of Debian's packages, under the name that the Containerfile has. Everything else is
what the page shows: the build, the agent's container, the one that reads boot entries, the textfile. Then:
what was read, the capabilities that are left, the health check, a restart, a stop. Needs root.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tests.container import checks, docker, podman
from tests.container.engine import require
from tests.container.image import CHECKOUT, base_tar, commands, import_base
from tests.kernel.tools import exit_status
from tests.tools.steps import run_steps, say

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from tests.container.engine import Engine

NAME = "container-test"
PAGE = CHECKOUT / "docs/container.md"
ENGINES: dict[str, tuple[Callable[[Path], AbstractContextManager[Engine]], dict[str, str]]] = {
    "podman": (podman.podman, podman.PROGRAMS),
    "docker": (docker.docker, docker.PROGRAMS),
}
"""How each begins, and the programs that it needs."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the checks.

    Returns:
        0: all is well. 1: a check failed. 69: the machine lacks something. 70: a step failed.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.container", description=__doc__)
    parser.add_argument("--fresh", action="store_true", help="make the base image anew")
    parser.add_argument("--engine", choices=[*ENGINES], default="podman", help="what runs it")
    options = parser.parse_args(arguments)
    return exit_status(NAME, lambda: _run(options.engine, fresh=options.fresh))


def _run(name: str, *, fresh: bool) -> int:
    start, programs = ENGINES[name]
    require("the image is run as root", programs)
    began = time.monotonic()
    base = base_tar(fresh=fresh)
    say(NAME, "root file system of the base image", began)
    with tempfile.TemporaryDirectory(prefix="tdx-container-") as folder, start(Path(folder)) as engine:
        shown = commands(PAGE.read_text("utf-8"))
        steps: dict[str, Callable[[], str | None]] = {
            "base image": partial(import_base, engine, base),
            "image": partial(engine.build, shown["build"][0], CHECKOUT),
            "the image's settings": partial(checks.image, engine),
            "the agent": partial(checks.agent, engine, shown["run"]),
            "health check": partial(checks.health, engine),
            "restart": partial(checks.restart, engine),
            "stop": partial(checks.stop, engine),
            "health check under TLS": partial(checks.health_under_tls, engine, shown["run"]),
            "boot entries": partial(checks.boots, engine, shown["run"]),
            "ESP below /boot": partial(checks.esp, engine, shown["run"]),
            "textfile": partial(checks.textfile, engine, shown["run"]),
        }
        return int(not run_steps(NAME, steps))


if __name__ == "__main__":
    sys.exit(main())
