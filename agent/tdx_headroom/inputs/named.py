# SPDX-License-Identifier: Apache-2.0
"""What a user names: a path, and what it is said to be."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

STANDARD_STREAM = "-"
"""Standard input as an input, standard output as an output."""


class Kind(StrEnum):
    """What an input is; the values are the options that say so."""

    HOST = "host"
    ROOT = "root"
    CAPTURE = "capture"
    LOG = "log"
    FACTS = "facts"
    MERGE = "merge"
    ANY = "any"


class Named(NamedTuple):
    """One input.

    Args:
        kind: what it is said to be.
        path: of it; ``-`` is standard input.
        parts: the files of one host that are together one input.
    """

    kind: Kind
    path: str
    parts: tuple[str, ...] = ()


THIS_HOST = Named(Kind.HOST, "/")
