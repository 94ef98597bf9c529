# SPDX-License-Identifier: Apache-2.0
"""Configurations that are broken, or made to do harm: each ends soon, in one clause."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest
from tests.unit.boots.test_grub import entry, menu

from tdx_headroom.hostfs.root import Root

if TYPE_CHECKING:
    from pathlib import Path

DEEP = "".join(f"submenu s{n} {{\n" for n in range(1000)) + entry("1") + "}\n" * 1000
CASES = {
    "includes itself": ("source $prefix/grub.cfg\n", "include one another"),
    "loop": ("while true; do true; done\n", "run on and on"),
    "loop of nothing": ("until false; do set a=b; done\n", "run on and on"),
    "loop of loops": (
        "for i in 1 2 3; do while true; do continue 2; done; done\nwhile true; do x=y; done",
        "run on",
    ),
    "doubling": ("set a=aaaaaaaa\nwhile true; do set a=$a$a; done\n", "absurdly long"),
    "words": ("set a='a a a a a a a a'\nwhile true; do set a=\"$a $a\"; echo $a $a $a; done\n", "absurdly"),
    "long values": ("set a=" + "a" * 60_000 + "\nwhile true; do echo $a $a $a; done\n", "run on and on"),
    "recursion": ("function f { f; }\nf\n", "call one another"),
    "mutual": ("function f { if true; then g; fi; }\nfunction g { f; }\nf\n", "call one another"),
    "eval": ("set a='eval $a'\neval $a\n", "call one another"),
    "deep menus": (DEEP, "nested deeper"),
    "deep ifs": ("if true; then\n" * 1000 + "true\n" + "fi\n" * 1000, "nested deeper"),
    "deep test": ("if [ " + "( " * 500 + "a " + ") " * 500 + "]; then true; fi\n", "nested absurdly"),
    "many entries": ("while true; do\n" + entry("1") + "done\n", "menu entries"),
    "open quote": ("menuentry 'a {\n" + entry("1") + "true '\n'", "no GRUB script"),
    "open double quote": ('set a="\n' + entry("1"), "no GRUB script"),
    "open block": ("menuentry a {\nlinux /boot/vmlinuz-1\n", "line 3 is no GRUB script"),
    "stray brace": ("}\n" + entry("1"), "line 1 is no GRUB script"),
    "stray fi": ("true\nfi\n", "line 2 is no GRUB script"),
    "dollar": ('set a="$ "\n', "line 1 has a $"),
    "backslashes": ("\\" * 99_999, "no GRUB script"),
    "quotes": ("'\"" * 50_000 + "'\n", "no GRUB script"),
    "10 MB": ("# comment\n" * 1_000_000, "larger than"),
    "1 MB": (entry("1") * 18_000, "menu entries"),
    "1 MB of one word": ("a" * 1_000_000, "absurdly long"),
    **{
        f"regexp {pattern}": (f"regexp '{pattern}' {'a' * 500}c\n" * 100 + entry("1"), None)
        for pattern in (
            "(a+)+$",
            "(a|a)*b",
            "(a?)*b",
            "(a|aa)+$",
            "(a*|b)*d",
            "(a|a)" * 60 + "b",
            "a?" * 90 + "b",
        )
    },
    "regexp of many repeats": (f"regexp '{'.*' * 9}b' {'a' * 500}\n" * 100 + entry("1"), None),
    "regexp that is long": (f"regexp '{'a' * 3_000}' a\n" * 9 + entry("1"), None),
    "many regexps": (f"for i in {'x ' * 9000}; do regexp 'a*b' {'a' * 500}; done\n", "run on and on"),
    "turns of empty words": (
        "for a in {0}; do for b in {0}; do for c in {0}; do for d in {0}; do for e in ; do true\n".format(
            "'' " * 99
        )
        + "done; done; done; done; done\n",
        "run on and on",
    ),
    "functions in turns": (
        f"function f {{\n{'for g in ; do true; done; ' * 900}\n}}\nfor a in {'x ' * 9000}; do f; done\n",
        "run on and on",
    ),
    "empty": ("", "makes no menu entries"),
    "break": ("break\ncontinue 9\nreturn 3\nshift 99\nsetparams\n" + entry("1"), None),
}


def written(folder: Path, config: bytes) -> Root:
    (folder / "boot/grub").mkdir(parents=True)
    (folder / "boot/grub/grub.cfg").write_bytes(config)
    (folder / "boot/vmlinuz-1").write_bytes(b"kernel")
    return Root(folder)


@pytest.mark.parametrize("case", CASES)
def test_each_ends_in_one_clause(tmp_path: Path, case: str) -> None:
    """What GRUB would choke on, or never end with, is told in one line."""
    config, reason = CASES[case]
    before = time.process_time()
    found = menu(written(tmp_path, config.encode()))
    assert time.process_time() - before < 10
    if reason is None:
        assert (found.unknown, found.next) == (None, 0)
    else:
        assert found.unknown is not None
        assert reason in found.unknown
        assert found.unknown.startswith("boot/grub/grub.cfg")
        assert found.unknown.isprintable()
        assert len(found.unknown) <= 300


def test_notes_are_bounded(tmp_path: Path) -> None:
    """What is told beside the menu is a few lines, whatever the configuration does."""
    config = "i=1\nwhile [ $i -lt 9000 ]; do increment i; legacy_$i; badram; done\n" + entry("1")
    found = menu(written(tmp_path, config.encode()))
    assert found.unknown == "boot/grub/grub.cfg: what legacy_2 adds is not known"
    assert len(found.notes) == 20


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    """Bytes that are no UTF-8, NULs and control characters do no harm, and stand as escapes."""
    config = b"menuentry '\xff\xfe\x1b[2J' {\n linux /boot/vmlinuz-1 a=\xe9 b=\x00c\n}\nset x=\xff\n"
    found = menu(written(tmp_path, config))
    assert found.unknown is None
    assert found.entries[0].title.startswith("\\xff\\xfe")
    assert found.entries[0].line == "a=\\xe9 b="
    found.entries[0].title.encode()


def test_names_that_are_no_text(tmp_path: Path) -> None:
    """A directory whose name is no UTF-8 is told with escapes, whether its menu counts or not."""
    written(tmp_path, entry("1").encode())
    folder = tmp_path / "boot/efi/EFI" / os.fsdecode(b"\xff")
    folder.mkdir(parents=True)
    (folder / "grub.cfg").write_text(entry("1"))
    assert menu(Root(tmp_path)).known_from[0] == "boot/efi/EFI/\\xff/grub.cfg"
    (folder.parent / "b").mkdir()
    (folder.parent / "b/grub.cfg").write_text(entry("1"))
    assert str(menu(Root(tmp_path)).unknown).startswith("boot/efi/EFI/b/grub.cfg and boot/efi/EFI/\\xff/")


@pytest.mark.parametrize("name", ["grub.cfg", "grubenv", "custom.cfg"])
def test_links_out_of_the_tree(tmp_path: Path, name: str) -> None:
    """In a captured tree a link must not lead out of it."""
    (tmp_path / "outside").write_text(entry("2"))
    config = "load_env\nsource $prefix/custom.cfg\n" + entry("1")
    root = written(tmp_path / "tree", config.encode())
    path = tmp_path / "tree/boot/grub" / name
    path.unlink(missing_ok=True)
    path.symlink_to(tmp_path / "outside")
    found = menu(root)
    assert found.next is None
    assert found.unknown == f"boot/grub/{name} is a link that leads out of the tree"


def test_an_image_that_links_out(tmp_path: Path) -> None:
    """An image that leads out of a captured tree is not looked at."""
    root = written(tmp_path / "tree", entry("2").encode())
    (tmp_path / "tree/boot/vmlinuz-2").symlink_to("/etc/passwd")
    found = menu(root)
    assert (found.entries[0].image, found.default) == (None, 0)
    assert found.entries[0].unknown == "boot/vmlinuz-2 is a link that leads out of the tree"


def test_a_directory_in_place_of_the_file(tmp_path: Path) -> None:
    """A grub.cfg that is no file is named."""
    (tmp_path / "boot/grub/grub.cfg").mkdir(parents=True)
    assert menu(Root(tmp_path)).unknown == "boot/grub/grub.cfg is not a regular file"
