# SPDX-License-Identifier: Apache-2.0
"""The canary of ``fleet``: one host before and after an update of its firmware."""

from __future__ import annotations

import os
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.commands.readers import warn
from tdx_headroom.errors import AgentError
from tdx_headroom.inputs.expand import expand
from tdx_headroom.inputs.history import history_of, history_of_line
from tdx_headroom.inputs.named import STANDARD_STREAM, Kind, Named
from tdx_headroom.inputs.read import each_host
from tdx_headroom.verdict.fleet_canary import Shown, audit_after, canary_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tdx_headroom.facts.host_facts import HostFacts
    from tdx_headroom.verdict.fleet import HostAudit, Target
    from tdx_headroom.verdict.fleet_canary import Canary, LeftOut


class CanaryTrial(NamedTuple):
    """What a canary has shown, to be tried on other hosts.

    Args:
        canary: what the update has changed there.
        before: the canary before it.
    """

    canary: Canary
    before: Shown

    def audit(
        self,
        facts: HostFacts,
        now: HostAudit,
        targets: Sequence[Target],
        command_line: tuple[str, ...] | None,
    ) -> HostAudit | LeftOut:
        """One host with the canary's holes."""
        return audit_after(self.canary, self.before, facts, now, targets, command_line)


def read_canary(paths: Sequence[str]) -> CanaryTrial:
    """The canary in two inputs.

    Args:
        paths: of the one from before the update, and of the one from after it.

    Raises:
        AgentError: one cannot be read, is no single host, or they do not go together.
    """
    before, after = (_one_host(path) for path in paths)
    return CanaryTrial(canary_of(before, after), before)


def _one_host(path: str) -> Shown:
    if path == STANDARD_STREAM:
        raise AgentError("--canary takes no standard input", status=os.EX_USAGE)
    try:
        found = list(islice(_hosts(path), 2))
    except OSError as error:
        raise AgentError(f"{path}: {error.strerror}", status=os.EX_NOINPUT) from None
    if len(found) > 1:
        raise AgentError(f"--canary: {path} holds several hosts", hint="give one capture of one host")
    if not found:
        raise AgentError(f"--canary: {path} holds no host", status=os.EX_NOINPUT)
    return found[0]


def _hosts(path: str) -> Iterator[Shown]:
    for named in expand([Named(Kind.ANY, path)]):
        with history_of(named, warn) as history:
            for host in each_host(history, named.path, history_of_line):
                if isinstance(host.facts, AgentError):
                    raise AgentError(f"{host.name} line {host.line}: {host.facts}", status=os.EX_DATAERR)
                yield Shown(host.facts, host.records[-1])
