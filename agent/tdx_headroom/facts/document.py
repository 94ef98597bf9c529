# SPDX-License-Identifier: Apache-2.0
"""A JSON object of one of the agent's own schemas."""

from __future__ import annotations

import json
from typing import Any

from tdx_headroom.errors import SourceError


def document(source: str, schema: str, text: str) -> dict[str, Any]:
    """The object that a text is.

    Args:
        source: that it is of, for the error.
        schema: that it has to have.
        text: of the file.

    Raises:
        SourceError: it is none, or one of another schema.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SourceError(source, f"it is no JSON: {error}") from None
    found = value.get("schema") if isinstance(value, dict) else None
    if found != schema:
        raise SourceError(source, f"its schema is {found!r}", hint=f"this agent reads {schema}")
    return dict(value)
