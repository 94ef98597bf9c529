# SPDX-License-Identifier: Apache-2.0
"""The words, conditions and defaults of generated scripts, as a real GRUB takes them."""

from __future__ import annotations

import random
import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from tdx_headroom.boots.grub.default import Dialect, Named, entry_number, path_step, rest_of_path
from tdx_headroom.boots.grub.regexp import regexp
from tdx_headroom.boots.grub.script import parse
from tdx_headroom.boots.grub.words import GrubError
from tests.unit.boots.emulator import machine, printed, told

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.program(name) for name in ("grub-emu", "grub-script-check")]

PIECES = (
    *("memmap=", "4K", "$0x64158000", "\\$", "$1", "${2}", "$#", '"$@"', "$@", "$*", '"$*"', "$?"),
    *("$a", '"$a"', "${a}", "$none", '"$none"', "'$a'", "$b", '"$b"', "$c", '"$c"', "x$c", "$e", '"$e"'),
    *("'a b'", '"a b"', "a\\ b", '\\"', "\\'", "\\\\", '"\\\\"', '"\\$a"', '"\\a"', "''", '""', "a#b"),
    *(
        "=",
        ",",
        "!",
        "-",
        "@",
        "/",
        "%",
        "x",
        "if",
        "do",
        "é",
        "\\x41",
        '"\\x41"',
        "\\\n",
        '"\\\n"',
        "[",
        "]",
    ),
    *(" ", " ", " ", "\t"),
)
BROKEN = ("{", "}", "$", "$-", '"', "'", ";", "|", "&", "<", ">", "#", '"$"', "\n", ";;", "${", "${a", "$(")
SETUP = """
set a=value
set b="two  words "
set c=" front back"
set e='back\\slash "quoted"'
function show { echo "<$#>"; for word in "$@"; do echo "<$word>"; done; }
"""


def words(random_: random.Random, pieces: tuple[str, ...]) -> str:
    return "".join(random_.choice(pieces) for _ in range(random_.randint(1, 9)))


def test_words_as_grub_takes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Quotes, backslashes and variables give the arguments that GRUB gives, in 400 generated commands."""
    generator = random.Random(6)
    lines = [words(generator, PIECES) for _ in range(400)]
    script = SETUP + "function lines {\n" + "\n".join(f"show {n}: {line}" for n, line in enumerate(lines))
    script += "\n}\nlines one 'two three' ''"
    expected = printed(tmp_path, script)
    assert expected.count("<") > 1000
    assert cases(told(monkeypatch, script)) == cases(expected)


def cases(text: str) -> list[str]:
    """One line for each case, so that a difference is seen."""
    return re.sub(r"(<\d+><\d+:)", r"\n\1", text).split("\n")


def test_what_is_a_script(tmp_path: Path) -> None:
    """What grub-script-check refuses is refused, and nothing else, of 250 generated commands."""
    generator = random.Random(7)
    forms = (
        "echo {}",
        "if true; then echo {}; fi",
        "menuentry x {{ echo {}\n}}",
        "for i in {}; do echo; done",
    )
    verdicts = {True: 0, False: 0}
    for _ in range(250):
        line = generator.choice(forms).format(words(generator, PIECES + BROKEN))
        path = tmp_path / "script"
        path.write_text(f"true\n{line}\ntrue\n", "utf-8")
        valid = subprocess.run(["grub-script-check", path], capture_output=True).returncode == 0
        assert parses(f"true\n{line}\ntrue\n") is valid, line
        verdicts[valid] += 1
    assert min(verdicts.values()) > 50


def parses(script: str) -> bool:
    try:
        parse(script)
    except GrubError:
        return False
    return True


CONDITIONS = (
    *(
        "true",
        "false",
        "[ a = a ]",
        "[ a != a ]",
        '[ "$none" ]',
        "[ $none ]",
        '[ -z "$a" ]',
        "[ x$a = xvalue ]",
    ),
    *("[ 1 -lt 2 -a 3 -gt 4 ]", "[ 1 -lt 2 -o 3 -gt 4 ]", "[ a = b -o a = a -a a = b ]", "[ ! a = b ]"),
    *("[ ! -n x -o ! -z x ]", "[ ( a = b -o a = a ) -a b = b ]", "[ 0x10 -eq 16 ]", "[ 010 -eq 8 ]"),
    *(
        "[ linux-9 -plt linux-10 ]",
        "[ linux-9 -pgt linux-10 ]",
        "[ a '<' b ]",
        "[ a '>=' b ]",
        "[ ]",
        "! true",
    ),
    *("! false", "test a", "test ''", "nosuchcommand", "[ -d /etc ]", "[ -f /etc ]", "[ -e /etc/nothing ]"),
    *("[ -5 -lt 3 ]", "[ a = a b = c ]", "[ a -a ! '' ]", "[ = = = ]", "[ -n = -n ]", "[ ! ]", "[ -z ]"),
    *("x=y", "fails 3", "fails 0", "set a", "[ abc -eq 0 ]", "[ 08 -eq 8 ]", "regexp '^v(.*)e$' value"),
)


def test_conditions_as_grub_takes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests, loops and statuses go the way they go in GRUB, in 150 generated programs."""
    generator = random.Random(8)
    programs = "\n".join(f"echo '<{n}>'\n{program(generator, 3)}" for n in range(150))
    setup = "set a=value\nfunction fails { return $1; echo never; }\n"
    own = machine({"etc/hostname": "x"})
    expected = printed(tmp_path, setup + programs)
    expected = re.sub(r"error: [^.]*\.", "", expected.replace("can't find command `nosuchcommand'", "x"))
    monkeypatch.setitem(own.functions, "nosuchcommand", parse("true"))
    got = told(monkeypatch, setup + programs, own)
    assert got.replace("<", "\n<").split("\n") == expected.replace("<", "\n<").split("\n")


