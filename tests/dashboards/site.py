# SPDX-License-Identifier: Apache-2.0
"""Agents, a Prometheus that scrapes them, and the page that draws dashboards."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.dashboards.hosts import make
from tests.grafana.files import FOLDER
from tests.integration.agent import agent
from tests.integration.servers import Prometheus, prometheus, wait_for
from tests.kernel.tools import MissingError, install_packages, last_line, run
from tests.tools.npm import NpmPackages

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
GRAFANA = "11.6.16"
PACKAGES = NpmPackages(
    f"grafana-ui-{GRAFANA}",
    (
        f"@grafana/data@{GRAFANA}",
        f"@grafana/ui@{GRAFANA}",
        f"@grafana/schema@{GRAFANA}",
        "@fontsource/inter@5.3.0",
        "react@18.2.0",
        "react-dom@18.2.0",
        "esbuild@0.28.2",
    ),
)
"""What Grafana draws panels with, its font, and what makes one file of it."""

_FONTS = {400: "Inter-Regular", 500: "Inter-Medium"}
"""By weight, as Grafana's style sheet calls them."""

_BUNDLE = (
    "--bundle",
    "--jsx=automatic",
    "--alias:react-custom-scrollbars-2=./scrollbars.js",
    "--loader:.ttf=dataurl",
    '--define:process.env.NODE_ENV="production"',
    "--log-level=error",
)


class Site(NamedTuple):
    """Where it is.

    Args:
        url: of the page's folder.
        prometheus: that has the fleet's metrics.
        since: when the first scrape was, in seconds since the epoch.
    """

    url: str
    prometheus: Prometheus
    since: float


def install() -> None:
    """Have the programs and packages.

    Raises:
        MissingError: they could not be had.
    """
    programs = {
        "npm": "npm",
        "prometheus": "prometheus",
        "chromium": "chromium",
        "chromedriver": "chromium-driver",
    }
    install_packages([package for name, package in programs.items() if shutil.which(name) is None])
    if (PACKAGES.modules / ".bin/esbuild").exists():
        return
    # Grafana asks for packages of TypeScript's types in versions that exclude each other.
    command = ["npm", "install", f"--prefix={PACKAGES.folder}", "--ignore-scripts", "--legacy-peer-deps"]
    done = subprocess.run(
        [*command, "--no-audit", "--no-fund", *PACKAGES.packages], capture_output=True, text=True
    )
    if done.returncode != 0:
        raise MissingError(f"{PACKAGES.folder_name}: {last_line(done.stderr)}; is there a network?")


def bundle(folder: Path) -> None:
    """The page, and the dashboards as they are shipped.

    Raises:
        KernelTestError: esbuild failed.
    """
    shutil.copytree(FOLDER, folder)
    shutil.copy(HERE / "page.html", folder)
    shutil.copytree(PACKAGES.modules / "@grafana/ui/dist/public", folder / "public")
    (folder / "public/fonts/inter").mkdir(parents=True)
    for weight, name in _FONTS.items():
        target = folder / f"public/fonts/inter/{name}.woff2"
        shutil.copy(PACKAGES.modules / f"@fontsource/inter/files/inter-latin-{weight}-normal.woff2", target)
    # esbuild looks for packages beside the files.
    for name in ("page.tsx", "scrollbars.js"):
        shutil.copy(HERE / name, folder)
    (folder / "node_modules").symlink_to(PACKAGES.modules)
    run([PACKAGES.modules / ".bin/esbuild", "page.tsx", "--outdir=.", *_BUNDLE], cwd=folder)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def files(folder: Path) -> Iterator[str]:
    """Serves a folder; its URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@contextmanager
def site(folder: Path, samples: int) -> Iterator[Site]:
    """A fleet that has been scraped so many times, and whose alerts fire.

    Args:
        folder: for scratch files.
        samples: of each series.
    """
    bundle(folder / "page")
    with ExitStack() as stack:
        url = stack.enter_context(files(folder / "page"))
        running = {
            f"{name}:10110": stack.enter_context(agent("--path.rootfs", str(root))).port
            for name, root in make(folder / "hosts").items()
        }
        targets = [
            {"targets": [f"127.0.0.1:{port}"], "labels": {"instance": name}} for name, port in running.items()
        ]
        details = {"collect[]": ["strategies", "sources", "http"]}
        scrapes: list[dict[str, Any]] = [
            {"job_name": "tdx-headroom", "static_configs": targets},
            {"job_name": "tdx-details", "params": details, "static_configs": targets},
        ]
        server = stack.enter_context(prometheus(folder / "prometheus", scrapes))

        def scraped() -> list[dict[str, Any]] | None:
            counts = server.query(f'count_over_time(tdx_verdict{{verdict="failed"}}[10m]) >= {samples}')
            return counts if len(counts) == len(running) else None

        wait_for(f"{samples} scrapes", scraped, 10 * samples)
        wait_for("alerts", lambda: server.alerts("TDXInitFailed", "firing"))
        (first,) = server.query("min(min_over_time(timestamp(tdx_verdict)[10m:1s]))")
        yield Site(url, server, float(first["value"][1]))
