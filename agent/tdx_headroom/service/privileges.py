# SPDX-License-Identifier: Apache-2.0
"""Started as root by hand: open what only root may, load the rest of the code, then be another for good.

Under systemd none of this happens, and this module is not loaded: the unit never runs as root
(systemd/tdx-headroom.service).
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import pwd
import threading
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import tdx_headroom
from tdx_headroom import log
from tdx_headroom.errors import AgentError
from tdx_headroom.facts.boots import BootInventory
from tdx_headroom.host.choose import read_facts
from tdx_headroom.hostfs.memory import MemoryRoot
from tdx_headroom.hostfs.root import Root
from tdx_headroom.output.page import render_page, stylesheet
from tdx_headroom.service import capabilities, descriptors, handover
from tdx_headroom.service.users import User, find_user, warn_of_others
from tdx_headroom.sources.registry import HANDED_OVER
from tdx_headroom.verdict.assessment import assess

if TYPE_CHECKING:
    from collections.abc import Callable

    from tdx_headroom.boots.source import BootSource
    from tdx_headroom.hostfs.files import HostFiles

LAZY = (
    "concurrent.futures.thread",
    "encodings.idna",
    "encodings.latin_1",
    "encodings.utf_8_sig",
    "prometheus_client.openmetrics.exposition",
    "tornado.platform.asyncio",
)
"""Modules that Python or a library loads only when they are first needed."""

OPTIONAL = ("bcrypt", "yaml")
"""The same, of libraries that the agent can run without."""

OTHERS = ("__main__", "boots", "capture", "commands", "inputs")
"""Rooms of which the agent loads nothing later; what it needs of them is there by now."""


def give_up(
    root: HostFiles,
    name: str | None = None,
    state_folder: str | None = None,
    boots: BootSource | None = None,
) -> dict[str, int]:
    """All of it in order, before anything listens: open, load, hand the state over, drop.

    Args:
        root: of the host that will be served.
        name: whom to become; see :func:`drop`.
        state_folder: where the agent will keep its state.
        boots: what will tell of boot entries, if anything does.

    Returns:
        Descriptors by path, for ``Root(path, descriptors=...)``. What cannot be opened is left out.

    Raises:
        AgentError: privileges cannot be dropped, or without them nothing of the root can be read.
    """
    if 0 not in os.getresuid():
        drop(name)
        return {}
    user = find_user(name, handover.owner_of(state_folder) if state_folder is not None else None)
    opened: dict[str, int] = {}
    # Not of a captured tree: it is plain files, which may be replaced while the agent runs.
    if Path(root.locate("proc")).is_mount():
        files = descriptors.open_privileged(root)
        opened = {HANDED_OVER[name]: fd for name, fd in files.items() if isinstance(fd, int)}
    preload(root, boots)
    if user.uid != 0:
        if state_folder is not None:
            handover.hand_over(state_folder, user)
        # What lies in root's current folder could be got at from inside, whatever its parents forbid.
        os.chdir("/")
    _drop_to(user)
    if not isinstance(root, MemoryRoot) and not os.access(root.path, os.R_OK | os.X_OK):
        raise AgentError(
            f"{_own_name() or f'user id {os.geteuid()}'} cannot read {root.path}",
            hint="make it readable for everybody, or keep root with --user root",
            status=os.EX_NOPERM,
        )
    return opened


def preload(root: HostFiles, boots: BootSource | None = None) -> None:
    """Load what would be loaded later: the interpreter's and the agent's files may be root's alone.

    Args:
        root: of the host that will be served; it is read once, for what its readers load.
        boots: what will tell of boot entries, if anything does.
    """
    own = (module.name for module in pkgutil.walk_packages(tdx_headroom.__path__, "tdx_headroom."))
    for name in (*LAZY, *(name for name in own if name.split(".")[1] not in OTHERS)):
        importlib.import_module(name)
    for name in OPTIONAL:
        try:
            importlib.import_module(name)
        except ImportError:
            continue
    stylesheet()
    read_facts(root, boots=boots)
    # Templates are loaded as they are needed: the page of a host with TDX needs all of them.
    with resources.as_file(resources.files("tdx_headroom") / "hosts" / "emerald-rapids") as folder:
        facts = replace(
            read_facts(Root(folder)), boots=BootInventory(unknown="not looked for", configured=True)
        )
        render_page(assess(facts))


def drop(name: str | None = None) -> None:
    """Stop being root, for good, and make sure of it. Does nothing when this is no root.

    No thread may run yet: capabilities are a thread's own.

    Args:
        name: whom to become, by name or number; None: the agent's own user, else a number that is nobody's. A
            name of root itself keeps all privileges.

    Raises:
        AgentError: there is no such user, root is not allowed to become it, or something is left afterwards.
    """
    if 0 not in os.getresuid():
        if name is not None and name not in (_own_name(), str(os.geteuid())):
            raise AgentError(f"only root can become {name}", hint="leave --user out", status=os.EX_NOPERM)
        return
    _drop_to(find_user(name))


def _drop_to(user: User) -> None:
    if user.uid == 0:
        log.get().warning("the agent keeps running as root", user=user.name)
        return
    if threading.active_count() != 1:
        raise AgentError("privileges cannot be dropped: a thread is running", status=os.EX_SOFTWARE)
    warn_of_others(user)
    _become(user)
    left = _left(user)
    if left:
        raise AgentError(
            f"privileges are left after becoming {user.name}: {', '.join(left)}", status=os.EX_OSERR
        )
    log.get().info("privileges dropped", user=user.name)


def _own_name() -> str | None:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return None


def _become(user: User) -> None:
    # The bounding set first: that takes CAP_SETPCAP, which goes with the user id.
    capabilities.empty_bounding_set()
    capabilities.leave_session_keyring()
    steps: tuple[tuple[str, Callable[[], None]], ...] = (
        ("setgroups", lambda: os.setgroups(user.groups)),
        ("setresgid", lambda: os.setresgid(user.gid, user.gid, user.gid)),
        ("setresuid", lambda: os.setresuid(user.uid, user.uid, user.uid)),
        ("capset", capabilities.empty_sets),
        ("no_new_privs", capabilities.set_no_new_privs),
    )
    for step, take in steps:
        try:
            take()
        except OSError as error:
            raise AgentError(
                f"cannot become {user.name}: {step}: {error.strerror}",
                hint="start the agent as another user, or keep root with --user root",
                status=os.EX_NOPERM,
            ) from None


def _left(user: User) -> list[str]:
    """What is left of root; nothing but the kernel is asked, /proc may be another's."""
    left = []
    if os.getresuid() != (user.uid,) * 3:
        left.append(f"user ids {os.getresuid()}")
    if os.getresgid() != (user.gid,) * 3:
        left.append(f"group ids {os.getresgid()}")
    if set(os.getgroups()) - set(user.groups):
        left.append(f"groups {os.getgroups()}")
    left += [f"{name} capabilities {value:#x}" for name, value in capabilities.sets().items() if value]
    if not capabilities.no_new_privs():
        left.append("no_new_privs is not set")
    if capabilities.bounding_set():
        # Of no use without a program that gains privileges, which no_new_privs rules out.
        log.get().info(
            "the capability bounding set could not be emptied", left=hex(capabilities.bounding_set())
        )
    try:
        os.setresuid(0, 0, 0)
    except PermissionError:
        return left
    return [*left, "user id 0 can be regained"]