def program(generator: random.Random, depth: int) -> str:
    condition = generator.choice(CONDITIONS)
    body = program(generator, depth - 1) if depth else "echo deep$?"
    form, n = generator.randrange(7), f"n{depth}"
    if form == 0:
        return f"if {condition}; then\n{body}\nelse\necho no$?\nfi\necho $?"
    if form == 1:
        other = generator.choice(CONDITIONS)
        return f"if {condition}; then echo one; elif {other}; then\n{body}\nelse echo none; fi"
    if form == 2:
        leave = generator.choice(("break", "continue", "break 2", "true"))
        return f"for i in 1 2 3; do echo i$i; if {condition}; then {leave}; fi\n{body}\ndone; echo after$?"
    if form == 3:
        leave = f"if {condition}; then break; fi"
        return f"{n}=x; while [ ${n} != xxxx ]; do set {n}=x${n}; echo ${n}; {leave}; done"
    if form == 4:
        return f"{n}=x; until [ ${n} = xxx ]; do set {n}=x${n}\n{body}\ndone; echo u$?"
    if form == 5:
        return f"{condition}; echo s$?\n{body}"
    return f"set a=value{generator.randrange(2)}; {condition}; echo t$?; set a=value\n{body}"


ATOMS = (
    *("a", "b", ".", "[ab]", "[^a]", "[[:digit:]]", "[a-c1-9]", "(a)", "(b.)", "(a|b)", "(ab|a)", "^", "$"),
    *(
        "1",
        ",",
        r"\.",
        r"\(",
        "()",
        "a{2}",
        "b{1,2}",
        "x{0,1}",
        "[[:alpha:],]",
        "(a*)",
        "(^a)",
        "(b$)",
        "(a?b)",
    ),
)
TEXTS = ("", "a", "ab", "aab", "abab1", "b1,2", "(ab)", "a.b", "hd0,gpt2", "ba1ab,b", "aaaabbbb")


