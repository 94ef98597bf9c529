# SPDX-License-Identifier: Apache-2.0
"""The rule tests as vmalert-tool takes them, made from those of promtool."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "packaging/prometheus"
RULES, TESTS = "tdx-headroom.rules.yml", "tdx-headroom*.test.yml"


def rule_tests(folder: Path) -> list[str]:
    """Write the rules as they are, and their tests, into a folder; the names of the files of tests.

    Only one key has another name there.
    """
    shutil.copyfile(FOLDER / RULES, folder / RULES)
    names = []
    for path in sorted(FOLDER.glob(TESTS)):
        text = re.sub(r"(?m)^( +)promql_expr_test:", r"\1metricsql_expr_test:", path.read_text("utf-8"))
        (folder / path.name).write_text(text, "utf-8")
        names.append(path.name)
    return names


def commands(tests: list[str]) -> tuple[list[str], list[str]]:
    """Check the rules; run their tests, without the label of the group that vmalert gives every alert."""
    return (
        ["vmalert", "-dryRun", f"-rule={RULES}", "-loggerLevel=ERROR"],
        ["vmalert-tool", "unittest", "--disableAlertgroupLabel", *(f"--files={name}" for name in tests)],
    )
