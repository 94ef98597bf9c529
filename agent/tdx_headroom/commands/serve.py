# SPDX-License-Identifier: Apache-2.0
"""``tdx-headroom serve``: this host's headroom for Prometheus, and a page for people."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tdx_headroom import log
from tdx_headroom.boots.written import WrittenInventory
from tdx_headroom.commands.arguments import add_assume_strategy, add_rootfs, duration, file_name
from tdx_headroom.commands.web_flags import add_flags, settings_from
from tdx_headroom.errors import AgentError
from tdx_headroom.hostfs.root import host_root
from tdx_headroom.service import daemon
from tdx_headroom.service.clean_process import drop_inherited
from tdx_headroom.service.descriptors import take
from tdx_headroom.verdict.what_if import WhatIf

if TYPE_CHECKING:
    import argparse

    from tdx_headroom.boots.source import BootSource
    from tdx_headroom.hostfs.files import HostFiles
    from tdx_headroom.hostfs.memory import MemoryRoot
    from tdx_headroom.hostfs.root import Root


def add(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    add_web(parser)
    parser.add_argument(
        "--state-directory",
        type=file_name,
        metavar="DIR",
        default=os.environ.get("STATE_DIRECTORY") or None,
        help="keep what was learnt from the log here, for after a restart (default $STATE_DIRECTORY)",
    )
    add_rootfs(parser)


def add_web(parser: argparse.ArgumentParser) -> None:
    """Those of the demo, too."""
    add_flags(parser)
    add_assume_strategy(parser)
    parser.add_argument(
        "--user",
        metavar="USER",
        help="started as root: become this user, by name or number, before listening (default: tdx-headroom, "
        "where there is none a number that no other user or process has)",
    )
    parser.add_argument(
        "--refresh-interval",
        type=duration,
        default=60.0,
        metavar="TIME",
        help="look at the host at least this often, such as 60s (default) or 5m",
    )
    parser.add_argument(
        "--log.level",
        dest="log_level",
        choices=tuple(log.LEVELS),
        default="info",
        help="the least that is logged (default info)",
    )
    parser.add_argument(
        "--log.format",
        dest="log_format",
        choices=log.FORMATS,
        default="logfmt",
        help="of the log on standard error (default logfmt)",
    )


def run(options: argparse.Namespace) -> int:
    """Serve until it is told to end."""
    root = host_root(options.rootfs)
    return serve(root if root.live else _kept(root), options)


def serve(root: Root | MemoryRoot, options: argparse.Namespace) -> int:
    """Serve whatever host this is the root of."""
    log.configure(options.log_level, options.log_format)
    # The current folder may change.
    state_directory = _absolute(getattr(options, "state_directory", None))
    if options.web_config is not None:
        options.web_config = options.web_config.absolute()
    inherited = take()
    web = settings_from(options, inherited.sockets)
    if not (web.addresses or web.sockets):
        raise AgentError(
            "systemd has handed over no socket",
            hint="start tdx-headroom.socket, or leave --web.systemd-socket out",
            status=os.EX_UNAVAILABLE,
        )
    drop_inherited([*inherited.files.values(), *(given.fileno() for given in inherited.sockets)])
    boots = _boots_of(root)
    opened = _give_up(root, options.user, state_directory, boots)
    root = root.holding({**inherited.files, **opened})
    settings = daemon.Settings(
        web=web,
        refresh_interval=options.refresh_interval,
        exporter_metrics=options.exporter_metrics,
        what_if=WhatIf(strategy=options.assume_strategy),
        state_directory=state_directory,
        boots=boots,
    )
    daemon.serve(root, settings)
    return os.EX_OK


def _kept(root: Root) -> Root:
    from tdx_headroom.hostfs.kept import KeptRoot  # noqa: PLC0415  the running host does without it

    return KeptRoot(root.path)


def _boots_of(root: Root | MemoryRoot) -> BootSource:
    """What tells of boot entries: of the running host what root has written, of a captured one its files."""
    if root.live:
        return WrittenInventory(held=_taken_as_root(root))
    # Loaded here: a live host's agent does without it, and that is 2 MiB.
    from tdx_headroom.boots.inventory import boots_of  # noqa: PLC0415

    return boots_of(root)


def _taken_as_root(root: Root | MemoryRoot) -> str | None:
    if os.geteuid() != 0:
        return None
    from tdx_headroom.service.taken_as_root import inventory_as_root  # noqa: PLC0415  a service never does

    return inventory_as_root(root.path)


def _give_up(
    root: HostFiles, user: str | None, state_directory: str | None, boots: BootSource
) -> dict[str, int]:
    if 0 not in os.getresuid() and user is None:
        return {}
    # Loaded here: what gives root up loads the whole agent, and that is 7 MiB.
    from tdx_headroom.service.privileges import give_up  # noqa: PLC0415

    return give_up(root, user, state_directory, boots)


def _absolute(path: str | None) -> str | None:
    return os.path.abspath(path) if path else None  # noqa: PTH100  a link may change while the agent runs
