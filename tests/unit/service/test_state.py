# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tdx_headroom.facts.host_facts import HostFacts
from tdx_headroom.facts.observations import Platform, TdxSeen
from tdx_headroom.facts.sources import LastCmrs
from tdx_headroom.host.choose import read_facts
from tdx_headroom.hostfs.root import Root
from tdx_headroom.service.agent import Agent
from tdx_headroom.service.state import BootState, State, map_changed, remember
from tdx_headroom.service.state_file import SCHEMA, StateFile, parse
from tdx_headroom.sources.kernel_log.records import LogRecord
from tdx_headroom.verdict.assessment import assess

HOSTS = Path(__file__).parents[2] / "hosts"
BOOT = BootState(
    "boot-1",
    records=(LogRecord("virt/tdx: module initialized", 4, 7), LogRecord("", 5, 8)),
    last_seq=5,
    cmrs=((1 << 20, 1 << 30),),
    bios_version="1.2",
    memory_total=1 << 34,
    map_digest="d",
    headroom=(("memory-regions", -1),),
)


def test_round_trip(tmp_path: Path) -> None:
    """What is saved is loaded, from a file that only its owner can read."""
    StateFile(str(tmp_path)).save(State(BOOT, None))
    assert StateFile(str(tmp_path)).load() == (State(BOOT, None), None)
    assert (tmp_path / "state.json").stat().st_mode & 0o777 == 0o600


def test_a_new_boot_begins_anew() -> None:
    """The current boot becomes the previous one; a boot without knowledge keeps the one before."""
    state = State(BOOT, None).for_boot("boot-2")
    assert (state.current, state.previous) == (BootState("boot-2"), BOOT)
    assert State(BOOT, None).for_boot("boot-1") == State(BOOT, None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"schema": "other"}',
        '{"schema": "tdx-headroom/state/1", "current": 7}',
        "[" * 99999,
    ],
)
def test_a_corrupt_file_is_set_aside(text: str, tmp_path: Path) -> None:
    """It is reported, kept under another name, and a new one can be written."""
    path = tmp_path / "state.json"
    path.write_text(text)
    state, problem = StateFile(str(tmp_path)).load()
    assert state == State()
    assert problem is not None
    assert "set aside" in problem
    assert (tmp_path / "state.json.corrupt").read_text() == text
    StateFile(str(tmp_path)).save(State(BOOT, None))
    assert StateFile(str(tmp_path)).load()[0].current == BOOT


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """A link in place of the file is neither read nor written through, though a whole state is behind it."""
    StateFile(str(tmp_path)).save(State(BOOT, None))
    target = tmp_path / "state.json"
    before = target.read_bytes()
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "state.json").symlink_to(target)
    state, problem = StateFile(str(tmp_path / "dir")).load()
    assert (state, problem is not None) == (State(), True)
    StateFile(str(tmp_path / "dir")).save(State(None, BOOT))
    assert target.read_bytes() == before


