# SPDX-License-Identifier: Apache-2.0
"""Grafana's own types as a JSON schema, from the npm package @grafana/schema."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.tools.npm import NpmPackages

if TYPE_CHECKING:
    from tests.grafana.colours import Json

SCHEMA = NpmPackages(
    "grafana-schema-11.6.16",
    ("@grafana/schema@11.6.16", "ts-json-schema-generator@2.4.0", "typescript@5.9.3"),
)
"""The types, and what makes a schema of them."""

TYPES = Path(__file__).with_name("dashboard.ts")


def make(scratch: Path) -> Json:
    """The schema of a dashboard; keys that Grafana does not know are errors."""
    generator = SCHEMA.need(".bin/ts-json-schema-generator")
    source = scratch / TYPES.name
    source.write_text(TYPES.read_text("utf-8"), "utf-8")
    (scratch / "node_modules").symlink_to(SCHEMA.modules)
    # node: the package's exports do not lead to its panels' types, its files do.
    options = {"module": "commonjs", "moduleResolution": "node", "target": "es2020", "strict": True}
    config = scratch / "tsconfig.json"
    config.write_text(
        json.dumps({"compilerOptions": {**options, "skipLibCheck": True}, "files": [source.name]})
    )
    run = subprocess.run(
        [generator, "--path", source, "--tsconfig", config, "--type", "Shipped"],
        cwd=scratch,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    schema: Json = json.loads(run.stdout)
    return schema
