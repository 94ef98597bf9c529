# SPDX-License-Identifier: Apache-2.0
"""What people print of a host, other than its log: recognised by its lines, and given its path.

The readers of sources do all the rest: to them it is a host of which few files are there.
"""

from __future__ import annotations

import re
from textwrap import dedent
from typing import NamedTuple

from tdx_headroom.errors import AgentError, one_line
from tdx_headroom.inputs.system_report import files_in_report, is_of_a_log
from tdx_headroom.sources import iomem, memblock, platform, zoneinfo
from tdx_headroom.sources.firmware_memmap import PATH as FIRMWARE
from tdx_headroom.textlines import lines_of, without_sequences

_CPUINFO = "proc/cpuinfo"
CMDLINE = "proc/cmdline"
UNAME_A = "sos_commands/kernel/uname_-a"
_HIBERNATION = "sys/power/disk"
_KVM_TDX = "sys/module/kvm_intel/parameters/tdx"
_LONGEST = 400
"""Nobody types a longer command; patterns of these may take time by the square of this."""
_MOST_OTHERS = 64
"""So many more lines of other text than recognised ones, and the text is something else."""


class _Form(NamedTuple):
    """How the first line of a file looks, and how those behind it do; None: there are none."""

    path: str
    first: re.Pattern[str]
    more: re.Pattern[str] | None = None


def _rows(path: str, row: str, more: str | None = None) -> _Form:
    return _Form(path, re.compile(row), re.compile(more or row))


def _line(path: str, line: str) -> _Form:
    return _Form(path, re.compile(line))


_FORMS = (
    _rows(iomem.PATH, r" *[0-9a-f]{1,16}-[0-9a-f]{1,16} :(?: .*)?"),
    _rows(FIRMWARE, r"(?:\S*/)?([0-9]{1,6}/(?:start|end|type)):(.*)"),
    _rows(memblock.MEMORY_PATH, r"\s*[0-9]{1,9}: 0x[0-9a-f]{1,16}\.\.0x[0-9a-f]{1,16}.*"),
    _rows(zoneinfo.PATH, r"Node [0-9]{1,5}, zone +\w+", r"Node [0-9]{1,5}, zone +\w+|\s+\S.*"),
    _rows(_CPUINFO, r"(?:processor|vendor_id|model name|flags)\s*: .*", r"[A-Za-z][\w ]{1,24}\s*:(?: .*)?"),
    _line(
        _HIBERNATION,
        r"\[disabled\]|(?=.*\[)(?:\[?(?:platform|shutdown|reboot|suspend|test_resume)\]?(?: |$))+",
    ),
    _line(CMDLINE, r"(?:BOOT_IMAGE|initrd|root)=\S+(?: .*)?"),
    _line(UNAME_A, r"Linux \S{1,255} [0-9]{1,4}\.[0-9]{1,4}\S{0,80} #.*"),
    _line(platform.RELEASE_PATH, r"(?:[3-9]|[1-9][0-9])\.[0-9]{1,3}[.+_-][A-Za-z0-9][A-Za-z0-9.+_~-]{0,80}"),
)
# `Y` says nothing by itself: only behind what the same command prints, or behind that command.
_SWITCH = _line(_KVM_TDX, r"[YN01]")
# Memory that boot has reserved begins with page 0, which is no memory to the kernel (trim_bios_range()).
_RESERVED = re.compile(r"\s*0: 0x0+\.\..*|.*\bRSV_.*")
_FIRST_ROW = re.compile(r"\s*0: .*")

