# SPDX-License-Identifier: Apache-2.0
"""The agent's image, built as a page shows it, upon a base image that is made of Debian's packages."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from tests.kernel.tools import KernelTestError, bootstrap, cache_folder, new_folder

if TYPE_CHECKING:
    from tests.container.engine import Engine

CHECKOUT = Path(__file__).resolve().parents[2]
RECIPE = CHECKOUT / "packaging/container/Containerfile"
SUITE = "trixie"
PACKAGES = ("python3", "python3-venv", "python3-pip", "python-is-python3")


def commands(page: str, program: str = "podman") -> dict[str, list[list[str]]]:
    """A page's commands of a program: by the first word the others, in their order."""
    found: dict[str, list[list[str]]] = {}
    for line in re.findall(rf"(?m)^{program} (.*)$", re.sub(r" *\\\n *", " ", page)):
        first, *words = shlex.split(line)
        found.setdefault(first, []).append(words)
    return found


def base_tar(*, fresh: bool) -> Path:
    """The tar of the base image's root file system, from the cache or made now."""
    folder = cache_folder().with_name("container") / SUITE
    if fresh or not folder.exists():
        with new_folder(folder) as made:
            bootstrap(SUITE, made / "base.tar", PACKAGES)
    return folder / "base.tar"


def import_base(engine: Engine, base: Path) -> str:
    """Give the root file system the name that the recipe builds from; it must have that Python."""
    recipe = RECIPE.read_text("utf-8")
    version = re.search(r"(?m)^ARG PYTHON=(\S+)$", recipe)
    names = set(re.findall(r"(?m)^FROM (\S+)", recipe))
    if version is None or len(names) != 1:
        raise KernelTestError(f"{RECIPE.name} names no Python, or several images to start from")
    name = names.pop().replace("${PYTHON}", version[1])
    engine.import_image(base, f"docker.io/library/{name}")
    said = engine.once("--network=none", name, "python", "--version").strip()
    if not said.startswith(f"Python {version[1]}."):
        raise KernelTestError(f"Debian {SUITE} has {said}, the recipe wants {version[1]}")
    return f"{said} of Debian {SUITE} as {name}"
