# SPDX-License-Identifier: Apache-2.0
"""Where clients come from."""

from __future__ import annotations

import os
import socket

import pytest

from tdx_headroom.web.connection import origin_of


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("10.0.0.1", "::ffff:10.0.0.1", True),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.2", False),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff:ffff:ffff:ffff", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("fe80::1%lo", "fe80::2%lo", True),
    ],
)
def test_addresses(one: str, other: str, *, same: bool) -> None:
    """An IPv4 address is one party, however it is written; so are all IPv6 addresses with the same /64."""

    def origin(address: str) -> bytes:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family) as connection:
            return origin_of(connection, (address, 1))

    assert (origin(one) == origin(other)) is same


def test_users() -> None:
    """On a unix socket a party is a user."""
    here, there = socket.socketpair()
    with here, there:
        assert origin_of(here, "") == b"user %d" % os.getuid()