# A shell's prompt with a command, one without its prompt, and how head(1) and tail(1) name a file.
_COMMAND = re.compile(
    r"(?:\[[^]]*\]|\([\w.-]+\)|[\w.-]+@[^\s$#%]*)?\s*[^\s$#%]*[$#%] ?(.*)"
    r"|[\w.-]+@\S*> ?(.*)|[\w.-]+:[~/]\S* # ?(.*)"
    r"|((?:sudo |cat |grep |uname ).*|(?:head|tail|more|less|sed|awk) .*/(?:proc|sys)/.*)|==> (\S+) <=="
)
_ASIDE = re.compile(r"`{3}.*|(?:cat|grep): .*|\[sudo\] .*|exit|logout|Connection to \S+ closed\.")
_ELIDED = re.compile(
    r"\W*(?:\.\.\.|…|--more--.*|.*\b(?:truncated|snip(?:ped)?|omitted|elided)\b.*)\W*", re.IGNORECASE
)
# What heads the next output, or draws a line under this one.
_HEADING = re.compile(r"[A-Za-z/].*:|[-=*_]{2,}")
_LISTS = frozenset({iomem.PATH, FIRMWARE, memblock.MEMORY_PATH, zoneinfo.PATH})
"""Of these a part is worth nothing; of /proc/cpuinfo one processor is as good as all."""
_LISTED = re.compile("iomem|memmap|memblock|zoneinfo")
_OF_A_PART = re.compile(r"(?:sudo )?(?:head|tail(?! +(?:-n|-c)? *\+[01]\b)|more|less|sed|awk)\b.*")
_OF_THE_WHOLE = re.compile(
    r"(?:sudo )?(?:cat|tee|sort|[ef]?grep(?: -[aiEFw]+)* (['\"]?)(?:System )?RAM\1)(?: .*)?", re.IGNORECASE
)
# Words with which rows end: what is the beginning of one only was cut.
_ENDS = (
    "System RAM",
    "Reserved",
    "ACPI Tables",
    "Soft Reserved",
    "PCI Bus",
    "Crash kernel",
    "NONE",
    "HOTPLUG",
)
_LAST_WORD = re.compile(r".*? : ?(.*)|.*/type:(.*)|.*\.\.0x[0-9a-f]+\s+\S+\s+(?:.*\|)?(.*)")
_QUOTED = re.compile(r"(?:> ?)+")


class _Piece(NamedTuple):
    """The lines of one file.

    Args:
        form: by which they were recognised.
        lines: of the file, and what stands where rows should.
        command: before them.
        cut_by: the command that has printed only a part of it, or an empty text.
    """

    form: _Form
    lines: list[str]
    command: str
    cut_by: str


def files_in(text: str, name: str) -> dict[str, str]:
    """Files of a host by their paths, as a text holds them; none where it is a log, or something else.

    What is no row but stands between two of a file, or right behind its last, stays there for its parser to
    refuse: a part of a list must not pass for the whole.

    Args:
        text: one output or several, maybe with the commands that printed them.
        name: of it, for messages.

    Raises:
        AgentError: it holds two versions of a file, or only a part of a list.
    """
    if report := files_in_report(text):
        return report
    files: dict[str, str] = {}
    for piece in _pieces(_lines(text)):
        for path, content in _contents(piece, name, second=memblock.MEMORY_PATH in files):
            if files.setdefault(path, content) != content:
                raise AgentError(f"{name} holds two versions of /{path}", hint="give those of one boot")
    return files


def _lines(text: str) -> list[str]:
    """The lines, without colours, marks of quotation, and an indentation that all have."""
    lines = [without_sequences(line).rstrip() for line in lines_of(text)]
    if all(line.startswith(">") for line in lines if line):
        lines = [_QUOTED.sub("", line, count=1) for line in lines]
    return dedent("\n".join(lines)).split("\n")


def _pieces(lines: list[str]) -> list[_Piece]:
    """What is recognised; nothing where a line of a log stands beside it, or more of other text."""
    pieces: list[_Piece] = []
    others: list[str] = []
    between: list[str] = []
    command = cut_by = ""
    inside = adjacent = False
    rows = 0
    for line in lines:
        aside = line[:_LONGEST]
        if not line or _ASIDE.fullmatch(aside):
            adjacent = False
            continue
        if inside and (_goes_on(pieces[-1].form, line) or (adjacent and _is_folded(pieces[-1], line))):
            pieces[-1].lines.extend((*between, line))
            adjacent = True
        elif form := _begins(line, pieces[-1] if pieces else None, command):
            cut = [text for text in between if not inside and _ELIDED.fullmatch(text[:_LONGEST])]
            pieces.append(_Piece(form, [*cut, line], command, cut_by))
            inside = adjacent = True
        elif inside and _ELIDED.fullmatch(aside):
            pieces[-1].lines.append(line)
        elif found := _COMMAND.fullmatch(aside):
            command = next(filter(None, found.groups()), "")
            # How head(1) names a file says nothing of how much it prints of it.
            cut_by = cut_by if line.startswith("==>") else _cutting(command)
            inside = False
        elif is_of_a_log(line) or len(others) > _MOST_OTHERS + rows:
            return []
        else:
            others.append(line)
            inside = inside and not _HEADING.fullmatch(aside)
            if inside and adjacent and pieces[-1].form.path in _LISTS:
                pieces[-1].lines.append(line)
            else:
                between.append(line)
            continue
        rows += 1
        between.clear()
    if len(others) > rows:
        return []
    # A number of a version stands in many a text.
    return [p for p in pieces if not others or p.form.path != platform.RELEASE_PATH or "uname" in p.command]


