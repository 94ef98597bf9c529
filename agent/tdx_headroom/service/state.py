# SPDX-License-Identifier: Apache-2.0
"""What outlives the ring buffer and the agent: this boot's log, and what the boot before looked like.

One JSON file in the state directory, written whole and renamed into place. A file that cannot be read is set
aside under another name, never overwritten, and reported.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tdx_headroom.address import MIB, page_round, subtract
from tdx_headroom.facts.codec import DecodeError, decode, encode
from tdx_headroom.facts.observations import TdxSeen
from tdx_headroom.facts.sources import CmrSource, LastCmrs
from tdx_headroom.sources.kernel_log.records import LogRecord  # noqa: TC001  the codec reads the annotation
from tdx_headroom.verdict.signs import tdx_seen
from tdx_headroom.whole_file import remove_leftovers, replace_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tdx_headroom.facts.observations import Platform
    from tdx_headroom.verdict.assessment import Assessment

SCHEMA = "tdx-headroom/state/1"
FILE = "state.json"
MAX_FILE = 16 << 20

SEQ_STEP = 256
"""The file is written after so many records that are not kept; the smallest ring buffer holds about ten times
as many."""


SETTLED = 900.0
"""Seconds after which a boot has tried TDX if it ever will; TDXGoneSinceLastBoot waits for less."""


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
        tdx: the most that it has shown of TDX.
        settled: whether it has lasted long enough for what was not tried to count.
    """

    boot_id: str
    records: tuple[LogRecord, ...] = ()
    last_seq: int | None = None
    cmrs: tuple[tuple[int, int], ...] | None = None
    bios_version: str | None = None
    memory_total: int | None = None
    map_digest: str | None = None
    headroom: tuple[tuple[str, int], ...] = ()
    tdx: TdxSeen | None = None
    settled: bool = False

    def with_log(
        self, records: tuple[LogRecord, ...], last_seq: int | None, *, exact: bool = False
    ) -> BootState:
        """The same with what is kept of the log now.

        Sequence numbers grow with every record: a few of them alone are not worth a write, unless ``exact``.
        But what was read must not look lost after a restart, when the ring buffer has forgotten it.
        """
        grown = (last_seq or 0) - (self.last_seq or 0)
        if records == self.records and grown < (1 if exact else SEQ_STEP):
            return self
        return replace(self, records=records, last_seq=last_seq)


@dataclass(frozen=True, slots=True)
class State:
    """This boot and the one before, as far as they are known, and the newest CMRs of those before these.

    ``tdx_before`` is what was shown of TDX before this boot. A boot that is over before it could bring TDX up
    changes nothing: TDX that has gone is still missed in the next one.
    """

    current: BootState | None = None
    previous: BootState | None = None
    older_cmrs: LastCmrs | None = None
    tdx_before: TdxSeen | None = None

    def for_boot(self, boot_id: str) -> State:
        """The state as this boot begins with it: what was the current boot may be the previous one now."""
        if self.current is not None and self.current.boot_id == boot_id:
            return self
        # A boot in which the agent learnt nothing says nothing about the memory map either.
        known = self.current if self.current is not None and self.current.map_digest else None
        cmrs = _cmrs_of(self.current) or self.last_cmrs
        return State(BootState(boot_id), known or self.previous, cmrs, self._tdx_so_far())

    def _tdx_so_far(self) -> TdxSeen | None:
        boot = self.current
        if boot is None or boot.tdx is None:
            return self.tdx_before
        done = boot.settled or boot.tdx in (TdxSeen.UP, TdxSeen.FAILED)
        return boot.tdx if done else self.tdx_before or boot.tdx

    @property
    def last_cmrs(self) -> LastCmrs | None:
        """CMRs of the last boot that showed them: not every kernel prints them."""
        return _cmrs_of(self.previous) or self.older_cmrs


def _cmrs_of(boot: BootState | None) -> LastCmrs | None:
    if boot is None or boot.cmrs is None:
        return None
    return LastCmrs(boot.cmrs, boot.boot_id, boot.bios_version, boot.memory_total)


def map_changed(before: BootState | None, current: BootState | None) -> bool | None:
    """Whether memory differs between two boots; None where that cannot be told."""
    old, new = before and before.map_digest, current and current.map_digest
    if not old or not new or old.partition(":")[0] != new.partition(":")[0]:
        return None
    return old != new


def remember(boot: BootState, assessment: Assessment, now: float = 0) -> BootState:
    """The boot's state after an assessment, at a time in seconds since the epoch."""
    facts = assessment.facts
    platform = facts.platform
    headroom = {
        str(strategy): plan.headroom
        for strategy, plan in assessment.plans.items()
        if plan is not None and plan.headroom is not None
    }
    own_cmrs = facts.cmrs if facts.cmr_source == CmrSource() else None
    return replace(
        boot,
        cmrs=own_cmrs or boot.cmrs,
        bios_version=platform.bios_version if platform else boot.bios_version,
        memory_total=platform.memory_total if platform else boot.memory_total,
        map_digest=map_digest(assessment) or boot.map_digest,
        headroom=tuple(headroom.items()) or boot.headroom,
        tdx=max(
            (seen for seen in (boot.tdx, tdx_seen(facts)) if seen), key=list(TdxSeen).index, default=None
        ),
        settled=boot.settled or _has_settled(platform, now),
    )


def _has_settled(platform: Platform | None, now: float) -> bool:
    return platform is not None and platform.boot_time is not None and now >= platform.boot_time + SETTLED


