# SPDX-License-Identifier: Apache-2.0
"""A stand-in for kured's own manifest."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

KUREDS: Json = {
    "apiVersion": "apps/v1",
    "kind": "DaemonSet",
    "metadata": {"name": "kured", "namespace": "kube-system"},
    "spec": {
        "selector": {"matchLabels": {"name": "kured"}},
        "template": {
            "metadata": {"labels": {"name": "kured"}},
            "spec": {"containers": [{"name": "kured", "image": "kured", "command": ["/usr/bin/kured"]}]},
        },
    },
}
"""Where kured's own manifest has its name and flags, from 1.13 to 1.20."""