def _goes_on(form: _Form, line: str) -> bool:
    if form.more is None or form.more.fullmatch(line) is None:
        return False
    return form.path != memblock.MEMORY_PATH or _FIRST_ROW.fullmatch(line) is None


def _is_folded(piece: _Piece, line: str) -> bool:
    """Whether a line is the rest of a list of flags, which terminals and mailers fold."""
    return piece.form.path == _CPUINFO and platform.FLAG_WORDS.fullmatch(line.strip()) is not None


def _cutting(command: str) -> str:
    """The part of a command by which it prints no more than a part of a list; empty where there is none."""
    for one in re.split(r";|&&|\|\|", command):
        first, *filters = (part.strip() for part in one.split("|"))
        parts = [part for part in filters if not _OF_THE_WHOLE.fullmatch(part)]
        if _LISTED.search(one) and (_OF_A_PART.fullmatch(first) or parts):
            return one.strip()
    return ""


def _begins(line: str, last: _Piece | None, command: str) -> _Form | None:
    if _SWITCH.first.fullmatch(line):
        behind = last is not None and last.form.path in (_HIBERNATION, _CPUINFO)
        return _SWITCH if behind or _KVM_TDX in command else None
    return next((form for form in _FORMS if form.first.fullmatch(line)), None)


def _contents(piece: _Piece, name: str, *, second: bool) -> list[tuple[str, str]]:
    """Path and text of each file in a piece.

    Args:
        piece: of a text.
        name: of that text.
        second: whether memblock's list of memory stands before it.
    """
    path = piece.form.path
    if path in _LISTS and (cut_at := piece.cut_by or _cut_row(piece)):
        hint = "a part of a list would promise too much: give all that `cat` or `grep .` prints of it"
        raise AgentError(f"{name} holds only a part of /{path}: '{one_line(cut_at, 80)}'", hint=hint)
    if path == FIRMWARE:
        rows = [piece.form.first.fullmatch(line) or line for line in piece.lines]
        texts = {row[1]: row[2] for row in rows if isinstance(row, re.Match)}
        parts = (
            f"{number.partition('/')[0]}/{part}" for number in texts for part in ("start", "end", "type")
        )
        cut = [row for row in rows if isinstance(row, str)] or [part for part in parts if part not in texts]
        if cut:
            raise AgentError(f"{name} holds only a part of /{FIRMWARE}: '{one_line(cut[0], 80)}'")
        return [(f"{FIRMWARE}/{part}", text) for part, text in texts.items()]
    if path == memblock.MEMORY_PATH:
        asked = memblock.RESERVED_PATH in piece.command and memblock.MEMORY_PATH not in piece.command
        if second or asked or any(map(_RESERVED.fullmatch, piece.lines)):
            path = memblock.RESERVED_PATH
    return [(path, "\n".join(piece.lines) + "\n")]


def _cut_row(piece: _Piece) -> str:
    """A row of a list that is not whole though its parser may take it; empty where there is none."""
    *_, line = piece.lines
    if piece.form.path == zoneinfo.PATH:
        return next((row for row in piece.lines if not _goes_on(piece.form, row)), "")
    if piece.form.path == memblock.MEMORY_PATH:
        (first, *more), (last, *others) = (
            [len(word) for word in row.split()[1:]] or [0] for row in (piece.lines[0], line)
        )
        if first != last or len(more) != len(others):
            return line
    found = _LAST_WORD.fullmatch(line[:_LONGEST])
    word = None if found is None else next((group for group in found.groups() if group is not None), None)
    cut = word is not None and any(end != word and end.startswith(word) for end in _ENDS)
    return line if cut else ""
