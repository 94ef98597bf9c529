# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import resource
import secrets
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tdx_headroom.commands.output_file import write
from tdx_headroom.errors import AgentError
from tdx_headroom.output.textfile import check_name

if TYPE_CHECKING:
    from collections.abc import Callable

HOST = Path(__file__).parents[2] / "hosts" / "emerald-rapids"
needs_root = pytest.mark.root("can become somebody else")


def command(
    *arguments: str | Path, before: Callable[[], object] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `tdx-headroom textfile` on a captured host."""
    return subprocess.run(
        [sys.executable, "-m", "tdx_headroom", "textfile", "--path.rootfs", HOST, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=before,
    )


def test_the_metrics_are_in_the_file(tmp_path: Path) -> None:
    """The file has the host's metrics, none of the process, and says nothing on stdout."""
    run = command("--output", tmp_path / "tdx.prom")
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    text = (tmp_path / "tdx.prom").read_text()
    assert '\ntdx_reserved_areas_headroom_min{strategy="memory-regions"} -1.0\n' in text
    assert "\ntdx_headroom_assessment_timestamp_seconds " in text
    assert "process_" not in text
    assert "python_" not in text
    assert [path.name for path in tmp_path.iterdir()] == ["tdx.prom"]


@pytest.mark.program("promtool")
def test_promtool_says_nothing(tmp_path: Path) -> None:
    """`promtool check metrics` finds nothing to say about the file."""
    command("--output", tmp_path / "tdx.prom")
    with (tmp_path / "tdx.prom").open() as text:
        run = subprocess.run(["promtool", "check", "metrics"], stdin=text, capture_output=True, text=True)
    assert (run.returncode, run.stdout + run.stderr) == (0, "")


def test_stdout_instead_of_a_file() -> None:
    """`--output -` prints the same."""
    run = command("--output", "-")
    assert run.stdout.startswith("# HELP tdx_")
    assert run.returncode == 0


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_the_mode_is_the_same_under_every_umask(tmp_path: Path, umask: int) -> None:
    """node_exporter is another user: the file is 0644 whatever the umask."""
    assert command("--output", tmp_path / "tdx.prom", before=lambda: os.umask(umask)).returncode == 0
    assert stat.S_IMODE((tmp_path / "tdx.prom").stat().st_mode) == 0o644


def test_an_old_file_is_replaced_at_once(tmp_path: Path) -> None:
    """A reader that has the old file open goes on reading the old one."""
    path = tmp_path / "tdx.prom"
    path.write_text("old\n")
    with path.open() as reader:
        write(str(path), b"new\n")
        assert reader.read() == "old\n"
    assert path.read_text() == "new\n"


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    """Somebody who can write to the folder does not get another file overwritten."""
    victim = tmp_path / "victim"
    victim.write_text("precious\n")
    path = tmp_path / "tdx.prom"
    path.symlink_to(victim)
    write(str(path), b"new\n")
    assert victim.read_text() == "precious\n"
    assert not path.is_symlink()
    assert path.read_text() == "new\n"


@pytest.mark.parametrize("there", ["pipe", "/proc/self/fd/1", "/dev/null"])
def test_a_device_or_pipe_is_not_replaced(tmp_path: Path, there: str) -> None:
    """Root that writes to /dev/null, a pipe, or a link such as /dev/stdout is told, and they stay."""
    path = tmp_path / "x.prom"
    if there == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(there)
    mode = path.lstat().st_mode
    with pytest.raises(AgentError, match="is no regular file; give a file's name, or - for standard output"):
        write(str(path), b"new\n")
    assert path.lstat().st_mode == mode


def test_a_link_in_place_of_the_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even with its name guessed, a temporary file that is there already is neither followed nor used."""
    monkeypatch.setattr(secrets, "token_hex", lambda _: "guessed")
    victim = tmp_path / "victim"
    victim.write_text("precious\n")
    (tmp_path / ".tdx.prom.guessed").symlink_to(victim)
    with pytest.raises(AgentError, match="File exists"):
        write(str(tmp_path / "tdx.prom"), b"new\n")
    assert victim.read_text() == "precious\n"
    assert not (tmp_path / "tdx.prom").exists()


def test_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name without a folder is in the current one."""
    monkeypatch.chdir(tmp_path)
    write("tdx.prom", b"x\n")
    assert (tmp_path / "tdx.prom").read_bytes() == b"x\n"


@pytest.mark.parametrize("name", ["tdx.txt", "tdx.prom.old", ".tdx.prom", "folder/"])
def test_a_name_that_the_collector_passes_over(name: str) -> None:
    """A name that node_exporter does not read is refused before anything is read: EX_USAGE."""
    with pytest.raises(AgentError, match="is no file that node_exporter reads") as raised:
        check_name(f"/var/lib/{name}")
    assert raised.value.status == os.EX_USAGE


def one_line(run: subprocess.CompletedProcess[str], text: str, status: int) -> None:
    assert run.stderr.startswith("tdx-headroom: ")
    assert len(run.stderr.splitlines()) == 1
    assert text in run.stderr
    assert run.returncode == status


def test_no_such_folder(tmp_path: Path) -> None:
    """A folder that is not there is one line and EX_CANTCREAT."""
    run = command("--output", tmp_path / "missing" / "tdx.prom")
    said = (
        f"{tmp_path}/missing cannot be written: No such file or directory; make this folder, or name another"
    )
    one_line(run, said, os.EX_CANTCREAT)


def test_a_folder_in_its_place(tmp_path: Path) -> None:
    """A folder of the file's name stays, and nothing is left behind."""
    (tmp_path / "tdx.prom").mkdir()
    one_line(command("--output", tmp_path / "tdx.prom"), "Is a directory", os.EX_IOERR)
    assert [path.name for path in tmp_path.iterdir()] == ["tdx.prom"]


@needs_root
def test_a_folder_that_may_not_be_written_to() -> None:
    """Not permitted is one line with a hint."""
    program = (
        "import os, sys\nfrom tdx_headroom.commands.output_file import write\n"
        "from tdx_headroom.errors import AgentError\nos.setgroups([]); os.setresuid(65534, 65534, 65534)\n"
        "try:\n    write(sys.argv[1], b'x')\nexcept AgentError as error:\n    print(error)\n"
    )
    # Not below pytest's folder, which is the user's alone.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        run = subprocess.run(
            [sys.executable, "-c", program, f"{folder}/x.prom"], capture_output=True, text=True
        )
    assert run.stdout == (
        f"{folder}/x.prom cannot be written: Permission denied; run as a user that may write there\n"
    ), run.stderr


