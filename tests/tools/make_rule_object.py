# SPDX-License-Identifier: Apache-2.0
"""The rules as a Kubernetes object, and as JSON for jsonnet: ``make docs``."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import yaml

PACKAGING = Path(__file__).resolve().parents[2] / "packaging"
RULES = PACKAGING / "prometheus" / "tdx-headroom.rules.yml"
OBJECT = PACKAGING / "kubernetes" / "base" / "prometheusrule.yaml"
FOR_JSONNET = PACKAGING / "mixin" / "rules.json"

_HEAD = """\
# SPDX-License-Identifier: Apache-2.0
# Made from packaging/prometheus/tdx-headroom.rules.yml by `make docs`; edit that file.
# Add the label that your Prometheus selects rules by.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: tdx-headroom
  namespace: tdx-headroom
  labels:
    app.kubernetes.io/name: tdx-headroom
spec:
"""


def rule_object() -> str:
    """The file: a head, and the rules from `groups:` on, letter by letter."""
    text = RULES.read_text("utf-8")
    return _HEAD + textwrap.indent(text[text.index("groups:\n") :], "  ")


def rules_as_json() -> str:
    """The same groups, in the order of the file."""
    return json.dumps(yaml.safe_load(RULES.read_text("utf-8")), indent=1) + "\n"


if __name__ == "__main__":
    OBJECT.write_text(rule_object(), "utf-8")
    FOR_JSONNET.write_text(rules_as_json(), "utf-8")
