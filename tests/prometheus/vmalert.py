# SPDX-License-Identifier: Apache-2.0
"""The rule tests as vmalert-tool takes them, made from those of promtool."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "packaging/prometheus"
RULES, TESTS = "tdx-headroom.rules.yml", "tdx-headroom.test.yml"


def rule_tests(folder: Path) -> Path:
    """Write the rules as they are, and their tests, into a folder; the file of tests.

    Only one key has another name there.
    """
    shutil.copyfile(FOLDER / RULES, folder / RULES)
    text = (FOLDER / TESTS).read_text("utf-8")
    path = folder / TESTS
    path.write_text(re.sub(r"(?m)^( +)promql_expr_test:", r"\1metricsql_expr_test:", text), "utf-8")
    return path


def commands(tests: Path) -> tuple[list[str], list[str]]:
    """Check the rules; run their tests, without the label of the group that vmalert gives every alert."""
    return (
        ["vmalert", "-dryRun", f"-rule={RULES}", "-loggerLevel=ERROR"],
        ["vmalert-tool", "unittest", "--disableAlertgroupLabel", f"--files={tests.name}"],
    )