def test_a_planted_file_is_not_written_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever could guess the temporary name gains nothing by a link of that name."""
    target = tmp_path / "target"
    target.write_text("precious")
    monkeypatch.setattr("secrets.token_hex", lambda _: "0" * 16)
    (tmp_path / f".state.json.{'0' * 16}").symlink_to(target)
    with pytest.raises(FileExistsError):
        StateFile(str(tmp_path)).save(State(BOOT, None))
    assert target.read_text() == "precious"


def test_a_fifo_does_not_hang(tmp_path: Path) -> None:
    """A FIFO in place of the file, which nobody writes to, is set aside like any corrupt file."""
    os.mkfifo(tmp_path / "state.json")
    state, problem = StateFile(str(tmp_path)).load()
    assert (state, problem is not None) == (State(), True)


def test_a_directory_in_its_place_is_set_aside(tmp_path: Path) -> None:
    """What cannot even be read does not end the agent, is kept under another name, and makes room."""
    (tmp_path / "state.json").mkdir()
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    state, problem = StateFile(str(tmp_path)).load()
    assert state == State()
    path = tmp_path / "state.json"
    assert problem == f"{path} cannot be read and was set aside as {path}.corrupt: Is a directory"
    assert len(list(Path("/proc/self/fd").iterdir())) <= descriptors
    StateFile(str(tmp_path)).save(State(BOOT, None))
    assert StateFile(str(tmp_path)).load()[0].current == BOOT


def test_a_file_that_may_not_be_read_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another user's agent has kept there stays, under another name."""
    StateFile(str(tmp_path)).save(State(BOOT, None))
    kept = (tmp_path / "state.json").read_bytes()

    def refuse(path: str, *_: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        _, problem = StateFile(str(tmp_path)).load()
    assert problem is not None
    assert problem.endswith(": Permission denied")
    StateFile(str(tmp_path)).save(State(None, BOOT))
    assert (tmp_path / "state.json.corrupt").read_bytes() == kept


def test_it_is_on_disk_before_it_takes_the_old_ones_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power failure leaves the old state or the new one, never an empty file."""
    done: list[str] = []
    for name in ("fsync", "rename"):
        real = getattr(os, name)

        def noted(*arguments: Any, _name: str = name, _real: Any = real, **options: Any) -> None:  # noqa: ANN401
            done.append(_name)
            _real(*arguments, **options)

        monkeypatch.setattr(os, name, noted)
    StateFile(str(tmp_path)).save(State(BOOT, None))
    assert done == ["fsync", "rename"]


def test_an_unchanged_state_is_not_written(tmp_path: Path) -> None:
    """A few sequence numbers alone do not make a write."""
    file = StateFile(str(tmp_path))
    file.save(State(BOOT, None))
    before = (tmp_path / "state.json").stat().st_mtime_ns
    file.save(State(BOOT.with_log(BOOT.records, 99), None))
    assert (tmp_path / "state.json").stat().st_mtime_ns == before


def test_records_that_were_read_do_not_look_lost() -> None:
    """How far the log was read is kept every few hundred records, and exactly at the end."""
    assert BOOT.with_log(BOOT.records, 6, exact=True).last_seq == 6
    assert BOOT.with_log(BOOT.records, 5 + 256).last_seq == 261
    assert BOOT.with_log((), 6).last_seq == 6


def test_cmrs_outlive_boots_that_do_not_show_them(tmp_path: Path) -> None:
    """Kernels that print no CMRs, boot after boot, do not make the agent forget them."""
    state = State(BOOT, None)
    for number in (2, 3, 4):
        state = state.for_boot(f"boot-{number}")
        assert state.last_cmrs == LastCmrs(((1 << 20, 1 << 30),), "boot-1", "1.2", 1 << 34)
        state = replace(state, current=replace(BOOT, boot_id=f"boot-{number}", cmrs=None))
    StateFile(str(tmp_path)).save(state)
    assert StateFile(str(tmp_path)).load() == (state, None)


@pytest.mark.parametrize("missing", ["sys/kernel/debug/memblock/memory", "proc/iomem"])
def test_another_source_is_no_change_of_memory(missing: str, tmp_path: Path) -> None:
    """memblock splits memory where iomem does not; a fallback to it must not look like a changed map."""
    root = tmp_path / "host"
    subprocess.run(["cp", "-rL", str(HOSTS / "good-2-node"), str(root)], check=True)
    before = remember(BootState("a"), assess(read_facts(Root(root))))
    (root / missing).unlink()
    after = remember(BootState("b"), assess(read_facts(Root(root))))
    assert map_changed(before, after) is False
    for path in ("sys/kernel/debug/memblock/memory", "proc/iomem", "dev/kmsg"):
        (root / path).unlink(missing_ok=True)
    firmware = remember(BootState("c"), assess(read_facts(Root(root))))
    assert firmware.map_digest is not None
    assert map_changed(before, firmware) is None


def test_leftovers_are_removed(tmp_path: Path) -> None:
    """Temporary files of an agent that was killed go at the next start, an earlier version's too."""
    for name in (".state.json.0123456789abcdef", "state.json.0123456789abcdef", ".state.json.bak"):
        (tmp_path / name).write_text("half")
    StateFile(str(tmp_path)).load()
    assert [path.name for path in tmp_path.iterdir()] == [".state.json.bak"]


def wait_for_change(path: Path) -> None:
    """Until it has been written, however long a busy machine takes to start a program."""
    before = path.stat().st_ino if path.exists() else None
    end = time.monotonic() + 60
    while time.monotonic() < end and (path.stat().st_ino if path.exists() else None) == before:
        time.sleep(0.001)


def test_kill_at_any_time_leaves_a_whole_file(tmp_path: Path) -> None:
    """An agent that is killed while it writes, again and again, leaves the old or the new state."""
    code = (
        "import sys; from tdx_headroom.service.state_file import StateFile; f = StateFile(sys.argv[1])\n"
        "from tdx_headroom.service.state import BootState, State\n"
        "for n in range(10**9): f.save(State(BootState(str(n), map_digest='x' * 200000), None))"
    )
    seen = set()
    for delay in (0.0, 0.01, 0.03, 0.06):
        process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
        wait_for_change(tmp_path / "state.json")
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        state, problem = StateFile(str(tmp_path)).load()
        assert problem is None
        seen.add(None if state.current is None else state.current.boot_id)
    assert len(seen - {None}) > 0


def test_a_directory_that_cannot_be_written_is_no_end(tmp_path: Path) -> None:
    """The agent goes on to serve, and its metric says that nothing is kept."""
    agent = Agent(Root(HOSTS / "good-2-node"), state_file=StateFile(str(tmp_path / "gone")))
    agent.refresh()
    values = {s.name: s.value for family in agent.collect() for s in family.samples}
    assert agent.assessment is not None
    assert values["tdx_headroom_state_write_success"] == 0


def test_the_boot_before_is_compared(tmp_path: Path) -> None:
    """A memory map that differs from the last boot's shows, with that boot's headroom."""
    facts = read_facts(Root(HOSTS / "good-2-node"))
    boot = remember(BootState("earlier"), assess(facts))
    for digest, changed in ((boot.map_digest, 0), ("kernel:another", 1)):
        file = StateFile(str(tmp_path))
        assert facts.platform is not None
        state = State(None, replace(boot, map_digest=digest)).for_boot(facts.platform.boot_id or "")
        agent = Agent(Root(HOSTS / "good-2-node"), state=state, state_file=file)
        agent.refresh()
        samples = {(s.name, *s.labels.values()): s.value for f in agent.collect() for s in f.samples}
        assert samples[("tdx_memory_map_changed",)] == changed
        assert samples[("tdx_reserved_areas_headroom_min_last_boot", "cmr-walk")] == 13


@pytest.mark.parametrize(("release", "gone"), [("6.8.0-101-generic", 1), (None, 0)])
def test_tdx_that_has_gone(tmp_path: Path, release: str | None, gone: int) -> None:
    """A host that had TDX, and boots a kernel without it, is told in metric, verdict and state."""
    tree = tmp_path / "tree"
    shutil.copytree(HOSTS / "good-2-node", tree)
    known = read_facts(Root(tree))
    boot = remember(BootState("earlier"), assess(known))
    assert boot.tdx is TdxSeen.UP
    if release is not None:
        (tree / "proc/sys/kernel/osrelease").write_text(f"{release}\n")
        (tree / "proc/sys/kernel/random/boot_id").write_text("00000000-0000-4000-8000-00000000000b\n")
        (tree / "dev/kmsg").unlink()
        cpuinfo = tree / "proc/cpuinfo"
        cpuinfo.write_text(cpuinfo.read_text().replace("tdx_host_platform", ""))
    now = read_facts(Root(tree))
    assert now.platform is not None
    file = StateFile(str(tmp_path))
    agent = Agent(Root(tree), state=State(boot).for_boot(now.platform.boot_id or ""), state_file=file)
    agent.refresh()
    values = {s.name: s.value for family in agent.collect() for s in family.samples}
    assert values["tdx_gone_since_last_boot"] == gone
    assert agent.assessment is not None
    kinds = {finding.kind for finding in agent.assessment.verdict.findings}
    assert ("gone-since-last-boot" in kinds) is bool(gone)
    kept, _ = file.load()
    assert kept.current is not None
    assert kept.current.tdx is (TdxSeen.NONE if gone else TdxSeen.UP)


@pytest.mark.parametrize(
    ("bios", "less_memory", "used"),
    [
        ("same", 0, True),
        ("same", 1 << 20, True),
        ("other", 0, False),
        (None, 0, False),
        ("same", 2 << 30, False),
    ],
)
def test_cmrs_of_an_earlier_boot(*, bios: str | None, less_memory: int, used: bool, tmp_path: Path) -> None:
    """They are used with their label, unless BIOS version or memory differ."""
    root = tmp_path / "host"
    subprocess.run(["cp", "-rL", str(HOSTS / "good-2-node"), str(root)], check=True)
    log = root / "dev" / "kmsg"
    log.write_text("".join(x for x in log.read_text().splitlines(keepends=True) if "CMR" not in x))
    facts = read_facts(Root(root))
    assert facts.cmrs is None
    assert facts.platform is not None
    assert facts.platform.memory_total is not None
    version = facts.platform.bios_version if bios == "same" else bios
    last = LastCmrs(((1 << 20, 1 << 30),), "b", version, facts.platform.memory_total - less_memory)
    again = read_facts(Root(root), last_cmrs=last)
    assert (again.cmrs == last.cmrs) == used
    if used:
        assert str(again.cmr_source) == f"last seen, boot b, BIOS version {version}"
        assert any("not from this boot" in text for text in assess(again).verdict.evidence)


def test_schema_is_written(tmp_path: Path) -> None:
    """The file names its schema, so that a later agent can tell."""
    StateFile(str(tmp_path)).save(State(BOOT, None))
    assert json.loads((tmp_path / "state.json").read_text())["schema"] == "tdx-headroom/state/1"
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


@pytest.mark.parametrize(("uptime", "before"), [(60.0, TdxSeen.UP), (1800.0, TdxSeen.NONE)])
def test_a_short_boot_hides_nothing(uptime: float, before: TdxSeen) -> None:
    """Who reboots at once is told all the same that TDX has gone; a longer boot without it is enough."""
    facts = HostFacts(platform=Platform(tdx_host_platform=False, boot_time=1e9, boot_id="b"))
    state = State(BootState("a", tdx=TdxSeen.UP)).for_boot("b")
    assert state.tdx_before is TdxSeen.UP
    assert state.current is not None
    without = remember(state.current, assess(facts), 1e9 + uptime)
    assert without.tdx is TdxSeen.NONE
    assert replace(state, current=without).for_boot("c").tdx_before is before


def test_a_state_of_an_earlier_version() -> None:
    """Of the boot before, it says nothing about TDX."""
    old = {"schema": SCHEMA, "current": {"boot_id": "a", "map_digest": "kernel:x"}, "previous": None}
    state = parse(json.dumps(old).encode()).for_boot("b")
    assert state.previous is not None
    assert state.tdx_before is None


def test_a_boot_that_the_journal_tells_of(tmp_path: Path) -> None:
    """It counts as if the agent had been there, and is kept."""
    file = StateFile(str(tmp_path))
    agent = Agent(Root(HOSTS / "good-2-node"), state_file=file)
    agent.refresh()
    agent.had_tdx(TdxSeen.UP)
    agent.write_state()
    values = {s.name: s.value for family in agent.collect() for s in family.samples}
    assert values["tdx_gone_since_last_boot"] == 0
    assert file.load()[0].tdx_before is TdxSeen.UP
