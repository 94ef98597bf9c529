# SPDX-License-Identifier: Apache-2.0
"""From a record in the kernel's log to the scrape that shows it."""

from __future__ import annotations

import json
import os
import random
import re
import statistics
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.programs import PYTHON, REQUEST, THIS_HOST, Client, agent, running
from tests.bench.serving import percentile
from tests.bench.table import Row
from tests.tools.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

KMSG = Path("/dev/kmsg")
COUNTER = re.compile(rb"^tdx_headroom_kernel_log_untrusted_records_total ([0-9.]+)", re.MULTILINE)
PLAIN = REQUEST.replace(b"gzip", b"identity").replace(b"application/openmetrics-text", b"x/x")

FOLLOW = """
import json, os, select, sys, time
fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
os.lseek(fd, 0, os.SEEK_END)
print(flush=True)
while True:
    select.select([fd], [], [])
    try:
        record = os.read(fd, 65536)
    except OSError:
        continue
    if b"of the benchmark" in record:
        print(json.dumps(time.monotonic()), flush=True)
"""
"""What a program does that only waits for records and reads them."""


def records(count: int) -> Iterator[Row]:
    """Forged TDX lines, which go the way of the kernel's own, up to the counter that tells of them."""
    if os.geteuid() != 0 or not KMSG.is_char_device():
        return
    port = free_port()
    command = agent(port, *THIS_HOST)
    with (
        running(command, port, root=True),
        subprocess.Popen([PYTHON, "-c", FOLLOW], stdout=subprocess.PIPE) as follower,
    ):
        assert follower.stdout is not None
        follower.stdout.readline()
        client = Client(port)
        own, peer = [], []
        for number in range(count):
            time.sleep(random.uniform(0.1, 0.4))
            before = _counted(client)
            written = time.monotonic()
            # A new descriptor each time: the kernel takes ten records in five seconds from each.
            KMSG.write_text(f"<5>virt/tdx: record {number} of the benchmark\n")
            while _counted(client) == before:
                if time.monotonic() > written + 10:
                    raise RuntimeError("the record is not shown")
            own.append((time.monotonic() - written) * 1e3)
            peer.append((json.loads(follower.stdout.readline()) - written) * 1e3)
        follower.kill()
    against = "only reading it"
    yield Row("record to metric, p50", statistics.median(own), statistics.median(peer), against, "ms")
    yield Row(
        "record to metric, p99",
        percentile(own, 0.99),
        percentile(peer, 0.99),
        against,
        "ms",
        50,
        of_ratio=False,
    )


def _counted(client: Client) -> float:
    match = COUNTER.search(client.scrape(PLAIN))
    assert match is not None
    return float(match[1])
