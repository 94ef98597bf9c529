# SPDX-License-Identifier: Apache-2.0
"""Runs the real agent as a process and talks to it."""

from __future__ import annotations

import base64
import http.client
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from tests.integration.servers import wait_for
from tests.tools.ports import free_port
from tests.tools.scrape import EVERYTHING

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

SECONDS = 60.0
"""That a busy machine may take for what takes a fraction of one."""


@dataclass
class Running:
    """A running agent.

    Args:
        process: of the agent.
        port: that it listens on.
        stderr: the file that its log goes to. Not a pipe: of that a busy machine may read a line late, after
            the agent has answered the next request.
    """

    process: subprocess.Popen[bytes]
    port: int
    stderr: Path

    @property
    def log(self) -> list[str]:
        """The lines that it has logged so far."""
        lines = self.stderr.read_text("utf-8").splitlines(keepends=True)
        return [line for line in lines if line.endswith("\n")]

    def get(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, dict[str, str], str]:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                return answer.status, dict(answer.headers), answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, dict(error.headers), error.read().decode()

    def samples(self, path: str = EVERYTHING) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        text = self.get(path)[2]
        families = text_string_to_metric_families(text)
        return {(s.name, tuple(sorted(s.labels.items()))): s.value for f in families for s in f.samples}

    def value(self, name: str, **labels: str) -> float | None:
        return self.samples().get((name, tuple(sorted(labels.items()))))

    def wait_for_value(self, name: str, least: float) -> None:
        """Wait until a metric has at least this value."""
        wait_for(f"{name} of {least}", lambda: (self.value(name) or 0) >= least)

    def wait_for(self, text: str, seconds: float = SECONDS) -> str:
        end = time.monotonic() + seconds
        ended = False
        while not ended and time.monotonic() < end:
            ended = self.process.poll() is not None
            for line in self.log:
                if text in line:
                    return line
            time.sleep(0.01)
        raise AssertionError(f"no {text!r} in the agent's log:\n" + "".join(self.log))


def _own_files(arguments: tuple[str, ...]) -> bool:
    """Whether the agent gets files or folders of the test."""
    flags = {"--path.rootfs", "--state-directory", "--web.config.file"} & set(arguments)
    return "--user" not in arguments and bool(flags or any(a.startswith("unix:") for a in arguments))


@contextmanager
def agent(
    *arguments: str,
    command: str = "serve",
    before: list[str] | None = None,
    program: tuple[str, ...] = ("-m", "tdx_headroom"),
) -> Iterator[Running]:
    """The agent with these arguments, ready; it must end with status 0 on SIGTERM."""
    port = free_port()
    # Scratch folders of a test are its user's alone: an agent that gave up root could not read them.
    keep_root = ("--user", "root") if os.geteuid() == 0 and not before and _own_files(arguments) else ()
    with tempfile.NamedTemporaryFile(prefix="tdx-headroom-log-") as log:
        process = subprocess.Popen(
            [
                *(before or []),
                sys.executable,
                *program,
                command,
                "--web.listen-address",
                f"127.0.0.1:{port}",
                *arguments,
                *keep_root,
            ],
            stderr=log,
            stdout=subprocess.DEVNULL,
        )
        running = Running(process, port, Path(log.name))
        try:
            running.wait_for('"msg": "serving"' if "json" in arguments else "msg=serving")
            yield running
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            assert process.wait(SECONDS) == 0, "".join(running.log)
        finally:
            process.kill()
            process.wait()


def scrape_status(port: int, context: ssl.SSLContext | None, headers: dict[str, str]) -> int:
    """The status of a scrape; 0: there was no answer. No context: over plain HTTP."""
    connection = (
        http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
        if context is None
        else http.client.HTTPSConnection("127.0.0.1", port, timeout=SECONDS, context=context)
    )
    with closing(connection):
        try:
            connection.request("GET", "/metrics", headers=headers)
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            return 0
        return answer.status


def basic(user: str, password: str = "secret") -> dict[str, str]:
    """The header that gives a name and a password."""
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}
