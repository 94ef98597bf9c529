# SPDX-License-Identifier: Apache-2.0
"""Prometheus, Alertmanager and node_exporter from Debian's packages, each on a free port of the loopback."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from tests.tools.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PACKAGING = Path(__file__).parents[2] / "packaging"
DEADLINE = 60.0
"""Seconds that a loaded machine may take for what takes one or two."""

T = TypeVar("T")


def wait_for(what: str, get: Callable[[], T | None], seconds: float = DEADLINE) -> T:
    """The first answer that is something, asked for again and again."""
    end = time.monotonic() + seconds
    while True:
        found = get()
        if found:
            return found
        assert time.monotonic() < end, f"no {what} within {seconds} s"
        time.sleep(0.02)


@dataclass(frozen=True)
class Server:
    """A running server."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def text(self, path: str) -> str:
        with urllib.request.urlopen(f"http://{self.address}{path}", timeout=30) as answer:
            return str(answer.read().decode())

    def json(self, path: str) -> Any:  # noqa: ANN401  what JSON holds
        return json.loads(self.text(path))


class Prometheus(Server):
    """With the two questions that tests ask."""

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples of an instant query now."""
        words = urllib.parse.urlencode({"query": expression})
        try:
            answer = self.json(f"/api/v1/query?{words}")
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{expression}: {error.read().decode()}") from None
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def alerts(self, name: str, state: str, **labels: str) -> list[dict[str, Any]]:
        """Alerts of a name in a state, with these labels among theirs."""
        return [
            alert
            for alert in self.json("/api/v1/alerts")["data"]["alerts"]
            if alert["state"] == state and {"alertname": name, **labels}.items() <= alert["labels"].items()
        ]


@contextmanager
def run(
    kind: type[Server], words: list[str], ready: str, folder: Path, listen: str = "--web.listen-address="
) -> Iterator[Any]:
    """A server that answers, in a folder of its own; its log is shown when it does not.

    Args:
        kind: what to give for it.
        words: the command, without an address.
        ready: a path that it answers once it is up.
        folder: in which it runs.
        listen: the option for its address.
    """
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*words, f"{listen}127.0.0.1:{port}"], cwd=folder, stdout=stream, stderr=stream
        )
    server = kind(process, port)

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return bool(server.text(ready))
        except OSError:
            return False

    try:
        wait_for(f"answer of {words[0]}", answers)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(DEADLINE)
        finally:
            process.kill()


def hurried_rules() -> dict[str, Any]:
    """The rules as they are shipped, with times for a test: only `for` and `interval` are others."""
    rules: dict[str, Any] = yaml.safe_load(
        (PACKAGING / "prometheus" / "tdx-headroom.rules.yml").read_text("utf-8")
    )
    for group in rules["groups"]:
        group["interval"] = "500ms"
        for rule in group["rules"]:
            if "for" in rule:
                rule["for"] = "2s"
    return rules


@contextmanager
def prometheus(
    folder: Path, scrapes: list[dict[str, Any]], alertmanager: str | None = None
) -> Iterator[Prometheus]:
    """Scrapes every second and evaluates the shipped rules; an Alertmanager is told, if there is one."""
    folder.mkdir(parents=True)
    (folder / "rules.yml").write_text(yaml.safe_dump(hurried_rules()))
    config = {
        "global": {
            "scrape_interval": "1s",
            "scrape_timeout": "1s",
            "evaluation_interval": "500ms",
            "external_labels": {"cluster": "test"},
        },
        "rule_files": ["rules.yml"],
        "alerting": {
            "alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}] if alertmanager else []
        },
        "scrape_configs": scrapes,
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    words = ["prometheus", "--config.file=prometheus.yml", f"--storage.tsdb.path={folder / 'data'}"]
    with run(Prometheus, words, "/-/ready", folder) as server:
        yield server


@contextmanager
def alertmanager(folder: Path) -> Iterator[Server]:
    """With the routes and inhibitions that are shipped, without their waiting."""
    folder.mkdir(parents=True)
    config = yaml.safe_load((PACKAGING / "prometheus" / "alertmanager.yml").read_text("utf-8"))
    config["route"].update(group_wait="100ms", group_interval="1s")
    config["receivers"] = [{"name": receiver["name"]} for receiver in config["receivers"]]
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(config))
    words = [
        "prometheus-alertmanager",
        "--config.file=alertmanager.yml",
        f"--storage.path={folder / 'data'}",
        "--cluster.listen-address=",
    ]
    with run(Server, words, "/-/ready", folder) as server:
        yield server


@contextmanager
def node_exporter(folder: Path, textfiles: Path) -> Iterator[Server]:
    """Only its textfile collector."""
    words = [
        "prometheus-node-exporter",
        "--collector.disable-defaults",
        "--collector.textfile",
        f"--collector.textfile.directory={textfiles}",
    ]
    with run(Server, words, "/metrics", folder) as server:
        yield server
