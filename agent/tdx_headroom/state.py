# SPDX-License-Identifier: Apache-2.0
"""What outlives the ring buffer and the agent: this boot's log, and what the boot before looked like.

One JSON file in the state directory, written whole and renamed into place. A file that cannot be read is set
aside under another name, never overwritten, and reported.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tdx_headroom.codec import DecodeError, decode, encode
from tdx_headroom.facts import LastCmrs
from tdx_headroom.plan.regions import tdx_memory_list
from tdx_headroom.sources.kernel_log.records import LogRecord  # noqa: TC001  the codec reads the annotation

if TYPE_CHECKING:
    from tdx_headroom.assessment import Assessment

SCHEMA = "tdx-headroom/state/1"
FILE = "state.json"
MAX_FILE = 16 << 20


@dataclass(frozen=True, slots=True)
class BootState:
    """What is kept of one boot.

    Args:
        boot_id: the kernel's id of it.
        records: what mattered of its log.
        last_seq: sequence number of the newest record seen.
        cmrs: ``(base, size)``, when the log showed the whole list.
        bios_version, memory_total: what the CMRs depend on.
        map_digest: of the memory regions.
        headroom: least headroom by strategy.
    """

    boot_id: str
    records: tuple[LogRecord, ...] = ()
    last_seq: int | None = None
    cmrs: tuple[tuple[int, int], ...] | None = None
    bios_version: str | None = None
    memory_total: int | None = None
    map_digest: str | None = None
    headroom: tuple[tuple[str, int], ...] = ()

    def with_log(self, records: tuple[LogRecord, ...], last_seq: int | None) -> BootState:
        """The same with what is kept of the log now."""
        if records == self.records:
            # Sequence numbers grow with every record: that alone is not worth a write.
            return self
        return replace(self, records=records, last_seq=last_seq)


@dataclass(frozen=True, slots=True)
class State:
    """This boot and the one before, as far as they are known."""

    current: BootState | None = None
    previous: BootState | None = None

    def for_boot(self, boot_id: str) -> State:
        """The state as this boot begins with it: what was the current boot may be the previous one now."""
        if self.current is not None and self.current.boot_id == boot_id:
            return self
        # A boot in which the agent learnt nothing says nothing about the memory map either.
        known = self.current if self.current is not None and self.current.map_digest else None
        return State(BootState(boot_id), known or self.previous)

    @property
    def last_cmrs(self) -> LastCmrs | None:
        """CMRs of the boot before."""
        boot = self.previous
        if boot is None or boot.cmrs is None:
            return None
        return LastCmrs(boot.cmrs, boot.boot_id, boot.bios_version, boot.memory_total)


def remember(boot: BootState, assessment: Assessment) -> BootState:
    """The boot's state after an assessment."""
    facts = assessment.facts
    platform = facts.platform
    headroom = {
        str(strategy): plan.headroom
        for strategy, plan in assessment.plans.items()
        if plan is not None and plan.headroom is not None
    }
    own_cmrs = facts.cmrs if facts.cmr_source == "kernel-log" else None
    return replace(
        boot,
        cmrs=own_cmrs or boot.cmrs,
        bios_version=platform.bios_version if platform else boot.bios_version,
        memory_total=platform.memory_total if platform else boot.memory_total,
        map_digest=map_digest(assessment) or boot.map_digest,
        headroom=tuple(headroom.items()) or boot.headroom,
    )


def map_digest(assessment: Assessment) -> str | None:
    """A digest of the memory regions that TDMRs are made from; nothing of them can be read from it."""
    regions = assessment.facts.memory_regions
    if regions is None:
        return None
    text = json.dumps([(r.start, r.end) for r in tdx_memory_list(regions)])
    return hashlib.sha256(text.encode()).hexdigest()


class StateFile:
    """The file in the state directory.

    Args:
        directory: must exist; only this agent writes there.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._path = os.path.join(directory, FILE)  # noqa: PTH118  with the descriptors below
        self._written: str | None = None

    def load(self) -> tuple[State, str | None]:
        """The state, and what was wrong with the file, if something was."""
        self._remove_leftovers()
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            return State(), None
        except OSError as error:
            return State(), f"{self._path}: {error.strerror}"
        with open(fd, "rb") as stream:  # noqa: PTH123  a descriptor, opened without following links
            try:
                data = stream.read(MAX_FILE + 1)
                return _parse(data), None
            except (OSError, ValueError, RecursionError) as error:
                return State(), f"{self._path} {self._set_aside()}: {error}"

    def save(self, state: State) -> None:
        """Write the state, if it differs from what was written last.

        Raises:
            OSError: the directory cannot be written to, or is full; the old file stays.
        """
        text = json.dumps({"schema": SCHEMA, **encode(state)})
        if text == self._written:
            return
        temporary = f"{self._path}.{secrets.token_hex(8)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(temporary, flags, 0o600)
        try:
            with open(fd, "w", encoding="utf-8") as stream:  # noqa: PTH123  as above
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            os.rename(temporary, self._path)  # noqa: PTH104
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)  # noqa: PTH108
            raise
        self._written = text

    def _remove_leftovers(self) -> None:
        """Remove temporary files of an agent that was killed while it wrote."""
        with contextlib.suppress(OSError):
            for name in os.listdir(self._directory):  # noqa: PTH208
                if re.fullmatch(re.escape(FILE) + r"\.[0-9a-f]{16}", name):
                    os.unlink(os.path.join(self._directory, name))  # noqa: PTH108, PTH118

    def _set_aside(self) -> str:
        aside = f"{self._path}.corrupt"
        try:
            os.rename(self._path, aside)  # noqa: PTH104
        except OSError as error:
            return f"is corrupt and stays ({error.strerror})"
        return f"is corrupt and was set aside as {aside}"


def _parse(data: bytes) -> State:
    if len(data) > MAX_FILE:
        raise ValueError("the file is too large")
    value = json.loads(data)
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        raise DecodeError(f"the schema is not {SCHEMA}")
    state: State = decode(State, value, "state")
    return state
