# SPDX-License-Identifier: Apache-2.0
"""Logs in the encodings and documents in which people keep and send them."""

from __future__ import annotations

import base64
import html
import json
from typing import TYPE_CHECKING

import pytest

from tdx_headroom.errors import AgentError
from tdx_headroom.facts.host_facts import HostFacts
from tdx_headroom.facts.kernel_report import FailureReason, ModuleState
from tdx_headroom.inputs.documents import log_in
from tdx_headroom.inputs.named import Kind, Named
from tdx_headroom.inputs.read import read_hosts
from tdx_headroom.inputs.texts import encoding_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

LINES = (
    "[    0.000000] Linux version 6.12.5 (build@host) #1 SMP",
    "[    0.000000] Command line: BOOT_IMAGE=/vmlinuz-6.12.5 root=/dev/sda1 kvm_intel.tdx=1 x=a&b",
    "[    0.000000] BIOS-provided physical RAM map:",
    "[    0.000000] BIOS-e820: [mem 0x0000000000000000-0x000000000009ffff] usable",
    "[    0.000000] BIOS-e820: [mem 0x0000000000100000-0x000000007fffffff] usable",
    "[    0.000000] NX (Execute Disable) protection: active",
    "[    1.500000] virt/tdx: BIOS enabled: private KeyID range [64, 128)",
    "[   21.500000] virt/tdx: initialization failed: TDMR [0x0, 0x80000000): reserved areas exhausted.",
    "[   21.600000] virt/tdx: module initialization failed (-28)",
    "[   22.000000] loop0: detected capacity change from 0 to 8 <unknown>",
)
LOG = "".join(f"{line}\n" for line in LINES)
TYPESET = LOG.replace("-", "\u2013").replace(" ", "\u2009")
OTHER = LOG.replace("6.12.5", "6.14.9")


def page(line: str, end: str = "\n") -> str:
    lines = "".join(line.format(html.escape(text)) + end for text in LINES)
    return f"<!DOCTYPE html>\n<html><head><title>x</title></head><body>{lines}</body></html>\n"


def ansible(value: object) -> str:
    return json.dumps({"changed": True, "cmd": ["dmesg"], "rc": 0, "stderr": "", "stdout": value})


def logfmt(lines: Iterable[str]) -> bytes:
    return "".join(f"ts=2024-07-10T20:50:19Z msg={json.dumps(line)} host=rack7\n" for line in lines).encode()


FORMS: dict[str, Callable[[], bytes]] = {
    "UTF-16, marked": lambda: LOG.encode("utf-16"),
    "UTF-16 of PowerShell": lambda: b"\xff\xfe" + LOG.replace("\n", "\r\n").encode("utf-16-le"),
    "UTF-16, little-endian": lambda: LOG.encode("utf-16-le"),
    "UTF-16, big-endian": lambda: LOG.encode("utf-16-be"),
    "UTF-32, marked": lambda: LOG.encode("utf-32"),
    "UTF-32, big-endian": lambda: LOG.encode("utf-32-be"),
    "UTF-8, marked": lambda: b"\xef\xbb\xbf" + LOG.encode(),
    "zero behind each line": lambda: LOG.replace("\n", "\0\n").encode(),
    "zero before CRLF": lambda: LOG.replace("\n", "\0\r\n").encode(),
    "dashes and quotes of a word processor": lambda: (
        LOG.replace("-", "\u2013").replace(" ", "\u2009").encode()
    ),
    "blanks of no width": lambda: LOG.replace("[ ", "\u200b[ ").encode(),
    "page with pre": lambda: page("{}").replace("<body>", "<body><pre>").encode(),
    "page with a row a line": lambda: page('<tr id="L1"><td class="n">12</td><td>{}</td></tr>').encode(),
    "page with paragraphs in one line": lambda: page("<p class='x'>{}</p>", "").encode(),
    "page with spans": lambda: page("<div><span style='color:#fff'>{}</span></div>").encode(),
    "XML": f'<?xml version="1.0"?>\n<log><![CDATA[{LOG}]]></log>\n'.encode,
    "XML with elements": lambda: page("<line n='1'>{}</line>").encode(),
    "Ansible, text": lambda: ansible(LOG).encode(),
    "Ansible, lines": lambda: json.dumps({"stdout_lines": LINES}, indent=4).encode(),
    "Ansible, both": lambda: json.dumps({"stdout": LOG, "stdout_lines": LINES}, indent=4).encode(),
    "Ansible, on the command line": f"rack7 | CHANGED => {ansible(LOG)}\n".encode,
    "API, deep": lambda: json.dumps([{"data": {"items": [{"name": "dmesg", "content": LOG}]}}]).encode(),
    "logfmt": lambda: logfmt(LINES),
    "logfmt of messages without times": lambda: logfmt(line[15:] for line in LINES),
    "base64": lambda: base64.encodebytes(LOG.encode()),
    "base64 in one line": lambda: base64.b64encode(LOG.encode()),
}


