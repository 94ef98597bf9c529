# SPDX-License-Identifier: Apache-2.0
"""Kubernetes' and the Prometheus Operator's own definitions, from the npm packages kubernetes-models."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.tools.npm import NpmPackages

MODELS = NpmPackages(
    "kubernetes-models-5.1.0",
    ("kubernetes-models@5.1.0", "@kubernetes-models/prometheus-operator@6.0.0", "typescript@5.9.3"),
)
COMPILER = ".bin/tsc"

_OPERATOR = "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1"
_KINDS = {
    "DaemonSet": "kubernetes-models/apps/v1",
    "Namespace": "kubernetes-models/v1",
    "Service": "kubernetes-models/v1",
    "ServiceMonitor": _OPERATOR,
    "PrometheusRule": _OPERATOR,
}
_COMPILE = ("--noEmit", "--strict", "--skipLibCheck", "--moduleResolution", "node", "--target", "es2020")


def complaints(objects: list[dict[str, Any]], scratch: Path) -> list[str]:
    """What is wrong with them: unknown keys and wrong types by the compiler, values by the schemas."""
    if not (scratch / "node_modules").exists():
        (scratch / "node_modules").symlink_to(MODELS.modules)
    lines = [f"import type {{ I{kind} }} from '{module}/{kind}';" for kind, module in _KINDS.items()]
    lines += [f"export const o{n}: I{o['kind']} = {json.dumps(o)};" for n, o in enumerate(objects)]
    (scratch / "objects.ts").write_text("\n".join(lines))
    words = [str(MODELS.modules / COMPILER), *_COMPILE, "--module", "commonjs", "objects.ts"]
    types = subprocess.run(words, cwd=scratch, capture_output=True, text=True, timeout=300)
    script = scratch / "validate.mjs"
    script.write_text(Path(__file__).with_name("validate.mjs").read_text("utf-8"))
    values = subprocess.run(
        ["node", script],
        cwd=scratch,
        input=json.dumps(objects),
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    return [*types.stdout.splitlines(), *values.stdout.splitlines()]
