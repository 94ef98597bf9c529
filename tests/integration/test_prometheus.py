# SPDX-License-Identifier: Apache-2.0
"""A real Prometheus and Alertmanager watch running agents, with the rules and dashboards that are shipped."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import urllib.parse
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bcrypt
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tdx_headroom.output.metric_families import Collector
from tests.grafana.board import panels_of
from tests.grafana.files import DASHBOARDS
from tests.integration.agent import agent
from tests.integration.certificates import make_authority
from tests.integration.servers import (
    PACKAGING,
    Prometheus,
    Server,
    alertmanager,
    node_exporter,
    prometheus,
    wait_for,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.program(name)
    for name in ("prometheus", "prometheus-alertmanager", "prometheus-node-exporter", "amtool", "openssl")
]

HOSTS = Path(__file__).parents[1] / "hosts"
PASSWORD = "correct horse battery staple"
OTHERS = ("good-2-node", "granite-rapids-like", "no-tdx")
"""Hosts whose agents serve in plain, beside the one that the test changes."""


@dataclass(frozen=True)
class Site:
    """Agents and those who watch them.

    Args:
        changing: the root of the agent that serves with TLS; a test may replace it.
        instance: that agent's label.
    """

    prometheus: Prometheus
    alertmanager: Server
    node_exporter: Server
    changing: Path
    instance: str
    staged: Path

    def become(self, host: str) -> None:
        """Put another captured host under the running agent."""
        new = self.changing.with_name("new")
        old = self.changing.with_name("old")
        shutil.copytree(HOSTS / host, new)
        self.changing.rename(old)
        new.rename(self.changing)
        shutil.rmtree(old)

    def seen_by_alertmanager(self, name: str, **labels: str) -> dict[str, Any] | None:
        """The alert as Alertmanager has it."""
        wanted = {"alertname": name, **labels}.items()
        for alert in self.alertmanager.json("/api/v2/alerts"):
            if wanted <= alert["labels"].items():
                found: dict[str, Any] = alert
                return found
        return None


def web_config(folder: Path) -> Path:
    """TLS and a password, as docs/web-config.md says."""
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    path = folder / "web.yml"
    path.write_text(
        "tls_server_config: {cert_file: server.pem, key_file: server.key, min_version: TLS13}\n"
        f"basic_auth_users: {{prometheus: {hashed}}}\n"
    )
    return path


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    authority = make_authority(folder / "ca")
    (folder / "web").mkdir()
    authority.issue("server", folder=folder / "web")
    changing = folder / "host"
    shutil.copytree(HOSTS / "good-2-node", changing)
    staged = folder / "staged"
    shutil.copytree(HOSTS / "good-2-node", staged)
    shutil.copytree(HOSTS.parent / "boots/debian-one", staged, symlinks=True, dirs_exist_ok=True)
    textfiles = folder / "textfiles"
    textfiles.mkdir()
    with ExitStack() as stack:
        secure = stack.enter_context(
            agent(
                *("--path.rootfs", str(changing), "--refresh-interval", "200ms"),
                *("--web.config.file", str(web_config(folder / "web"))),
            )
        )
        plain = [
            stack.enter_context(agent("--path.rootfs", str(HOSTS / name), "--refresh-interval", "5s"))
            for name in OTHERS
        ]
        upgraded = stack.enter_context(agent("--path.rootfs", str(staged), "--refresh-interval", "200ms"))
        node = stack.enter_context(node_exporter(folder / "node-exporter", textfiles))
        manager = stack.enter_context(alertmanager(folder / "alertmanager"))
        scrapes: list[dict[str, Any]] = [
            {
                "job_name": "tdx-headroom",
                "scheme": "https",
                "tls_config": {"ca_file": str(authority.certificate)},
                "basic_auth": {"username": "prometheus", "password": PASSWORD},
                "static_configs": [{"targets": [f"127.0.0.1:{secure.port}"]}],
            },
            {
                "job_name": "tdx-headroom-plain",
                "params": {"collect[]": [str(collector) for collector in Collector]},
                "static_configs": [{"targets": [f"127.0.0.1:{running.port}" for running in plain]}],
            },
            {
                "job_name": "tdx-headroom-staged",
                "static_configs": [{"targets": [f"127.0.0.1:{upgraded.port}"]}],
            },
            {"job_name": "node", "static_configs": [{"targets": [node.address]}]},
        ]
        server = stack.enter_context(prometheus(folder / "prometheus", scrapes, manager.address))
        yield Site(server, manager, node, changing, f"127.0.0.1:{secure.port}", staged)


def test_every_target_is_up(site: Site) -> None:
    """Prometheus scrapes all agents, the one with TLS and a password too."""
    count = 3 + len(OTHERS)
    wait_for("scrape of every target", lambda: len(site.prometheus.query("up == 1")) == count)
    query = f'tdx_verdict{{instance="{site.instance}",verdict="initialized"}} == 1'
    wait_for("verdict", lambda: site.prometheus.query(query))


def test_no_rule_fails(site: Site) -> None:
    """Every rule that is shipped has been evaluated on real metrics, and none had an error."""

    def evaluated() -> list[dict[str, Any]] | None:
        groups = site.prometheus.json("/api/v1/rules")["data"]["groups"]
        found = [rule for group in groups for rule in group["rules"]]
        return None if any(rule["health"] == "unknown" for rule in found) else found

    rules = wait_for("evaluation of every rule", evaluated)
    assert {rule["name"]: rule.get("lastError") for rule in rules if rule["health"] != "ok"} == {}


def test_a_host_begins_to_fail_and_is_repaired(site: Site) -> None:
    """Pending, firing, shown by Alertmanager with its annotations, resolved; what it implies is inhibited."""
    name, labels = "TDXInitFailed", {"instance": site.instance}
    wait_for("scrape", lambda: site.prometheus.query(f'tdx_verdict{{instance="{site.instance}"}}'))
    assert site.prometheus.alerts(name, "firing", **labels) == []
    site.become("emerald-rapids")
    wait_for("firing alert", lambda: site.prometheus.alerts(name, "firing", **labels))
    alert = wait_for("alert in Alertmanager", lambda: site.seen_by_alertmanager(name, **labels))
    assert alert["labels"] == {
        "alertname": name,
        "cluster": "test",
        "job": "tdx-headroom",
        "severity": "critical",
        "reason": "reserved-areas-exhausted",
        "errno": "-28",
        **labels,
    }
    assert alert["annotations"] == {
        "summary": f"TDX failed to initialize on {site.instance} in this boot.",
        "description": f"On {site.instance} TDX failed to initialize in this boot: reserved-areas-exhausted"
        " (errno -28). It runs no confidential guests.",
        "runbook_url": "https://tdx-headroom.example/docs/runbooks/TDXInitFailed.md",
    }
    assert alert["status"]["state"] == "active"
    assert [receiver["name"] for receiver in alert["receivers"]] == ["on-call"]

    def history(state: str) -> list[Any]:
        series = f'ALERTS{{alertname="{name}",instance="{site.instance}",alertstate="{state}"}}[10m]'
        return [stamp for result in site.prometheus.query(series) for stamp, _ in result["values"]]

    assert history("pending")
    assert min(history("pending")) < min(history("firing"))

    for implied in ("TDXReservedAreasExhausted", "TDXHeadroomShrank"):
        if implied == "TDXHeadroomShrank":
            # No captured host has lost headroom since its last boot: this one Alertmanager is told by hand.
            words = ["alert", "add", implied, "severity=warning", "cluster=test", f"instance={site.instance}"]
            subprocess.run(
                ["amtool", f"--alertmanager.url=http://{site.alertmanager.address}", *words],
                check=True,
                capture_output=True,
            )

        def inhibited(implied: str = implied) -> bool:
            found = site.seen_by_alertmanager(implied, **labels)
            return bool(found and found["status"]["inhibitedBy"] and found["status"]["state"] == "suppressed")

        wait_for(f"inhibition of {implied}", inhibited)

    site.become("good-2-node")
    wait_for("end of the alert", lambda: not site.prometheus.alerts(name, "firing", **labels))
    wait_for("end in Alertmanager", lambda: site.seen_by_alertmanager(name, **labels) is None)


def test_a_kernel_is_staged_that_loses_tdx(site: Site) -> None:
    """The host is in good order and alerts about its next boot alone, until another entry is chosen."""
    name, labels = "TDXNextBootWillFail", {"job": "tdx-headroom-staged"}
    wait_for("firing alert", lambda: site.prometheus.alerts(name, "firing", **labels))
    alert = wait_for("alert in Alertmanager", lambda: site.seen_by_alertmanager(name, **labels))
    assert alert["labels"]["severity"] == "critical"
    assert alert["labels"]["verdict"] == "will-fail"
    assert [receiver["name"] for receiver in alert["receivers"]] == ["on-call"]
    assert {
        result["metric"]["alertname"] for result in site.prometheus.query('ALERTS{job="tdx-headroom-staged"}')
    } - {"TDXAgentDown"} == {name}
    (info,) = site.prometheus.query('tdx_next_boot_info{job="tdx-headroom-staged"}')
    assert info["metric"]["kernel_release"] == "6.12.0-1-amd64"


def test_other_hosts_alert_for_themselves_only(site: Site) -> None:
    """A host that fails alerts; one in good order and one without TDX do not."""

    def granite() -> list[dict[str, Any]]:
        return site.prometheus.alerts("TDXInitFailed", "firing", job="tdx-headroom-plain")

    (alert,) = wait_for("alert of the Granite Rapids host", granite)
    query = 'tdx_host_info{kernel_release="6.14.0-1009-intel",job="tdx-headroom-plain"}'
    (info,) = wait_for("scrape", lambda: site.prometheus.query(query))
    assert alert["labels"]["instance"] == info["metric"]["instance"]
    quiet = {
        result["metric"]["instance"]
        for result in site.prometheus.query('tdx_host_info{job="tdx-headroom-plain"}')
    } - {alert["labels"]["instance"]}
    # On a machine that is too busy a scrape may come too late: that is TDXAgentDown's business.
    firing = site.prometheus.query('ALERTS{job="tdx-headroom-plain",alertname!="TDXAgentDown"}')
    assert not quiet & {result["metric"]["instance"] for result in firing}


def test_node_exporter_carries_the_textfile(site: Site) -> None:
    """node_exporter serves what `tdx-headroom textfile` wrote, and an alert comes out of it."""
    textfiles = site.changing.with_name("textfiles")
    command = [
        sys.executable,
        "-m",
        "tdx_headroom",
        "textfile",
        "--path.rootfs",
        str(HOSTS / "emerald-rapids"),
    ]
    subprocess.run([*command, "--output", str(textfiles / "tdx-headroom.prom")], check=True)
    text = site.node_exporter.text("/metrics")
    assert "\nnode_textfile_scrape_error 0\n" in text
    assert '\ntdx_reserved_areas_headroom_min{strategy="memory-regions"} -1\n' in text
    assert "# TYPE tdx_headroom_kernel_log_untrusted_records_total counter" in text
    wait_for("alert from the textfile", lambda: site.prometheus.alerts("TDXInitFailed", "firing", job="node"))


MAY_BE_EMPTY = {
    "tdx_memory_offline_bytes": "no captured host has memory that was added late",
    "tdx_reserved_areas_headroom_min_own_kernel_last_boot": "no captured host has been booted twice",
    "tdx_firmware_step_reserved_areas": "the same",
}
"""Queries that return nothing here, by what they contain, and why."""


def expanded(query: str, instance: str = ".+", strategy: str = "memory-regions") -> str:
    """A query as Grafana would send it."""
    for name, value in (
        ("$__rate_interval", "1m"),
        ("$job", ".+"),
        ("$instance", instance),
        ("$strategy", strategy),
    ):
        query = query.replace(name, value)
    assert "$" not in query
    return query


@pytest.mark.parametrize("name", DASHBOARDS)
def test_every_query_of_every_panel_returns_data(site: Site, name: str) -> None:
    """Prometheus has an answer to each query of the dashboards, for a host that has what the panel shows."""
    wait_for("failing host", lambda: site.prometheus.alerts("TDXInitFailed", "firing"))
    titles = {
        (panel["title"], target["expr"])
        for panel in panels_of(DASHBOARDS[name])
        for target in panel["targets"]
    }
    assert len(titles) > 15
    for title, query in sorted(titles):
        asked = expanded(query)
        if any(part in asked for part in MAY_BE_EMPTY):
            site.prometheus.query(asked)
            continue
        wait_for(f"data for {title}: {asked}", lambda asked=asked: site.prometheus.query(asked))  # type: ignore[misc]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_every_variable_has_values(site: Site, name: str) -> None:
    """The label that each variable takes its values from is there."""
    for variable in DASHBOARDS[name]["templating"]["list"]:
        if variable["type"] == "query":
            metric, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"]).groups()  # type: ignore[union-attr]

            def values(metric: str = metric, label: str = label) -> set[str]:
                return {r["metric"].get(label) for r in site.prometheus.query(expanded(metric))} - {None}

            assert wait_for(f"values of {variable['name']}", values)


def test_a_prometheus_above_gets_few_series(site: Site) -> None:
    """What the example of a global Prometheus asks for is there, and names hosts in alerts only."""
    example = yaml.safe_load((PACKAGING / "prometheus" / "prometheus-global.yml").read_text("utf-8"))
    (scrape,) = example["scrape_configs"]
    words = urllib.parse.urlencode({"match[]": scrape["params"]["match[]"]}, doseq=True)

    def federated() -> list[Any]:
        text = site.prometheus.text(f"{scrape['metrics_path']}?{words}")
        return [s for family in text_string_to_metric_families(text) for s in family.samples]

    def complete() -> list[Any] | None:
        samples = federated()
        return samples if {"ALERTS", "job_verdict:tdx_verdict:sum"} <= {s.name for s in samples} else None

    samples = wait_for("federated series", complete)
    assert {s.labels["cluster"] for s in samples} == {"test"}
    assert {s.name for s in samples if s.labels.get("instance")} == {"ALERTS"}
