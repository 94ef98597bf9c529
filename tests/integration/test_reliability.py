# SPDX-License-Identifier: Apache-2.0
"""Faults, injected into the running agent; docs/reliability.md says what it did (test_written_pages.py)."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import pytest

from tdx_headroom.service.state_file import StateFile
from tests.integration.agent import Running, agent
from tests.integration.recorded import record
from tests.integration.servers import wait_for

CHECKOUT = Path(__file__).parents[2]
HOST = CHECKOUT / "tests" / "hosts" / "good-2-node"
IOMEM = "proc/iomem"
MEMBLOCK = "sys/kernel/debug/memblock/memory"
KMSG = "dev/kmsg"
LARGE = 20 << 20

Inject = Callable[[Path], None]


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong with one file of the host."""

    name: str
    source: str
    path: str
    inject: Inject


def put(path: Path, data: bytes) -> None:
    """At once: who looks meanwhile sees what was there or all of this, and no half of it."""
    new = path.with_name(f"{path.name}.new")
    new.write_bytes(data)
    new.replace(path)


def write(data: bytes) -> Inject:
    return lambda path: put(path, data)


def edit(change: Callable[[str], str]) -> Inject:
    return lambda path: put(path, change(path.read_text()).encode())


def _replace(path: Path, make: Callable[[], object]) -> None:
    path.unlink()
    make()


def bind(source: str, path: Path) -> None:
    subprocess.run(["mount", "--bind", source, str(path)], check=True)


def link_loop(path: Path) -> None:
    _replace(path, lambda: path.symlink_to(path.name))


def link_out(path: Path) -> None:
    _replace(path, lambda: path.symlink_to("/etc/hostname"))


def swap_rows(text: str) -> str:
    rows = text.splitlines()
    return "\n".join([rows[1], rows[0], *rows[2:]]) + "\n"