def map_digest(assessment: Assessment) -> str | None:
    """A digest of the memory that TDMRs are made from, which reveals none of it.

    Where it is split does not count: memblock splits at more places than other sources. Before the colon is
    what digests have to have in common to be compared.
    """
    facts = assessment.facts
    if facts.memory_regions is None:
        return None
    known = facts.memory_source
    # Exact sources show one and the same memory; others differ from it without any change.
    source = "given" if known is None else "kernel" if known.exact else known
    text = json.dumps(subtract(page_round((r.start, r.end) for r in facts.memory_regions), [(0, MIB)]))
    return f"{source}:{hashlib.sha256(text.encode()).hexdigest()}"


class FolderLock:
    """Held by the one agent that keeps its state in a folder: a second one would overwrite that state.

    Args:
        folder: of the state.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._fd: int | None = None

    def take(self) -> None:
        """Take it and keep it; nothing happens when this agent has it already.

        Raises:
            OSError: another agent has it, or the folder cannot be looked at.
        """
        if self._fd is not None and not os.path.samestat(os.fstat(self._fd), os.stat(self._folder)):  # noqa: PTH116
            self.release()  # another folder of that name
        if self._fd is not None:
            return
        fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise OSError(
                errno.EBUSY,
                "another agent keeps its state there; give each a --state-directory of its own",
                self._folder,
            ) from None
        except OSError:
            pass  # a file system without locks
        self._fd = fd

    def release(self) -> None:
        """Let another agent have it."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


class StateFile:
    """The file in the state directory.

    Args:
        directory: must exist; only this agent writes there.
        lock: taken before anything is written; None: there is certainly no other agent.
    """

    def __init__(self, directory: str, lock: FolderLock | None = None) -> None:
        self._directory = directory
        self._path = os.path.join(directory, FILE)  # noqa: PTH118  with the descriptors below
        self._lock = lock
        self._written: State | None = None
        self._identity: tuple[int, ...] | None = None

    def load(self) -> tuple[State, str | None]:
        """The state, and what was wrong with the file, if something was."""
        try:
            self._take_lock()
        except OSError as error:
            if error.errno == errno.EBUSY:
                # What is there is the other agent's to tidy up; what it has learnt is as good as our own.
                return self._read_only(), f"{self._directory}: {error.strerror}"
        with contextlib.suppress(OSError), self._folder() as folder:
            remove_leftovers(folder, FILE)
        try:
            return parse(self._read()), None
        except FileNotFoundError:
            return State(), None
        except OSError as error:
            return State(), f"{self._path} cannot be read and {self.set_aside()}: {error.strerror}"
        except (ValueError, RecursionError) as error:
            return State(), f"{self._path} is corrupt and {self.set_aside()}: {error}"

    def _read_only(self) -> State:
        with contextlib.suppress(OSError, ValueError, RecursionError):
            return parse(self._read())
        return State()

    def _read(self) -> bytes:
        fd = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            owner = os.fstat(fd).st_uid
            if owner != os.geteuid():
                raise ValueError(f"it is of user id {owner}, who may have written anything")
            # Not closed by it: for a directory open() fails, and leaves the descriptor open.
            with open(fd, "rb", closefd=False) as stream:
                return stream.read(MAX_FILE + 1)
        finally:
            os.close(fd)

    def up_to_date(self, state: State) -> bool:
        """Whether the file is there, is the one that was written last, and holds this state."""
        return state == self._written and self._identity is not None and self._identity == self._identify()

    @property
    def is_gone(self) -> bool:
        """Whether the file that was written last is no longer there, or is another one now."""
        return self._identity is not None and self._identity != self._identify()

    def save(self, state: State) -> None:
        """Write the state, if the file does not hold it already.

        Raises:
            OSError: the directory cannot be written to, or is full; the old file stays.
        """
        self._take_lock()
        if self.up_to_date(state):
            return
        data = json.dumps({"schema": SCHEMA, **encode(state)}).encode()
        if len(data) > MAX_FILE:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), self._path)
        with self._folder() as folder:
            replace_in(folder, FILE, data, 0o600)
        self._written = state
        self._identity = self._identify()

    def close(self) -> None:
        """Let another agent have the folder."""
        if self._lock is not None:
            self._lock.release()

    def _take_lock(self) -> None:
        if self._lock is not None:
            self._lock.take()

    def _identify(self) -> tuple[int, ...] | None:
        """What tells this file from any other, or from itself once somebody has written to it."""
        try:
            status = os.lstat(self._path)
        except OSError:
            return None
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns

    @contextlib.contextmanager
    def _folder(self) -> Iterator[int]:
        folder = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield folder
        finally:
            os.close(folder)

    def set_aside(self) -> str:
        """Rename a file that cannot be used; what became of it, in words for the log."""
        aside = f"{self._path}.corrupt"
        if os.path.isdir(aside):  # noqa: PTH112
            aside += f".{secrets.token_hex(8)}"  # a folder is not replaced
        try:
            os.rename(self._path, aside)  # noqa: PTH104
        except OSError as error:
            return f"stays ({error.strerror})"
        return f"was set aside as {aside}"


def parse(data: bytes) -> State:
    """A state from the bytes of its file.

    Raises:
        ValueError: it is none, or one of a schema that this agent does not read.
    """
    if len(data) > MAX_FILE:
        raise ValueError("the file is too large")
    value = json.loads(data)
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        raise DecodeError(f"the schema is not {SCHEMA}")
    state: State = decode(State, value, "state")
    return state