def test_a_full_disk(tmp_path: Path) -> None:
    """When there is no room the old file stays as it was, and no half file is left."""
    path = tmp_path / "tdx.prom"
    path.write_text("old\n")

    def no_room() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    one_line(command("--output", path, before=no_room), "cannot be written: File too large", os.EX_IOERR)
    assert path.read_text() == "old\n"
    assert [path.name for path in tmp_path.iterdir()] == ["tdx.prom"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_ended_while_it_writes(tmp_path: Path, number: signal.Signals) -> None:
    """A signal that ends the process waits until the file is whole; nothing else is left."""
    path = tmp_path / "tdx.prom"
    program = (
        "import os, signal, sys\nfrom tdx_headroom.commands.output_file import write\nfsync = os.fsync\n"
        # Who runs under nohup ignores SIGHUP, and so would this.
        "signal.signal(int(sys.argv[2]), signal.SIG_DFL)\n"
        "os.fsync = lambda fd: (os.kill(os.getpid(), int(sys.argv[2])), fsync(fd))\n"
        "write(sys.argv[1], b'x')\nprint('went on')"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, path, str(int(number))], timeout=60, capture_output=True, text=True
    )
    assert (run.returncode, run.stdout, run.stderr) == (-number, "", "")
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("tdx.prom", "x")]


def test_killed_while_it_writes(tmp_path: Path) -> None:
    """What is left of a run that was killed has a hidden name that no collector reads."""
    path = tmp_path / "tdx.prom"
    program = (
        "import os, signal, sys\nfrom tdx_headroom.commands.output_file import write\n"
        "os.fsync = lambda fd: os.kill(os.getpid(), signal.SIGKILL)\n"
        "write(sys.argv[1], b'x')"
    )
    subprocess.run([sys.executable, "-c", program, path], timeout=60)
    (left,) = (found.name for found in tmp_path.iterdir())
    assert left.startswith(".tdx.prom.")
    assert not left.endswith(".prom")


def test_a_host_without_sources(tmp_path: Path) -> None:
    """Where nothing can be read the file is written all the same, and says which sources failed."""
    host = tmp_path / "host"
    shutil.copytree(HOST / "proc", host / "proc")
    (host / "proc" / "iomem").unlink()
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "tdx_headroom",
            "textfile",
            "--path.rootfs",
            host,
            "--output",
            tmp_path / "t.prom",
        ],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert 'tdx_headroom_source_success{source="iomem"} 0.0' in (tmp_path / "t.prom").read_text()
