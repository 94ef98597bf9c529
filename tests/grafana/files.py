# SPDX-License-Identifier: Apache-2.0
"""The dashboards as the files that Grafana imports."""

from __future__ import annotations

import json
from pathlib import Path

from tests.grafana.fleet import FLEET
from tests.grafana.host import SINGLE

FOLDER = Path(__file__).parents[2] / "packaging" / "grafana"
DASHBOARDS = {"tdx-headroom-fleet.json": FLEET, "tdx-headroom-host.json": SINGLE}


def text_of() -> dict[str, str]:
    """File names and their text."""
    return {name: json.dumps(board, indent=2) + "\n" for name, board in DASHBOARDS.items()}
