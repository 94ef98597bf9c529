# SPDX-License-Identifier: Apache-2.0
"""The base with TLS, as the page describes it."""

from __future__ import annotations

import base64
import json
import shutil
from typing import TYPE_CHECKING

from tests.container.checks import USER
from tests.integration.certificates import make_authority
from tests.kernel.tools import KernelTestError
from tests.kubernetes.agent import AGENT, NAMESPACE, agents_pod, answer, expect_powerless_container
from tests.tools.steps import CheckError, expect

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kubernetes.cluster import Cluster, Json

CONFIGURATION = "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n"
_CONTAINER = "/spec/template/spec/containers/0"
PATCH: list[Json] = [
    {"op": "add", "path": f"{_CONTAINER}/args/-", "value": "--web.config.file=/web/web.yml"},
    {"op": "add", "path": f"{_CONTAINER}/livenessProbe/httpGet/scheme", "value": "HTTPS"},
    {"op": "add", "path": f"{_CONTAINER}/readinessProbe/httpGet/scheme", "value": "HTTPS"},
    {
        "op": "add",
        "path": f"{_CONTAINER}/volumeMounts/-",
        "value": {"name": "web", "mountPath": "/web", "readOnly": True},
    },
    {
        "op": "add",
        "path": "/spec/template/spec/volumes/-",
        "value": {"name": "web", "secret": {"secretName": "web", "defaultMode": 0o444}},
    },
]


def tls(cluster: Cluster, checkout: Path) -> str:
    """With a Secret, the flag and probes by HTTPS the pod is ready, and answers nobody without TLS."""
    authority = make_authority(cluster.node.folder / "web")
    files = {path.name: path.read_bytes() for path in authority.issue("server")}
    files["web.yml"] = CONFIGURATION.encode()
    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "web", "namespace": NAMESPACE},
            "data": {name: base64.b64encode(data).decode() for name, data in files.items()},
        }
    )
    own = cluster.node.folder / "manifests-tls"
    shutil.copytree(checkout / "packaging/kubernetes", own)
    (own / "kustomization.yaml").write_text(
        json.dumps(
            {
                "resources": ["base"],
                "patches": [{"target": {"kind": "DaemonSet", "name": AGENT}, "patch": json.dumps(PATCH)}],
            }
        )
    )
    cluster("apply", "-k", own)
    pod = agents_pod(cluster)
    told = answer(cluster, "/metrics", scheme="https")
    expect("it serves no metrics", "tdx_headroom_build_info" in told)
    expect_powerless_container(cluster, pod, AGENT, USER)
    try:
        answer(cluster, "/metrics")
    except KernelTestError:
        return "ready by probes over HTTPS, silent without TLS"
    raise CheckError("it answers without TLS")
