# SPDX-License-Identifier: Apache-2.0
"""The real agent on real input, over HTTP."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.integration.agent import SECONDS, agent
from tests.tools.ports import free_port

HOSTS = Path(__file__).parents[1] / "hosts"
IS_ROOT = os.geteuid() == 0
needs_root = pytest.mark.root("sees addresses in /proc/iomem")


def iomem_pages() -> int:
    """Bytes of System RAM in /proc/iomem from 1 MiB on, in whole pages; written without the agent's code."""
    spans: list[list[int]] = []
    for line in Path("/proc/iomem").read_text().splitlines():
        match = re.fullmatch(r" *([0-9a-f]+)-([0-9a-f]+) : System RAM( \(.*\))?", line)
        if match:
            start, end = int(match[1], 16), int(match[2], 16) + 1
            if spans and spans[-1][1] == start:
                spans[-1][1] = end
            else:
                spans.append([start, end])
    pages = ((max(-(-start // 4096) * 4096, 1 << 20), end // 4096 * 4096) for start, end in spans)
    return sum(end - start for start, end in pages if end > start)


@needs_root
def test_live_memory_is_iomems() -> None:
    """As root the memory in the plan is /proc/iomem's System RAM above 1 MiB."""
    with agent() as running:
        assert running.value("tdx_memory_bytes") == iomem_pages()
        assert running.value("tdx_headroom_source_success", source="iomem") == 1
        plan = json.loads(running.get("/api/v1/plan")[2])
        assert plan["strategies"]["memory-regions"]["errno"] == 0


@needs_root
def test_without_root_it_serves_and_falls_back() -> None:
    """Without privileges it says which source failed and why, and plans with another source."""
    before = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    runs = [sys.executable, "-c", "import tdx_headroom.service.daemon"]
    subprocess.run(runs, check=True)
    if subprocess.run([*before, *runs], check=False, capture_output=True).returncode:
        pytest.skip("this Python or this checkout cannot be read by another user")
    with agent(before=before) as running:
        line = running.wait_for("source=iomem")
        assert "not privileged" in line
        assert running.value("tdx_headroom_source_success", source="iomem") == 0
        assert running.value("tdx_headroom_source_success", source="firmware-memmap") == 1
        assert running.value("tdx_reserved_areas_headroom_min", strategy="memory-regions") is not None


def test_demo_shows_the_original_report() -> None:
    """`tdx-headroom demo` serves the host on which TDX misses by one area."""
    with agent(command="demo") as running:
        worst = running.value("tdx_reserved_areas_headroom_min", strategy="memory-regions")
        assert worst is not None
        assert worst < 0
        assert running.value("tdx_module_state", state="failed") == 1
        assert (
            "17 reserved areas of 16" in running.get("/")[2] or "reserved areas of 16" in running.get("/")[2]
        )


def test_every_address_answers() -> None:
    """Page, style, metrics in both formats, plan, health; nothing else, and nothing echoed."""
    with agent(command="demo") as running:
        expected = {
            "/": ("text/html; charset=utf-8", "<h1>"),
            "/style.css": ("text/css; charset=utf-8", "body"),
            "/metrics": ("text/plain", "# HELP tdx_tdmrs "),
            "/api/v1/plan": ("application/json", '"tdx-headroom/plan/1"'),
            "/-/healthy": ("text/plain; charset=utf-8", "ok"),
            "/-/ready": ("text/plain; charset=utf-8", "ok"),
        }
        for path, (kind, text) in expected.items():
            status, headers, body = running.get(path)
            assert status == 200
            assert headers["Content-Type"].startswith(kind), path
            assert text in body
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert "default-src 'none'" in headers["Content-Security-Policy"]
        openmetrics = running.get("/metrics", {"Accept": "application/openmetrics-text; version=1.0.0"})
        assert openmetrics[1]["Content-Type"].startswith("application/openmetrics-text")
        assert openmetrics[2].endswith("# EOF\n")
        assert running.get("/metrics?name[]=nothing")[2].count("\ntdx_tdmrs{") == 1
        assert running.get("/metrics?collect[]=strategies")[2].count("\ntdx_tdmrs{") == 2
        status, headers, body = running.get("/<script>alert(1)</script>")
        assert (status, body) == (404, "404\n")
        assert headers["X-Frame-Options"] == "DENY"


def test_over_tcp_no_fine_address_is_shown() -> None:
    """The plan over TCP has no address finer than 1 GiB, unless asked for."""

    def fine_addresses(value: object) -> list[int]:
        if isinstance(value, dict):
            sized = ("size", "pamt_kib", "not_convertible_bytes", "size_4k", "size_2m", "size_1g")
            return [a for k, v in value.items() if k not in sized for a in fine_addresses(v)]
        if isinstance(value, list):
            return [a for v in value for a in fine_addresses(v)]
        is_fine = isinstance(value, int) and value > 1 << 20 and value % (1 << 30)
        return [value] if is_fine and isinstance(value, int) else []

    with agent(command="demo") as running:
        assert fine_addresses(json.loads(running.get("/api/v1/plan")[2])) == []
        assert "0x6f800000" not in running.get("/")[2]
    with agent("--web.full-addresses", command="demo") as running:
        assert fine_addresses(json.loads(running.get("/api/v1/plan")[2]))


def test_sighup_reads_the_host_anew(tmp_path: Path) -> None:
    """After SIGHUP a changed host shows; a scrape alone reads nothing."""
    root = tmp_path / "host"
    shutil.copytree(HOSTS / "good-2-node", root)
    with agent("--path.rootfs", str(root), "--refresh-interval", "1h") as running:
        before = running.value("tdx_memory_regions")
        for name in ("sys/kernel/debug/memblock/memory", "dev/kmsg"):
            (root / name).unlink(missing_ok=True)
        iomem = root / "proc/iomem"
        iomem.write_text("00100000-3fffffff : System RAM\n")
        assert running.value("tdx_memory_regions") == before
        running.process.send_signal(signal.SIGHUP)
        end = time.monotonic() + SECONDS
        while running.value("tdx_memory_regions") != 1 and time.monotonic() < end:
            time.sleep(0.02)
        assert running.value("tdx_memory_regions") == 1
        assert running.value("tdx_headroom_source_success", source="memblock") == 0


def test_the_timer_reads_the_host_anew(tmp_path: Path) -> None:
    """The slow timer notices a change by itself, and a broken source is named while the others serve."""
    root = tmp_path / "host"
    shutil.copytree(HOSTS / "good-2-node", root)
    with agent("--path.rootfs", str(root), "--refresh-interval", "100ms") as running:
        new = tmp_path / "iomem"
        new.write_text("garbage\n")
        new.replace(root / "proc/iomem")
        line = running.wait_for("source failed")
        assert "iomem line 1: not a row" in line
        assert running.value("tdx_headroom_source_success", source="iomem") == 0
        assert running.value("tdx_headroom_source_success", source="memblock") == 1


def test_a_taken_port_is_one_line() -> None:
    """An address that cannot be bound ends the agent with one line and EX_UNAVAILABLE."""
    port = free_port()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        run = subprocess.run(
            [sys.executable, "-m", "tdx_headroom", "demo", "--web.listen-address", f"127.0.0.1:{port}"],
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
    assert run.returncode == os.EX_UNAVAILABLE
    assert run.stderr.splitlines()[-1].startswith(f"tdx-headroom: cannot listen on 127.0.0.1:{port}")
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stops_cleanly(number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM end it with status 0 and a last line."""
    with agent(command="demo") as running:
        running.process.send_signal(number)
        assert running.process.wait(SECONDS) == 0
        running.wait_for("msg=stopped")


def test_json_log_is_json() -> None:
    """--log.format json writes one JSON object a line."""
    port = free_port()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "tdx_headroom", "demo", "--log.format", "json"),
            *("--web.listen-address", f"127.0.0.1:{port}"),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    with process:
        seen = []
        for line in process.stderr:
            seen.append(json.loads(line))
            if seen[-1]["msg"] == "serving":
                process.terminate()
    assert {"ts", "level", "msg"} <= set(seen[0])
    assert process.returncode == 0
