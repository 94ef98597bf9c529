# SPDX-License-Identifier: Apache-2.0
"""What a fleet is measured with: each engine scrapes all hosts and evaluates the shipped rules."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import yaml

from tests.integration.servers import PACKAGING, Prometheus, Server, run
from tests.prometheus.engines import newest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RULES = PACKAGING / "prometheus" / "tdx-headroom.rules.yml"
SERIES_IN_MEMORY = 'vm_cache_entries{type="storage/hour_metric_ids"}'
"""The series that had a sample within the hour."""


class Engine(ABC):
    """Its processes, seen from outside.

    Args:
        version: of the program.
        server: answers queries.
        rules: evaluates the rules; the same server where that is its own work.
        data: folder of what it stores.
    """

    def __init__(self, version: str, server: Prometheus, rules: Server, data: Path) -> None:
        self.version = version
        self.server = server
        self.data = data
        self._rules = rules

    def own(self, name: str) -> float:
        """A metric of the engine itself, by the name alone, or with all its labels; of all its processes."""
        processes = {server.port: server for server in (self.server, self._rules)}
        return sum(_of(server, name) for server in processes.values())

    def groups(self) -> list[dict[str, Any]]:
        """The groups of rules, as the interface of Prometheus has them."""
        found: list[dict[str, Any]] = self._rules.json("/api/v1/rules")["data"]["groups"]
        return found

    @abstractmethod
    def series(self) -> float:
        """So many series are held in memory."""

    @abstractmethod
    def missed(self) -> float:
        """So many evaluations of groups were left out."""

    @abstractmethod
    def rule_seconds(self) -> dict[str, float]:
        """How long each group of rules took the last time."""


class PrometheusEngine(Engine):
    """One process for all of it."""

    def series(self) -> float:
        return self.own("prometheus_tsdb_head_series")

    def missed(self) -> float:
        return self.own("prometheus_rule_group_iterations_missed_total")

    def rule_seconds(self) -> dict[str, float]:
        return {group["name"]: float(group["evaluationTime"]) for group in self.groups()}


class VictoriaEngine(Engine):
    """victoria-metrics, which scrapes, and vmalert beside it."""

    def series(self) -> float:
        return self.own(SERIES_IN_MEMORY)

    def missed(self) -> float:
        return self.own("vmalert_iteration_missed_total")

    def rule_seconds(self) -> dict[str, float]:
        # vmalert tells it of rules only, which it evaluates one after the other.
        return {g["name"]: sum(float(rule["evaluationTime"]) for rule in g["rules"]) for g in self.groups()}


def _of(server: Server, name: str) -> float:
    """The sum of a metric, by its name alone or with all its labels."""
    lines = (line.rpartition(" ") for line in server.text("/metrics").splitlines())
    return sum(float(value) for sample, _, value in lines if name in {sample, sample.partition("{")[0]})


@contextmanager
def prometheus(folder: Path, scrapes: list[dict[str, Any]]) -> Iterator[Engine]:
    """The Prometheus of this machine.

    Args:
        folder: to be made.
        scrapes: ``scrape_configs``.
    """
    folder.mkdir()
    shutil.copy(RULES, folder / "rules.yml")
    (folder / "prometheus.yml").write_text(
        yaml.safe_dump({"rule_files": ["rules.yml"], "scrape_configs": scrapes})
    )
    data = folder / "data"
    words = ["prometheus", "--config.file=prometheus.yml", f"--storage.tsdb.path={data}"]
    with run(Prometheus, words, "/-/ready", folder) as server:
        version = server.json("/api/v1/status/buildinfo")["data"]["version"]
        yield PrometheusEngine(f"Prometheus {version}", server, server, data)


@contextmanager
def victoria_metrics(folder: Path, scrapes: list[dict[str, Any]]) -> Iterator[Engine]:
    """VictoriaMetrics and vmalert of Debian's unstable suite.

    Args:
        folder: to be made.
        scrapes: ``scrape_configs``.

    Raises:
        MissingError: they are not in the cache and could not be had.
    """
    programs = newest(fresh=False)
    folder.mkdir()
    (folder / "scrape.yml").write_text(yaml.safe_dump({"scrape_configs": scrapes}))
    data = folder / "data"
    listen = "-httpListenAddr="
    with ExitStack() as stack:
        words = [
            programs.find("victoria-metrics"),
            "-promscrape.config=scrape.yml",
            f"-storageDataPath={data}",
        ]
        server = stack.enter_context(run(Prometheus, words, "/health", folder, listen))
        origin = f"http://{server.address}"
        options = ("datasource.url", "remoteWrite.url", "remoteRead.url")
        words = [programs.find("vmalert"), f"-rule={RULES}", "-notifier.blackhole"]
        words += [f"-{option}={origin}" for option in options]
        rules = stack.enter_context(run(Server, words, "/health", folder / "vmalert", listen))
        version = programs.versions["victoria-metrics"]
        yield VictoriaEngine(f"VictoriaMetrics {version}", server, rules, data)


ENGINES = {"prometheus": prometheus, "victoria-metrics": victoria_metrics}
