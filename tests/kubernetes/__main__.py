# SPDX-License-Identifier: Apache-2.0
"""The manifests on a real node of Kubernetes, by docs/kubernetes.md: ``python -m tests.kubernetes``.

Kubernetes 1.20 is built of Debian 12's source, and runs with Debian's etcd and docker (``--engine``: or
containerd by itself) in namespaces of this machine, as if on a processor with TDX; the agent's image is built
as the page says. Then each kustomization is applied as it is: does the pod become ready, what does it read,
which capabilities are left, what does it say of the next boot; and what do node labels select? Needs root,
and a quarter of an hour the first time. At the end nothing of it is left.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tests.container.engine import require
from tests.container.image import CHECKOUT, base_tar, commands, import_base
from tests.container.podman import PROGRAMS, podman
from tests.kernel.tools import exit_status
from tests.kubernetes import build, checks, cluster, labels, node, overlays, tls
from tests.kubernetes.engines import ENGINES, PAUSE
from tests.tools.steps import run_steps, say

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.container.podman import Podman

TEST = "kubernetes-test"
PAGE = CHECKOUT / "docs/kubernetes.md"
KUREDS_PAGE = CHECKOUT / "docs/reboot-gate.md"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the checks.

    Returns:
        0: all is well. 1: a check failed. 69: the machine lacks something. 70: a step failed.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.kubernetes", description=__doc__)
    parser.add_argument("--fresh", action="store_true", help="make the node's and the image's Debian anew")
    parser.add_argument("--engine", choices=[*ENGINES], default="docker", help="what runs containers")
    parser.add_argument("--keep-logs", type=Path, metavar="DIR", help="copy the servers' logs there")
    options = parser.parse_args(arguments)
    try:
        return exit_status(TEST, lambda: _run(options))
    except KeyboardInterrupt:
        print(f"{TEST}: interrupted", file=sys.stderr)
        return 130


def _run(options: argparse.Namespace) -> int:
    require("a node needs it", PROGRAMS)
    programs = build.programs(TEST)
    began = time.monotonic()
    base, tree = base_tar(fresh=options.fresh), node.node_tree(fresh=options.fresh)
    say(TEST, "root file systems of the image and of the node", began)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tdx-kubernetes-")))
        for name in ("podman", "node"):
            (folder / name).mkdir()
        engine = stack.enter_context(podman(folder / "podman"))
        place = stack.enter_context(node.node(folder / "node", tree, programs.folder))
        if options.keep_logs:
            stack.callback(_keep, place, options.keep_logs)
        began = time.monotonic()
        pause = place.root / "tmp/pause.tar"
        engine("import", '--change=ENTRYPOINT ["/pause"]', programs.folder / "pause.tar", PAUSE)
        engine("save", "--quiet", "--format=docker-archive", f"--output={pause}", PAUSE)
        containers = ENGINES[options.engine](place)
        made = cluster.start(place, containers, programs, CHECKOUT, "/tmp/pause.tar")
        what = f"a node of Kubernetes {programs.version} with {containers.name}"
        say(TEST, what, began, f"kubectl {programs.client}")
        good = run_steps(TEST, _steps(made, engine, base))
        began = time.monotonic()
    say(TEST, "all of it ended and removed", began)
    return int(not good)


def _steps(made: cluster.Cluster, engine: Podman, base: Path) -> dict[str, Callable[[], str | None]]:
    page, kureds = PAGE.read_text("utf-8"), KUREDS_PAGE.read_text("utf-8")
    shown = commands(page, "kubectl")
    (recipe,) = commands(page)["build"]
    return {
        "base image": partial(import_base, engine, base),
        "image": partial(checks.image, made, engine, recipe, CHECKOUT),
        "the base without the operator": partial(checks.without_operator, made, shown),
        "definitions": partial(checks.definitions, made),
        "the base": partial(checks.base, made, shown),
        "metrics": partial(checks.served, made),
        "who it is": partial(checks.powerless, made),
        "looking at the node": partial(checks.looked_at, made, shown, page),
        "another pod": partial(checks.restarted, made),
        "TLS": partial(tls.tls, made, CHECKOUT),
        "boots on a node that lacks a folder": partial(overlays.folder_lacks, made, shown),
        "boots": partial(overlays.sidecar, made),
        "what boots can write": partial(overlays.writable, made),
        "boots/read-only": partial(overlays.read_only, made, page, CHECKOUT),
        "kernel-log": partial(checks.kernel_log, made, shown),
        "boots/of-host with kernel-log": partial(overlays.of_host, made, page, CHECKOUT),
        "node labels, kured/hold": partial(labels.labels_and_hold, made, page, CHECKOUT),
        "kured/alerts": partial(overlays.alerts, made, kureds, CHECKOUT),
    }


def _keep(place: node.Node, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for log in place.folder.glob("*.log"):
        shutil.copy(log, folder)


if __name__ == "__main__":
    sys.exit(main())
