# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tdx_headroom.address import GIB, MIB
from tdx_headroom.host.choose import read_facts
from tdx_headroom.hostfs.root import Root
from tdx_headroom.output.plan_json import to_json
from tdx_headroom.verdict.assessment import assess

if TYPE_CHECKING:
    from collections.abc import Iterator

HOSTS = Path(__file__).parents[2] / "hosts"
NO_ADDRESS = {"pamt_kib", "size_4k", "size_2m", "size_1g", "not_convertible_bytes"}
"""Keys of numbers that are no address, and from which none follows."""


def numbers(value: object, key: str = "") -> Iterator[int]:
    """Everything in a JSON value that could be an address: numbers, and those in texts."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from numbers(item, str(name))
    elif isinstance(value, list):
        for item in value:
            yield from numbers(item, key)
    elif isinstance(value, str):
        yield from (int(found, 16) for found in re.findall(r"0x([0-9a-f]+)", value))
    elif isinstance(value, int) and key not in NO_ADDRESS:
        yield value


@pytest.mark.parametrize("name", sorted(path.name for path in HOSTS.iterdir() if path.is_dir()))
def test_no_fine_address_without_leave(name: str) -> None:
    """Nothing in the plan for a client over TCP is, or ends at, an address finer than 1 GiB."""
    assessment = assess(read_facts(Root(HOSTS / name)))
    plan = to_json(assessment, full_addresses=False)
    assert [n for n in numbers(plan) if n >= MIB and n % GIB] == []
    assert [n for n in numbers(to_json(assessment)) if n >= MIB and n % GIB] != []
