# SPDX-License-Identifier: Apache-2.0
"""The agent on this very kernel: its log followed, its knowledge kept."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from tests.integration.agent import agent
from tests.integration.recorded import record


def writable_kmsg() -> bool:
    return os.access("/dev/kmsg", os.R_OK | os.W_OK) and os.geteuid() == 0


needs_kmsg = pytest.mark.skipif(not writable_kmsg(), reason="only root can write to /dev/kmsg")


@needs_kmsg
def test_a_forged_line_is_counted_at_once_and_changes_nothing() -> None:
    """User space's TDX line in the kernel's log shows in the counter, without the timer, and nowhere else."""
    with agent("--refresh-interval", "1h") as running:
        before = running.samples()
        counter = "tdx_headroom_kernel_log_untrusted_records_total"
        count = running.value(counter)
        assert count is not None
        Path("/dev/kmsg").write_text("virt/tdx: module initialized\n")
        running.wait_for_value(counter, count + 1)
        changed = {
            name
            for (name, labels), value in running.samples().items()
            if before.get((name, labels)) != value and not name.startswith(("process_", "python_"))
        }
        assert changed <= {
            counter,
            "tdx_headroom_assessment_timestamp_seconds",
            "tdx_headroom_assessment_duration_seconds",
            "tdx_headroom_source_read_timestamp_seconds",
        } | {name for name in changed if name.startswith("tdx_headroom_http")}


def first_record() -> int:
    """The number of the oldest record there is; not 0 on a machine that has logged much since its boot."""
    fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    try:
        return int(os.read(fd, 1 << 16).split(b",")[1])
    finally:
        os.close(fd)


@needs_kmsg
def test_state_is_kept_over_restarts(tmp_path: Path) -> None:
    """What was learnt is on disk, and a restarted agent begins with it."""
    arguments = ("--state-directory", str(tmp_path))
    with agent(*arguments) as running:
        assert running.value("tdx_headroom_state_write_success") == 1
        regions = running.value("tdx_memory_regions")
    kept = (tmp_path / "state.json").read_bytes()
    for _ in range(3):
        with agent(*arguments) as running:
            assert running.value("tdx_memory_regions") == regions
            assert running.value("tdx_headroom_kernel_log_records_lost_total") == 0
    assert b'"boot_id"' in kept
    if first_record() == 0:
        assert b"virt" in kept or b"node   0" in kept
    assert list(tmp_path.iterdir()) == [tmp_path / "state.json"]


@needs_kmsg
def test_a_state_from_the_future(tmp_path: Path) -> None:
    """A state that knows of records the kernel has not logged yet does not make the agent deaf."""
    with agent("--state-directory", str(tmp_path)):
        pass
    path = tmp_path / "state.json"
    state = json.loads(path.read_text())
    state["current"]["last_seq"] = 10**9
    path.write_text(json.dumps(state))
    with agent("--state-directory", str(tmp_path), "--refresh-interval", "1h") as running:
        running.wait_for("the state kept before cannot be used")
        counter = "tdx_headroom_kernel_log_untrusted_records_total"
        count = running.value(counter)
        assert count is not None
        Path("/dev/kmsg").write_text("virt/tdx: module initialized\n")
        running.wait_for_value(counter, count + 1)
    assert json.loads(path.read_text())["current"]["last_seq"] < 10**9
    assert json.loads((tmp_path / "state.json.corrupt").read_text())["current"]["last_seq"] == 10**9
    record(
        "state that goes beyond the kernel's log (a virtual machine set back to a snapshot)",
        "says so, sets it aside, reads the log from its beginning",
    )


def test_idle_costs_nothing(tmp_path: Path) -> None:
    """With nothing to do the process is not woken up; other programs may write to the log of the machine."""
    with agent("--refresh-interval", "1h", "--state-directory", str(tmp_path)) as running:
        running.get("/-/ready")
        time.sleep(0.3)

        def switches() -> int:
            status = Path(f"/proc/{running.process.pid}/status").read_text()
            return int(status.split("voluntary_ctxt_switches:")[1].split()[0])

        woken: list[int] = []
        while len(woken) < 20 and min(woken, default=9) > 2:
            before = switches()
            time.sleep(1.5)
            woken.append(switches() - before)
        assert min(woken) <= 2, woken


def test_tdx_before_the_agent_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent that knows no boot before this one asks the journal, and tells that TDX has gone."""
    entry = {"_TRANSPORT": "kernel", "PRIORITY": "6", "_SOURCE_MONOTONIC_TIMESTAMP": "1"}
    messages = ("virt/tdx: BIOS enabled: private KeyID range [32, 64)", "virt/tdx: module initialized")
    rows = [json.dumps({**entry, "SYSLOG_FACILITY": "0", "MESSAGE": message}) for message in messages]
    (tmp_path / "before").write_text("".join(f"{row}\n" for row in rows))
    journalctl = tmp_path / "journalctl"
    asked = f'case "$*" in *--boot=-1*) exec /bin/cat {tmp_path}/before;; esac'
    journalctl.write_text(f"#!/bin/sh\n{asked}\nexit 1\n")
    journalctl.chmod(0o755)
    state = tmp_path / "state"
    state.mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for _ in range(2):
        with agent("--state-directory", str(state)) as running:
            running.wait_for_value("tdx_gone_since_last_boot", 1)
        # What has been learnt is kept.
        journalctl.write_text("#!/bin/sh\nexit 1\n")
