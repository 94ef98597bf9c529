# SPDX-License-Identifier: Apache-2.0
"""The command: every input, what is wrong with one, and the records of this host's service."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
from tests.unit.history.journals import Boot, fake_journalctl, of

from tdx_headroom.cli import main
from tdx_headroom.facts.boot_record import BootRecord, RecordFrom
from tdx_headroom.facts.host_facts import HostFacts, MemoryRegion
from tdx_headroom.facts.kernel_report import ModuleState
from tdx_headroom.service.state import BootState, State
from tdx_headroom.service.state_file import StateFile

if TYPE_CHECKING:
    from pathlib import Path


def test_many_inputs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each under its name; one that cannot be read is a line, and the others are told."""
    (tmp_path / "a.json").write_text(of(Boot(1), Boot(2, 11)))
    (tmp_path / "b.bin").write_bytes(b"\0\1\2")
    status = main(["history", str(tmp_path / "b.bin"), str(tmp_path / "a.json"), str(tmp_path / "none")])
    out, err = capsys.readouterr()
    assert status == os.EX_DATAERR
    assert f"==> {tmp_path / 'a.json'} <==" in out
    assert "+2 holes in [0x0, 0x40000000); 2 areas more" in out
    assert "is neither text nor an archive" in err
    assert "none: No such file or directory" in err
    assert "Traceback" not in err


def test_facts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A stream of facts: a boot each, as JSON; a bad line is answered in its place."""
    good = HostFacts("h1", memory_regions=(MemoryRegion(0, 1 << 30, 0),)).to_json()
    lines = [json.dumps(good), '{"schema": "tdx-headroom/facts/1", "host": 5}', json.dumps(good)]
    (tmp_path / "facts").write_text("\n".join(lines) + "\n")
    status = main(["history", "--facts", str(tmp_path / "facts")])
    out, err = capsys.readouterr()
    assert err == ""
    answers = [json.loads(line) for line in out.splitlines()]
    assert status == os.EX_DATAERR
    assert [answers[0]["host"], answers[2]["host"]] == ["h1", "h1"]
    assert (answers[1]["schema"], answers[1]["line"]) == ("tdx-headroom/error/1", 2)
    assert main(["history", "--format", "text", "--facts", str(tmp_path / "facts")]) == os.EX_DATAERR
    assert "facts line 2: memory_regions is missing" in capsys.readouterr().err


def test_this_host(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the service has kept, what the journal has, and this boot, each once."""
    kept = BootRecord(
        RecordFrom.AGENT, Boot(1).id, began=float(Boot(1).when), outcome=ModuleState.INITIALIZED
    )
    StateFile(str(tmp_path)).save(State(BootState("x"), history=(kept,)))
    fake_journalctl(tmp_path, Boot(1), Boot(2, 11))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert main(["history", "--format", "json", "--state-directory", str(tmp_path)]) == os.EX_OK
    boots = json.loads(capsys.readouterr().out)["boots"]
    assert [boot["boot_id"] for boot in boots[:2]] == [Boot(1).id, Boot(2).id]
    assert [boot["known_from"] for boot in boots] == ["agent", "journal", "agent"]
    assert boots[0]["bios_version"] == "2.1", "what the agent did not know the journal tells"


@pytest.mark.parametrize(
    ("state", "said"), [(b"no JSON", "state.json: "), (b'{"schema": "x"}', "the schema is not")]
)
def test_a_state_that_cannot_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], state: bytes, said: str
) -> None:
    """It is said, and the rest is told; the file stays, for the service to see."""
    (tmp_path / "state.json").write_bytes(state)
    assert main(["history", "--state-directory", str(tmp_path)]) == os.EX_OK
    out, err = capsys.readouterr()
    assert "1 boot" in out
    assert said in err
    assert (tmp_path / "state.json").read_bytes() == state


@pytest.mark.parametrize(
    "text", ["no JSON\n", '{"MESSAGE": 5, "_BOOT_ID": 7}\n', '{"_TRANSPORT": "kernel"', "\n"]
)
@pytest.mark.parametrize("broken", ["ids", Boot(1).id])
def test_a_journal_that_is_none(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    broken: str,
) -> None:
    """Whatever it prints, this boot is told."""
    fake_journalctl(tmp_path, Boot(1))
    (tmp_path / broken).write_text(text)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert main(["history", "--state-directory", str(tmp_path)]) == os.EX_OK
    out, err = capsys.readouterr()
    assert "1 boot" in out
    assert "Traceback" not in err
