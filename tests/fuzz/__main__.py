# SPDX-License-Identifier: Apache-2.0
"""Fuzzes every target for a time: `make fuzz SECONDS=60`, or `python -m tests.fuzz --help`.

Needs atheris (`pip install --group fuzz`). What is learnt is kept in the cache and gone on from the next
time. An input that makes a target raise is kept in tests/fuzz/found, where the unit tests run it for ever.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.fuzz.targets import FOUND, LONGEST, TARGETS

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tdx-headroom" / "fuzz"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--only", action="append", choices=list(TARGETS), help="repeatable")
    options = parser.parse_args()
    bad = []
    print(f"{'target':24}  {'executions':>12}  {'a second':>9}  {'corpus':>7}")
    for name in options.only or TARGETS:
        run = fuzz(name, options.seconds)
        found = keep(name)
        count = _number(r"number_of_executed_units: *([0-9]+)", run)
        rate = _number(r"average_exec_per_sec: *([0-9]+)", run)
        size = len(list((CACHE / name / "corpus").iterdir()))
        print(f"{name:24}  {count:12}  {rate:9}  {size:7}  {' '.join(found)}", flush=True)
        if found or not count:
            bad.append(name)
            print(run[-3000:], file=sys.stderr)
    return 1 if bad else 0


def fuzz(name: str, seconds: int) -> str:
    """What the fuzzer printed."""
    corpus, seeds, crashes = (CACHE / name / part for part in ("corpus", "seeds", "crashes"))
    for folder in (corpus, seeds, crashes):
        folder.mkdir(parents=True, exist_ok=True)
    for data in TARGETS[name].inputs(name):
        for part in {data[:LONGEST], *data.splitlines(keepends=True)[:20]}:
            (seeds / hashlib.sha1(part, usedforsecurity=False).hexdigest()).write_bytes(part)
    command = [sys.executable, "-m", "tests.fuzz.one", name, str(corpus), str(seeds)]
    limits = ["-timeout=20", "-rss_limit_mb=1024", f"-max_len={LONGEST}", f"-max_total_time={seconds}"]
    prints = ["-print_final_stats=1", f"-artifact_prefix={crashes}/", "-verbosity=1"]
    return subprocess.run(
        [*command, *limits, *prints], stderr=subprocess.STDOUT, stdout=subprocess.PIPE
    ).stdout.decode("utf-8", "replace")


def keep(name: str) -> list[str]:
    """Move crashing inputs to where the tests run them."""
    kept = []
    for path in (CACHE / name / "crashes").iterdir():
        (FOUND / name).mkdir(parents=True, exist_ok=True)
        target = FOUND / name / path.name
        target.write_bytes(path.read_bytes())
        path.unlink()
        kept.append(str(target))
    return kept


def _number(pattern: str, text: str) -> int:
    match = re.search(pattern, text)
    return int(match[1]) if match else 0


if __name__ == "__main__":
    sys.exit(main())
