# SPDX-License-Identifier: Apache-2.0
"""What systemd's own programs say of generated entries: their versions, ids and order."""

from __future__ import annotations

import json
import random
import subprocess
from typing import TYPE_CHECKING

import pytest

from tdx_headroom.boots.systemd_boot.order import compare_versions
from tdx_headroom.boots.systemd_boot.reader import read_systemd_boot
from tdx_headroom.hostfs.root import Root
from tests.tools.efi import entry, kernel, systemd_boot_host, unified

if TYPE_CHECKING:
    from pathlib import Path

SETS = 40
PAIRS = 250
_LIST = """
mount -t tmpfs none "$1"
for set in "$2"/*; do
  rm -rf "$1"/*; cp -r "$set"/efi/. "$1"; bootctl --esp-path="$1" --json=short list; echo ===
done
"""
_WORDS = ["6", "12", "007", "0", "rc1", "rc10", "a", "ab", "fc40", "x86", "deb13"]
_NAMES = str.maketrans("~^", "..")
_SEPARATORS = [".", "-", "~", "^", "+", "_", "", "--"]


def version(chance: random.Random) -> str:
    return "".join(chance.choice(_WORDS) + chance.choice(_SEPARATORS) for _ in range(chance.randint(1, 5)))


@pytest.mark.program("systemd-analyze")
def test_versions_compare_as_systemd_analyze_compares_them() -> None:
    """Generated pairs of versions, many of them alike, have the same order."""
    chance = random.Random(20260115)
    for _ in range(PAIRS):
        first = version(chance)
        second = (
            version(chance) if chance.random() < 0.5 else first + chance.choice(_SEPARATORS) + version(chance)
        )
        # With an operator the exit status would not tell older from newer.
        command = ["systemd-analyze", "compare-versions", "--", first, second]
        told = subprocess.run(command, capture_output=True, text=True).stdout.split()[1]
        sign = {"<": -1, "==": 0, ">": 1}[told]
        assert compare_versions(first, second) == sign, (first, second)


def generated(chance: random.Random) -> dict[str, str | bytes]:
    """Entries and images of few sort-keys, machine ids, versions and counters, so that ties occur.

    Left out is where bootctl is known to differ from systemd-boot: it takes no ~ and ^ in names, keeps their
    case, and leaves quotes around values.
    """
    files: dict[str, str | bytes] = {"efi/linux": kernel("6.12.0"), "efi/loader/loader.conf": ""}
    for number in range(chance.randint(2, 14)):
        counter = chance.choice(["", "", "", "+3", "+2-1", "+0-3", "+1-2"])
        name = f"{chance.choice(['arch', 'deb', 'x'])}-{version(chance)}{number}".translate(_NAMES)
        fields = {"title": chance.choice(["T", "Another"])}
        if chance.random() < 0.7:
            fields["sort_key"] = chance.choice(["arch", "debian", "z"])
        if chance.random() < 0.6:
            fields["version"] = version(chance)
        if chance.random() < 0.4:
            fields["machine_id"] = chance.choice(["0" * 32, "a" * 32])
        fields["options"] = chance.choice(["a", "\ta  b ", "x\noptions y", "$v"])
        if chance.random() < 0.25:
            system = (
                f"ID={chance.choice(['arch', 'debian'])}\nVERSION_ID={version(chance) or 1}\nPRETTY_NAME=U\n"
            )
            files[f"efi/EFI/Linux/{name}{counter}.efi"] = unified("ro", system=system)
        else:
            files[f"efi/loader/entries/{name}{counter}.conf"] = entry(linux="/linux", **fields)
    return files


@pytest.mark.mounts
@pytest.mark.program("bootctl")
def test_order_ids_and_options_are_those_of_bootctl(tmp_path: Path) -> None:
    """For generated sets of entries the ids, their order and the options are what bootctl lists."""
    chance = random.Random(20260116)
    sets, mount = tmp_path / "sets", tmp_path / "esp"
    mount.mkdir()
    for number in range(SETS):
        for relative, content in {**systemd_boot_host("259"), **generated(chance)}.items():
            path = sets / f"{number:03}" / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
    command = ["unshare", "-m", "sh", "-euc", _LIST, "sh", str(mount), str(sets)]
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "SYSTEMD_RELAX_ESP_CHECKS": "1",
        "SYSTEMD_LOG_LEVEL": "emerg",
    }
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    answers = result.stdout.split("===\n")[:-1]
    assert len(answers) == SETS
    for folder, answer in zip(sorted(sets.iterdir()), answers, strict=True):
        menu = read_systemd_boot(Root(folder))
        assert menu is not None
        listed = [(one["id"].lower(), one.get("options", "")) for one in objects(answer)]
        assert [(one.id.lower(), one.line) for one in menu.entries] == listed, folder.name


def objects(text: str) -> list[dict[str, str]]:
    """What bootctl lists: a list, or before 253 one object behind the other."""
    if text.startswith("["):
        listed: list[dict[str, str]] = json.loads(text)
        return listed
    found, at, decoder = [], 0, json.JSONDecoder()
    text = text.strip()
    while at < len(text):
        one, at = decoder.raw_decode(text, at)
        found.append(one)
        while text[at : at + 1].isspace():
            at += 1
    return found