def read(data: bytes, folder: Path) -> HostFacts | AgentError:
    path = folder / "x.log"
    path.write_bytes(data)
    (found,) = read_hosts([Named(Kind.ANY, str(path))])
    return found.facts


@pytest.mark.parametrize("form", FORMS)
def test_forms(form: str, tmp_path: Path) -> None:
    """Each form gives the facts that the plain log gives."""
    plain, found = read(LOG.encode(), tmp_path), read(FORMS[form](), tmp_path)
    assert isinstance(plain, HostFacts)
    assert isinstance(found, HostFacts)
    assert found.kernel_log is not None
    assert found.kernel_log.state is ModuleState.FAILED
    assert found.kernel_log.reason is FailureReason.RESERVED_AREAS
    assert found.memory_regions == plain.memory_regions
    assert found.kernel_release == "6.12.5"
    assert found.command_line == plain.command_line


def test_reports_in_a_document(tmp_path: Path) -> None:
    """What was printed of other files is found in a document as it is in a text."""
    report = (
        "# cat /proc/iomem\n00001000-0009ffff : System RAM\n00100000-7fffffff : System RAM\n# dmesg\n" + LOG
    )
    plain, found = read(report.encode(), tmp_path), read(ansible(report).encode(), tmp_path)
    assert isinstance(found, HostFacts)
    assert found == plain


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"results": [{"item": "a", "stdout": LOG}, {"item": "b", "stdout": OTHER}]}),
        f"rack7 | CHANGED => {ansible(LOG)}\nrack8 | CHANGED => {ansible(OTHER)}\n",
    ],
)
def test_several_logs_in_one_document(text: str, tmp_path: Path) -> None:
    """Nothing tells which of them is meant."""
    found = read(text.encode(), tmp_path)
    assert isinstance(found, AgentError)
    assert "2 kernel logs that differ" in str(found)
    assert "x.log" in str(found)
    assert found.hint


def test_a_hole_of_zeros(tmp_path: Path) -> None:
    """Where a crash has left zeros, lines were lost: no list goes on across them."""
    rows = LOG.index("[    0.000000] BIOS-e820: [mem 0x0000000000100000")
    found = read((LOG[:rows] + "\0" * 3000 + LOG[rows:]).encode(), tmp_path)
    assert isinstance(found, HostFacts)
    assert found.memory_regions is None
    assert found.kernel_log is not None
    assert found.kernel_log.state is ModuleState.FAILED


@pytest.mark.parametrize(
    ("start", "encoding"),
    [
        (b"", "utf-8"),
        (b"a\0b\0", "utf-16-le"),
        (b"\0a\0b\0", "utf-16-be"),
        (b"\0" * 4096, "utf-8"),
        (b"\0" * 64 + LOG.encode(), "utf-8"),
        (LOG.encode("latin-1") + b"K\xfcche\0", None),
        (b"\x7fELF\x02\x01\x01" + b"\0" * 9 + bytes(range(200)), None),
        (b"MZ" + b"\0" * 58 + b"\x80\x01\x02\x03\x04\x05", None),
        (LOG.encode() + "é".encode()[:1], "utf-8"),
    ],
)
def test_encodings(start: bytes, encoding: str | None) -> None:
    """Of zero bytes alone nothing follows; what else is no text makes a file binary."""
    assert encoding_of(start) == encoding


@pytest.mark.parametrize(
    "text",
    [
        LOG,
        "<6>" + LOG,
        "<root@rack7> " + LOG,
        "{noformat}\n" + LOG + "{noformat}\n",
        json.dumps({"MESSAGE": "a\nb", "_TRANSPORT": "kernel"}),
        json.dumps({"dmesg": [{"pri": 6, "time": 0.0, "msg": "virt/tdx: module initialized"}]}, indent=3),
        '{"a": "b\\n' + "c\n" * 9,
        "[" * 100_000,
        'msg="a"\nb\n',
        "A" * 75 + "\n",
        "\n".join(["deadbeef" * 8] * 20),
    ],
)
def test_no_document(text: str) -> None:
    """What is no document, or one of another reader's, stays as it stands."""
    assert log_in(text, "x") == text


@pytest.mark.parametrize(
    "piece",
    [
        "<a ",
        "<",
        "</",
        "<![CDATA[",
        "&#",
        "AAAA\n",
        "A" * 76 + "\n",
        '{"a":',
        "[1,",
        "\0\n",
        "<a>",
        'msg="',
        'msg="\\',
    ],
)
def test_hostile_documents(piece: str) -> None:
    """Nothing takes longer than by its length: a million bytes are read in no time worth measuring."""
    text = piece * (1_000_000 // len(piece))
    for whole in (text, f"<html>{text}</html>", f'{{"a": "{text}'):
        assert isinstance(log_in(whole, "x"), str)
