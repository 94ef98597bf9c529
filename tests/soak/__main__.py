# SPDX-License-Identifier: Apache-2.0
"""Two agents under constant trouble, for as long as is wanted: `python -m tests.soak --help`.

One shows this machine, whose log is flooded and whose memory blocks send uevents; the other a captured host
whose files disappear, change and fail. Both are scraped all the time. Memory, descriptors and threads must be
flat: the exit status says whether they are. Needs root.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.bench.programs import REQUEST, Client, Program, agent, running, status
from tests.soak.plot import Panel, render
from tests.soak.trouble import Captured, Live
from tests.tools.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

TICK = 0.1
PAGES = (REQUEST, REQUEST.replace(b"gzip", b"identity"), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
SETTLED = 1 / 3
"""The share of the time after which nothing may grow any more."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--svg", type=Path, help="where to draw the curves")
    parser.add_argument("--json", type=Path, help="where to write the samples")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("the soak writes to /dev/kmsg and mounts: run it as root", file=sys.stderr)
        return 1
    samples = list(soak(options.minutes * 60))
    if options.json:
        options.json.write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    if options.svg:
        options.svg.write_text(draw(samples))
    return judge(samples)


def soak(seconds: float) -> Iterator[dict[str, Any]]:
    """Samples, about two hundred of them."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.chmod(0o755)
        captured, live = Captured(folder / "host"), Live()
        stack.callback(captured.heal)
        ports = free_port(), free_port()
        programs = {
            "live host": stack.enter_context(
                running(
                    agent(ports[0], "--path.rootfs", "/", "--refresh-interval", "10s"), ports[0], root=True
                )
            ),
            "captured host": stack.enter_context(
                running(agent(ports[1], "--path.rootfs", str(captured.root)), ports[1])
            ),
        }
        clients = {name: Client(program.port) for name, program in programs.items()}
        scrapes = 0
        began = time.monotonic()
        for tick in range(sys.maxsize):
            elapsed = time.monotonic() - began
            if elapsed > seconds:
                return
            for client in clients.values():
                client.scrape(PAGES[tick % len(PAGES)])
                scrapes += 1
            if tick % 100 == 0:
                live.burst()
            if tick % 20 == 0:
                captured.flood()
            if tick % 30 == 0:
                live.uevent()
            if tick % 7 == 0:
                captured.turn()
                programs["captured host"].process.send_signal(signal.SIGHUP)
            if tick % max(1, int(seconds / 200 / TICK)) == 0:
                sample = {name: look(program) for name, program in programs.items()}
                counts = {
                    "scrapes": scrapes,
                    "records": live.records + captured.records,
                    "uevents": live.uevents,
                }
                yield {"minute": elapsed / 60, **sample, **counts, "changes": captured.turns}
            time.sleep(max(0, began + (tick + 1) * TICK - time.monotonic()))


def look(program: Program) -> dict[str, float]:
    """What a process holds: resident memory in MiB, descriptors, threads; and its CPU time."""
    process = Path(f"/proc/{program.pid}")
    return {
        "rss": status(program.pid, "VmRSS") / 1024,
        "fds": len(list((process / "fd").iterdir())),
        "threads": len(list((process / "task").iterdir())),
        "cpu": program.cpu_seconds(),
    }


def draw(samples: list[dict[str, Any]]) -> str:
    panels = [
        Panel(title, {name: [s[name][key] for s in samples] for name in ("live host", "captured host")})
        for title, key in (("resident memory, MiB", "rss"), ("descriptors", "fds"), ("threads", "threads"))
    ]
    last = samples[-1]
    title = (
        f"{last['minute']:.0f} minutes: {last['scrapes']} scrapes, {last['records']} log records,"
        f" {last['uevents']} memory uevents, {last['changes']} changes and faults of sources"
    )
    return render(title, [s["minute"] for s in samples], panels)


def judge(samples: list[dict[str, Any]]) -> int:
    """Print what was measured; 1 when something has grown since the first third."""
    settled = [s for s in samples if s["minute"] >= samples[-1]["minute"] * SETTLED]
    flat = True
    for name in ("live host", "captured host"):
        first, last = settled[: len(settled) // 4 or 1], settled[-(len(settled) // 4 or 1) :]
        for key, room in (("rss", 1.02), ("fds", 1.0), ("threads", 1.0)):
            before, after = (max(s[name][key] for s in part) for part in (first, last))
            grown = after > before * room
            flat = flat and not grown
            print(f"{name}: {key} {before:g} after a third, {after:g} at the end{': GROWN' if grown else ''}")
        print(f"{name}: {samples[-1][name]['cpu']:.1f} s of CPU time in {samples[-1]['minute']:.1f} minutes")
    print({key: value for key, value in samples[-1].items() if isinstance(value, int)})
    return 0 if flat else 1


if __name__ == "__main__":
    sys.exit(main())
