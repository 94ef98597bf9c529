# SPDX-License-Identifier: Apache-2.0
"""The init script, with the real start-stop-daemon and the real agent, in folders of its own."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.packaging.conftest import CHECKOUT
from tests.tools.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPT = CHECKOUT / "packaging/debian/tdx-headroom.init"
pytestmark = [
    pytest.mark.program("start-stop-daemon"),
    pytest.mark.root("starts and stops services"),
    pytest.mark.skipif(not Path("/lib/lsb/init-functions").exists(), reason="no lsb-base here"),
]


@dataclass
class Service:
    """The script, and the files that it uses."""

    script: Path
    pidfile: Path

    def __call__(self, verb: str) -> int:
        return subprocess.run(["sh", self.script, verb], capture_output=True, timeout=120).returncode

    @property
    def pid(self) -> int:
        return int(self.pidfile.read_text())


@pytest.fixture
def service() -> Iterator[Service]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        daemon = folder / "tdx-headroom"
        daemon.write_text(
            f"#!{sys.executable}\nimport sys\nfrom tdx_headroom.cli import main\nsys.exit(main())\n"
        )
        daemon.chmod(0o755)
        settings = folder / "default"
        settings.write_text(f'ARGS="--web.listen-address 127.0.61.1:{free_port()}"\n')
        text = SCRIPT.read_text()
        for path, own in (
            ("/usr/bin/tdx-headroom", daemon),
            ("/run/tdx-headroom.pid", folder / "pid"),
            ("/var/log/tdx-headroom.log", folder / "log"),
            ("/etc/default/tdx-headroom", settings),
        ):
            assert path in text
            text = text.replace(path, str(own))
        (folder / "init").write_text(text)
        made = Service(folder / "init", folder / "pid")
        try:
            yield made
        finally:
            made("stop")


def serving(service: Service) -> None:
    """Wait until the agent has been started, and does its work."""
    log = service.pidfile.with_name("log")
    end = time.monotonic() + 60
    while not log.exists() or "msg=serving" not in log.read_text():
        assert time.monotonic() < end, log.read_text() if log.exists() else "no log"
        time.sleep(0.05)


def test_from_start_to_stop(service: Service) -> None:
    """Started once however often it is told to, and stopped."""
    assert service("status") == 3
    assert service("start") == 0
    serving(service)
    pid = service.pid
    assert service("start") == 0
    assert (service.pid, service("status"), service("reload")) == (pid, 0, 0)
    assert "\nUid:\t0\t" not in Path(f"/proc/{pid}/status").read_text()
    assert service("stop") == 0
    assert not Path(f"/proc/{pid}").exists()
    assert service("status") == 3
    assert service("stop") == 0


@pytest.mark.parametrize("verb", ["stop", "reload", "restart", "force-reload", "status", "start"])
def test_the_number_of_another(verb: str, service: Service) -> None:
    """A PID file that was left behind, and whose number another process has by now, harms nobody."""
    other = shutil.which("sleep")
    assert other is not None
    with subprocess.Popen([other, "300"]) as process:
        try:
            service.pidfile.write_text(f"{process.pid}\n")
            service(verb)
            assert process.poll() is None
            if verb in ("restart", "force-reload", "start"):
                serving(service)
                assert service.pid != process.pid
            elif verb == "status":
                assert service("status") != 0
        finally:
            process.send_signal(signal.SIGKILL)