def test_expressions_as_grub_takes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is answered of 1000 generated regexps matches, and gives the group, that it does in GRUB."""
    generator = random.Random(9)
    asked: list[tuple[str, str, bool]] = []
    while len(asked) < 1000:
        atoms = [generator.choice(ATOMS) + generator.choice(("", "", "", "*", "+", "?")) for _ in range(4)]
        expression = "".join(atoms[: generator.randint(1, 4)])
        text = generator.choice(TEXTS)
        groups = "|" not in expression
        if regexp(expression, text, groups=groups) is not None:
            asked.append((expression, text, groups))
    script = "\n".join(
        f"unset g; regexp {'--set=1:g ' * groups}-- '{expression}' '{text}'; echo \"<{n}:$?:$g>\""
        for n, (expression, text, groups) in enumerate(asked)
    )
    expected, got = (
        text.replace("<", "\n<").split("\n")
        for text in (printed(tmp_path, script), told(monkeypatch, script))
    )
    different = [
        (asked[int(ours[1:].partition(":")[0])], theirs, ours)
        for theirs, ours in zip(expected, got, strict=True)
        if theirs != ours
    ]
    assert not different


TITLES = ("Linux", "Linux, old", "1", "0x1", "a>b", "2nd", "", "Advanced", "-1", "linux-6.1", "x y")


Entries = list[tuple[Named, "Entries | None"]]


def menu(generator: random.Random, depth: int) -> Entries:
    found = []
    for _ in range(generator.randint(1, 4)):
        title = generator.choice(TITLES)
        name = Named(generator.choice((title, f"id{generator.randrange(5)}", "a>b")), title)
        found.append((name, menu(generator, depth - 1) if depth and generator.random() < 0.4 else None))
    return found


def default_value(generator: random.Random) -> str:
    steps = (
        *TITLES,
        "0",
        "1",
        "2",
        "7",
        "id0",
        "id1",
        "id2",
        "1abc",
        "0x2",
        "08",
        "a>>b",
        "9999999999999",
        "99999999999999999999",
    )
    value = ">".join(generator.choice(steps) for _ in range(generator.randint(1, 3)))
    return value + generator.choice(("", "", "", ">", " "))


def written(entries: Entries, path: str) -> str:
    lines = []
    for index, (name, inner) in enumerate(entries):
        own = f"{path}{index}"
        head = f"'{name.title}' --id='{name.id}'"
        body = f"echo '<{own}>'\nFOLLOW" if inner is None else written(inner, f"{own}.")
        lines.append(f"{'menuentry' if inner is None else 'submenu'} {head} {{\n{body}\n}}")
    return "\n".join(lines)


def chosen(entries: Entries, value: str | None, path: str = "") -> str:
    index = entry_number([name for name, _ in entries], value, Dialect.UPSTREAM)
    inner = entries[index][1]
    if inner is None:
        return f"{path}{index}"
    return chosen(inner, rest_of_path(value) if value is not None else None, f"{path}{index}.")


def booted(folder: Path, menus: list[tuple[str, str]]) -> list[str]:
    """The places of the entries that the emulator boots, each menu leading to the next one."""
    for number, (value, entries) in enumerate(menus):
        text = f"timeout=0\ndefault='{value}'\n{entries}\n"
        follow = "echo END\nexit" if number == len(menus) - 1 else f"configfile {folder}/{number + 1}.cfg"
        (folder / f"{number}.cfg").write_text(text.replace("FOLLOW", follow))
    return re.findall(r"<([\d.]+)>", printed(folder, f"configfile {folder}/0.cfg"))


def test_defaults_as_grub_takes_them(tmp_path: Path) -> None:
    """Which entry a value names, a path, a number or a title, is what GRUB boots, in 300 generated menus."""
    generator = random.Random(9)
    for _ in range(20):
        # The emulator follows no more than 30 files from one to the next.
        menus = [(menu(generator, 2), default_value(generator)) for _ in range(15)]
        expected = [f"{value}: {chosen(entries, value)}" for entries, value in menus]
        got = booted(tmp_path, [(value, written(entries, "")) for entries, value in menus])
        assert [f"{value}: {place}" for (_, value), place in zip(menus, got, strict=True)] == expected


def test_a_step_of_a_path() -> None:
    """A > in a name is doubled where it stands in a path."""
    assert path_step("a>b") == "a>>b"
