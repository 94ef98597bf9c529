# SPDX-License-Identifier: Apache-2.0
"""Makes man pages and shell completions from the command's own options and the table of metrics.

``python3 packaging/man/make_man.py DIR``, with ``agent`` in PYTHONPATH. They are made when a package is
built, and so they are never older than the code in it. The date is that of SOURCE_DATE_EPOCH.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from completion import bash, zsh

from tdx_headroom import __version__
from tdx_headroom.cli import command_parser
from tdx_headroom.output.metric_families import FAMILIES

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent


def commands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    """Name, help and parser of every command that --help shows."""
    for action in parser._actions:  # noqa: SLF001  argparse tells nobody else
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for shown in action._choices_actions:  # noqa: SLF001
                yield shown.dest, shown.help or "", action.choices[shown.dest]


def roff(text: str) -> str:
    """Text as roff input: nothing in it is taken for a command of roff."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^(?=[.'])", "\\\\&", escaped, flags=re.MULTILINE)


def _option(action: argparse.Action) -> list[str]:
    names = [rf"\fB{roff(name)}\fR" for name in action.option_strings]
    value = action.metavar
    if not names:
        return [".TP", rf"\fI{roff(str(value or action.dest))}\fR", roff(_help(action))]
    if action.nargs != 0:
        if value is None and action.choices is not None:
            value = "|".join(map(str, action.choices))
        names[-1] += rf" \fI{roff(str(value or action.dest.upper()))}\fR"
    return [".TP", ", ".join(names), roff(_help(action))]


def _help(action: argparse.Action) -> str:
    if action.help:
        text = action.help % {**vars(action), "prog": "tdx-headroom"}
        text = text[0].upper() + text[1:]
    else:
        text = f"Default {action.default}" if action.default is not None else "See above"
    return text if text.endswith(".") else f"{text}."


def _command_sections(parser: argparse.ArgumentParser) -> str:
    lines: list[str] = []
    for name, text, command in commands(parser):
        lines += [f".SS {roff(f'tdx-headroom {name}')}", roff(f"{text[0].upper()}{text[1:]}.")]
        for action in command._actions:  # noqa: SLF001
            if not isinstance(action, argparse._HelpAction) and action.help != argparse.SUPPRESS:  # noqa: SLF001
                lines += _option(action)
    return "\n".join(lines)


def _metric_sections() -> str:
    lines = []
    for family in FAMILIES.values():
        labels = f"{{{','.join(family.labels)}}}" if family.labels else ""
        lines += [".TP", rf"\fB{roff(family.name)}\fR{roff(labels)} ({family.kind})", roff(family.help)]
    return "\n".join(lines)


def make(template: str, name: str) -> str:
    """Fill a template.

    Args:
        template: roff, with ``@DATE@``, ``@VERSION@``, ``@COMMANDS@`` and ``@METRICS@``.
        name: what it is called in an error.

    Raises:
        ValueError: something between two @ is not known.
    """
    now = datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH", datetime.now(UTC).timestamp())), UTC)
    values = {
        "DATE": f"{now:%Y-%m-%d}",
        "VERSION": __version__,
        "COMMANDS": _command_sections(command_parser()),
        "METRICS": _metric_sections(),
    }
    unknown = set(re.findall(r"@([A-Z]+)@", template)) - values.keys()
    if unknown:
        raise ValueError(f"{name}: unknown: {', '.join(sorted(unknown))}")
    return re.sub(r"@([A-Z]+)@", lambda found: values[found[1]], template)


def main(folder: Path) -> None:
    """Write everything into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for template in HERE.glob("*.in"):
        (folder / template.stem).write_text(make(template.read_text("utf-8"), template.name), "utf-8")
    known = list(commands(command_parser()))
    (folder / "tdx-headroom").write_text(bash(known), "utf-8")
    (folder / "_tdx-headroom").write_text(zsh(known), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