FAULTS = [
    Fault("missing file", "memblock", MEMBLOCK, lambda path: path.unlink()),
    Fault("directory in its place", "iomem", IOMEM, lambda path: _replace(path, path.mkdir)),
    Fault("FIFO in its place", "iomem", IOMEM, lambda path: _replace(path, lambda: os.mkfifo(path))),
    Fault("symbolic link to itself", "iomem", IOMEM, link_loop),
    Fault("symbolic link out of the host", "iomem", IOMEM, link_out),
    Fault("empty file", "memblock", MEMBLOCK, write(b"")),
    Fault("file of 20 MiB", "iomem", IOMEM, write(b"00100000-3fffffff : System RAM\n" * (LARGE // 31))),
    Fault("NUL bytes", "memblock", MEMBLOCK, write(b"\0" * 100)),
    Fault("bytes that are not UTF-8", "iomem", IOMEM, write(b"\xff\xfe\n")),
    Fault("all addresses zero", "iomem", IOMEM, write(b"00000000-00000000 : System RAM\n")),
    Fault("rows out of order", "memblock", MEMBLOCK, edit(swap_rows)),
    Fault("row cut in the middle", "iomem", IOMEM, edit(lambda text: text + "  100000000-3f")),
    Fault("range that ends before it starts", "iomem", IOMEM, write(b"3fffffff-00100000 : System RAM\n")),
    Fault("log that is no log", "kernel-log", KMSG, write(b"hello\n")),
    Fault(
        "log with a forged memory map",
        "log-node-ranges",
        KMSG,
        edit(
            lambda text: (
                text
                + "6,99998,9,-;Early memory node ranges\n6,99999,9,-;  node   0: [mem 0x1-0x0]\n6,1,1,-;x\n"
            )
        ),
    ),
]

ODD_CONTENT = Path(__file__).parents[1] / "faults"
EXPECTED: dict[str, dict[str, object]] = json.loads((ODD_CONTENT / "expected.json").read_text("utf-8"))
PLACES = {
    "iomem": ("iomem", IOMEM),
    "memblock": ("memblock", MEMBLOCK),
    "kmsg": ("kernel-log", KMSG),
    "zoneinfo": ("zoneinfo", "proc/zoneinfo"),
}
"""The source, and its file, that the folders of tests/faults belong to, where that is one file."""

CONTENT = [name for name in EXPECTED if name.partition("/")[0] in PLACES]

needs_mount = pytest.mark.root("can mount")
BOUND = [
    Fault("read gives EIO", "iomem", IOMEM, lambda path: bind(f"/proc/{os.getpid()}/mem", path)),
    Fault("read gives EINVAL", "iomem", IOMEM, lambda path: bind("/sys/class/net/lo/speed", path)),
]
"""Errors of read(2) itself: a file of the kernel's that gives them lies in place of the host's."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Path]]:
    """One agent for all faults: what one leaves behind would show in the next."""
    root = tmp_path_factory.mktemp("faults") / "host"
    shutil.copytree(HOST, root)
    with agent("--path.rootfs", str(root), "--refresh-interval", "50ms") as started:
        yield started, root


@contextlib.contextmanager
def tmpfs(directory: Path, options: str) -> Iterator[None]:
    """A file system in memory at this place; what a sandbox says that has none is why the test is skipped."""
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)]
    mounted = subprocess.run(command, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", directory], check=True)


def looked_at(started: Running) -> float:
    """When the agent has last looked at the host."""
    return started.value("tdx_headroom_assessment_timestamp_seconds") or 0


def look_again(started: Running) -> None:
    """Wait for two more looks: the first may have begun before now."""
    for _ in range(2):
        before = looked_at(started)
        wait_for("new look at the host", lambda before=before: looked_at(started) != before)  # type: ignore[misc]


@pytest.mark.parametrize(
    "fault",
    [*FAULTS, *(pytest.param(fault, marks=needs_mount) for fault in BOUND)],
    ids=lambda fault: fault.name,
)
def test_fault(fault: Fault, running: tuple[Running, Path]) -> None:
    """The agent keeps answering with a plan, names the source in metric and log, and recovers."""
    started, root = running
    path = root / fault.path
    good = path.read_bytes()
    began = len(started.log)

    def success() -> float | None:
        return started.value("tdx_headroom_source_success", source=fault.source)

    assert success() == 1
    fault.inject(path)
    try:
        look_again(started)
        assert success() == 0
        assert started.value("tdx_reserved_areas_headroom_min", strategy="memory-regions") is not None
        assert started.get("/")[0] == started.get("/-/ready")[0] == 200
        lines = [
            line
            for line in started.log[began:]
            if "source failed" in line and f"source={fault.source} " in line
        ]
        said = re.search(r'error="((?:[^"\\]|\\.)*)"', lines[-1])
        assert said is not None
    finally:
        if fault in BOUND:
            # The agent may be reading it right now.
            subprocess.run(["umount", "--lazy", str(path)], check=True)
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        put(path, good)
    wait_for("recovery", lambda: success() == 1)
    message = re.sub(r"\\(.)", r"\1", said[1]).replace(f"{root}/", "/").replace(str(root), "the host's root")
    message = re.sub(r"(\\x00){3,}…?", r"\\x00…", message.replace("`", "'").replace("|", "\\|"))
    record(f"{fault.name} (`/{fault.path}`)", f"says `{message}`, plans with what is left")


@pytest.mark.parametrize("name", CONTENT)
def test_odd_content(name: str, running: tuple[Running, Path]) -> None:
    """A faulty file of tests/faults under the running agent is refused by name, or read; and it recovers."""
    started, root = running
    source, relative = PLACES[name.partition("/")[0]]
    path = root / relative
    good = path.read_bytes()
    refused = "reason" in EXPECTED[name]
    began = len(started.log)
    put(path, (ODD_CONTENT / name).read_bytes())
    try:
        look_again(started)
        assert started.value("tdx_headroom_source_success", source=source) == (not refused)
        assert started.value("tdx_headroom_assessment_stale") == 0
        assert started.value("tdx_memory_regions") is not None
        assert started.get("/")[0] == started.get("/-/ready")[0] == 200
        if refused:
            assert any(
                "source failed" in line and f"source={source} " in line for line in started.log[began:]
            )
    finally:
        put(path, good)
    wait_for("recovery", lambda: started.value("tdx_headroom_source_success", source=source) == 1)
    record(
        f"`{name}` of tests/faults (`/{relative}`)",
        "refuses it by name and line, plans with what is left" if refused else "reads it",
    )


def test_a_file_that_changes_while_it_is_read(running: tuple[Running, Path]) -> None:
    """A file that somebody rewrites all the time is read or refused, and once it is whole all is well."""
    started, root = running
    path = root / IOMEM
    good = path.read_bytes()
    regions = started.value("tdx_memory_regions")
    end = time.monotonic() + 2
    while time.monotonic() < end:
        path.write_bytes(good[: len(good) // 2])
        path.write_bytes(good)
        assert started.get("/-/ready")[0] == 200
    wait_for("recovery", lambda: started.value("tdx_headroom_source_success", source="iomem") == 1)
    assert started.value("tdx_memory_regions") == regions
    record("file that changes between two reads (`/proc/iomem`)", "reads what is there, or refuses it")


@contextlib.contextmanager
def managed(address: Path, watchdog: float) -> Iterator[tuple[Running, socket.socket]]:
    """An agent that tells a service manager how it is, and the manager's socket; seconds of its watchdog."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(address))
        manager.settimeout(60)
        told = ["env", f"NOTIFY_SOCKET={address}", f"WATCHDOG_USEC={watchdog * 1e6:.0f}"]
        keep_root = ("--user", "root") if os.geteuid() == 0 else ()
        with agent("--path.rootfs", str(HOST), *keep_root, before=told) as started:
            receive(manager, b"READY=1")
            yield started, manager


def receive(manager: socket.socket, message: bytes) -> None:
    """Read what the agent tells until this is among it."""
    while message not in manager.recv(4096):
        pass


def test_a_service_manager_that_goes_away(tmp_path: Path) -> None:
    """The socket of NOTIFY_SOCKET vanishes under the agent: it goes on, and reloads as before."""
    address = tmp_path / "notify"
    with managed(address, watchdog=0.2) as (started, manager):
        manager.close()
        address.unlink()
        before = looked_at(started)
        started.process.send_signal(signal.SIGHUP)
        wait_for("look at the host", lambda: looked_at(started) > before)
        time.sleep(0.5)
        assert started.get("/-/ready")[0] == 200
    record("service manager's socket gone", "goes on without it", "not needed")


def test_it_was_stopped_for_longer_than_the_watchdog_allows(tmp_path: Path) -> None:
    """Woken up late, the agent feeds the watchdog at once and serves on: systemd may yet let it live."""
    with managed(tmp_path / "notify", watchdog=0.4) as (started, manager):
        receive(manager, b"WATCHDOG=1")
        started.process.send_signal(signal.SIGSTOP)
        time.sleep(1)
        manager.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while manager.recv(4096):
                pass
        started.process.send_signal(signal.SIGCONT)
        manager.settimeout(60)
        receive(manager, b"WATCHDOG=1")
        assert started.get("/-/ready")[0] == 200
    record("watchdog fed late", "feeds it as soon as it runs again, unless systemd has killed it (tests/vm)")


@pytest.mark.root("can become somebody who may not read a file")
def test_a_file_that_its_user_may_not_read() -> None:
    """EACCES in the middle of the agent's life is one failing source, and goes away with its cause."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        root = folder / "host"
        shutil.copytree(HOST, root)
        with agent("--path.rootfs", str(root), "--refresh-interval", "50ms", "--user", "nobody") as started:
            for mode, value in ((0o600, 0), (0o644, 1)):
                (root / IOMEM).chmod(mode)
                wait_for(
                    f"success of {value}",
                    lambda: started.value("tdx_headroom_source_success", source="iomem") == value,  # noqa: B023
                )
            assert any("Permission denied" in line for line in started.log)
    record("EACCES (`/proc/iomem`)", "says that the source needs root or systemd, plans with what is left")


def test_sighup_storm(running: tuple[Running, Path]) -> None:
    """Hundreds of SIGHUPs are answered by few looks at the host."""
    started, _ = running
    for _ in range(500):
        started.process.send_signal(signal.SIGHUP)
    assert started.get("/-/healthy")[0] == 200
    record("500 SIGHUPs at once", "reads the host at most 20 times a second, and keeps answering")


def test_two_scrapes_at_once(running: tuple[Running, Path]) -> None:
    """Scrapes side by side all get the whole exposition."""
    started, _ = running
    sizes: list[int] = []
    threads = [
        Thread(target=lambda: sizes.append(started.get("/metrics")[2].count("\ntdx_"))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(set(sizes)) == 1
    assert len(sizes) == 8
    record("eight scrapes at once", "answers each with all series")


def test_client_that_goes_away(running: tuple[Running, Path]) -> None:
    """Clients that hang up in the middle cost nothing that stays."""
    started, _ = running
    before = descriptors(started)
    for _ in range(50):
        with socket.create_connection(("127.0.0.1", started.port)) as client:
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n")
    wait_for("end of connections", lambda: descriptors(started) <= before + 2)
    record("clients that hang up in the middle of a request", "drops them")


def descriptors(started: Running) -> int:
    return len(list(Path(f"/proc/{started.process.pid}/fd").iterdir()))


def test_nothing_leaks(running: tuple[Running, Path]) -> None:
    """Over a thousand refreshes with every fault behind it, descriptors and memory stay where they are."""
    started, _ = running

    def resident() -> int:
        return int(Path(f"/proc/{started.process.pid}/statm").read_text().split()[1]) * 4096

    fds, memory = descriptors(started), resident()
    time.sleep(3)
    assert descriptors(started) <= fds + 1
    assert resident() < memory + (6 << 20)
    assert len(list(Path(f"/proc/{started.process.pid}/task").iterdir())) == 1


@needs_mount
def test_state_directory_is_read_only(tmp_path: Path) -> None:
    """With a state directory that cannot be written the agent serves, and says so in a metric."""
    arguments = ("--path.rootfs", str(HOST), "--state-directory", str(tmp_path))
    with tmpfs(tmp_path, "ro"), agent(*arguments) as started:
        assert started.value("tdx_headroom_state_write_success") == 0
        assert started.get("/-/ready")[0] == 200
        subprocess.run(["mount", "-o", "remount,rw", str(tmp_path)], check=True)
        started.process.send_signal(signal.SIGHUP)
        wait_for("kept state", lambda: started.value("tdx_headroom_state_write_success") == 1)
    record("state directory read-only", "says that the state cannot be kept, serves on")


@needs_mount
def test_state_directory_is_full(tmp_path: Path) -> None:
    """With a full state directory the agent serves, says so in a metric, and keeps the old state."""
    directory = tmp_path / "state"
    directory.mkdir()
    with tmpfs(directory, "size=4k"):
        (directory / "filler").write_bytes(b"x" * 4096)
        with agent("--path.rootfs", str(HOST), "--state-directory", str(directory)) as started:
            assert started.value("tdx_headroom_state_write_success") == 0
            assert started.get("/-/ready")[0] == 200
        assert [path.name for path in directory.iterdir()] == ["filler"]
    record("state directory full", "says that the state cannot be kept, serves on, keeps the old file")


def version_in(directory: Path) -> str | None:
    """Which firmware the state in the folder is of."""
    current = StateFile(str(directory)).load()[0].current
    return current.bios_version if current is not None else None


@pytest.mark.parametrize("what", ["deleted", "emptied"])
def test_a_state_file_that_goes(what: str, tmp_path: Path) -> None:
    """It is there again, and whole, after the next look at the host, though nothing has changed."""
    arguments = ("--path.rootfs", str(HOST), "--state-directory", str(tmp_path))
    with agent(*arguments, "--refresh-interval", "50ms") as started:
        path = tmp_path / "state.json"
        whole = path.read_bytes()
        for _ in range(2):
            if what == "deleted":
                path.unlink()
            else:
                path.write_bytes(b"")
            wait_for("whole file", lambda: path.exists() and path.read_bytes() == whole)
        assert started.value("tdx_headroom_state_write_success") == 1
    record(f"state file {what} under the agent", "writes it again at its next look at the host")


def test_a_state_that_changes_all_the_time(tmp_path: Path) -> None:
    """It is written once in five seconds, and what is newest is on disk so long after the last change."""
    root, directory = tmp_path / "host", tmp_path / "state"
    shutil.copytree(HOST, root)
    directory.mkdir()
    version = root / "sys/class/dmi/id/bios_version"
    arguments = ("--path.rootfs", str(root), "--state-directory", str(directory))
    with agent(*arguments, "--refresh-interval", "100ms") as started:
        writes, looks = set(), set()
        began = time.monotonic()
        for number in range(1_000_000):
            put(version, f"{number}".encode())
            look_again(started)
            looks.add(looked_at(started))
            writes.add((directory / "state.json").stat().st_mtime_ns)
            if time.monotonic() > began + 4:
                break
        # The host is looked at more often than the state is written.
        assert len(writes) <= (time.monotonic() - began) / 5 + 2
        assert len(looks) > 2 * len(writes)
        put(version, b"soon")
        wait_for("new state", lambda: version_in(directory) == "soon")
        put(version, b"last")
        look_again(started)
    # And at the end, at once.
    assert version_in(directory) == "last"
    did = "writes it once in 5 s (at a new verdict: 1 s), and at the end"
    record("state that changes with every look at the host", did)
