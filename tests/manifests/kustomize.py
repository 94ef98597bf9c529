# SPDX-License-Identifier: Apache-2.0
"""As much of kustomize as our components and overlays use, since kubectl is not on every machine."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from pathlib import Path

Json = dict[str, Any]
_KEYS = ("mountPath", "name")
"""By what the elements of Kubernetes' lists of objects are told apart, the first that an element has."""


def merged(target: Any, patch: Any) -> Any:  # noqa: ANN401  any value of a manifest
    """A strategic merge: objects key by key, lists of objects by their elements' keys, anything else anew."""
    if isinstance(target, dict) and isinstance(patch, dict):
        found = dict(target)
        for key, value in patch.items():
            if value == {"$patch": "delete"}:
                found.pop(key, None)
            else:
                found[key] = merged(target.get(key), value)
        return found
    if isinstance(target, list) and patch and isinstance(patch[0], dict):
        by_key = {_key(element): element for element in target}
        for element in patch:
            by_key[_key(element)] = merged(by_key.get(_key(element)), element)
        return list(by_key.values())
    return copy.deepcopy(patch)


def _key(element: Json) -> str:
    return next(str(element[key]) for key in _KEYS if key in element)


def daemon_set(folder: Path, *patches: str) -> Json:
    """The base's DaemonSet with patches, by their paths below the folder, in their order."""
    found: Json = yaml.safe_load((folder / "base/daemonset.yaml").read_text("utf-8"))
    for patch in patches:
        found = merged(found, yaml.safe_load((folder / patch).read_text("utf-8")))
    return found
