# SPDX-License-Identifier: Apache-2.0
"""Runs in the guest, as root: takes commands and files through a virtio port, a JSON object a line.

To run a command:  {"id": 1, "run": "uname -r", "timeout": 60}
To write a file:   {"id": 2, "write": "/etc/x", "mode": 420, "data": "in base64"}
The answer:        {"id": 1, "status": 0, "output": "6.12.0"}
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

PORT = "vm-test"


def _find_port() -> int:
    while True:
        for port in Path("/sys/class/virtio-ports").glob("vport*"):
            if (port / "name").read_text().strip() == PORT:
                return os.open(f"/dev/{port.name}", os.O_RDWR)
        time.sleep(0.05)


def _send(port: int, answer: dict[str, Any]) -> None:
    data = json.dumps(answer).encode() + b"\n"
    while data:
        data = data[os.write(port, data) :]


def _carry_out(request: dict[str, Any]) -> tuple[int, str]:
    if "write" in request:
        path = Path(request["write"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(request["data"]))
        path.chmod(request["mode"])
        return 0, ""
    done = subprocess.run(
        ["bash", "-c", request["run"]],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=request["timeout"],
    )
    return done.returncode, done.stdout.decode("utf-8", "replace")


def _serve() -> None:
    port = _find_port()
    _send(port, {"id": 0, "status": 0, "output": ""})
    waiting = b""
    while True:
        data = os.read(port, 1 << 16)
        if not data:
            time.sleep(0.1)
        waiting += data
        while b"\n" in waiting:
            line, waiting = waiting.split(b"\n", 1)
            request = json.loads(line)
            try:
                status, output = _carry_out(request)
            except (OSError, ValueError, subprocess.TimeoutExpired) as error:
                status, output = -1, repr(error)
            _send(port, {"id": request["id"], "status": status, "output": output})


if __name__ == "__main__":
    _serve()
