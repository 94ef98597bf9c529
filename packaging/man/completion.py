# SPDX-License-Identifier: Apache-2.0
"""Completions for bash and zsh from the command's own options: names, choices, files where one is meant."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from tdx_headroom.plan import Strategy

if TYPE_CHECKING:
    from collections.abc import Iterator

FILES = ("FILE", "F.")
FOLDERS = ("DIR",)
STRATEGY = "S"
"""How metavars of arguments begin that are files, or folders; and the one that is the name of a strategy."""

_BASH = """\
# SPDX-License-Identifier: Apache-2.0
# Completion of tdx-headroom(8) for bash; made from its options.
_tdx_headroom() {
  local command=${COMP_WORDS[1]} word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} kind=
  COMPREPLY=()
  # --option=value comes as three words
  if [[ $word == = ]]; then
    word=
  elif [[ $before == = ]]; then
    before=${COMP_WORDS[COMP_CWORD - 2]}
  fi
  if ((COMP_CWORD == 1)); then
    mapfile -t COMPREPLY < <(compgen -W '@COMMANDS@' -- "$word")
    return
  fi
  case "$command $before" in
@VALUES@
    *)
      case $command in
@OPTIONS@
      esac
      ;;
  esac
  case $kind in
    file) mapfile -t COMPREPLY < <(compgen -f -- "$word") ;;
    folder) mapfile -t COMPREPLY < <(compgen -d -- "$word") ;;
  esac
  if [[ $kind == file || $kind == folder ]]; then
    compopt -o filenames 2>/dev/null
  fi
}
complete -F _tdx_headroom tdx-headroom
"""

_ZSH = """\
#compdef tdx-headroom
# SPDX-License-Identifier: Apache-2.0
# Completion of tdx-headroom(8) for zsh; made from its options.
local -a commands
commands=(
@COMMANDS@
)
if ((CURRENT == 2)); then
  _describe command commands
  return
fi
local command=$words[2]
shift words
((CURRENT--))
case $command in
@OPTIONS@
esac
"""

Commands = list[tuple[str, str, argparse.ArgumentParser]]
"""Name, help and parser of every command."""


def bash(commands: Commands) -> str:
    """The completion for bash."""
    values, options = [], []
    for name, _, parser in commands:
        words: list[str] = []
        for action in _actions(parser):
            words += action.option_strings
            if action.option_strings and action.nargs != 0:
                patterns = " | ".join(f"'{name} {option}'" for option in action.option_strings)
                values.append(f"    {patterns}) {_bash_value(action)} ;;")
        reply = f"mapfile -t COMPREPLY < <(compgen -W '{' '.join(words)}' -- \"$word\")"
        kind = next((kind for a in _actions(parser) if not a.option_strings and (kind := _kind(a))), "")
        takes = f"; [[ $word == -* ]] || kind={kind}" if kind else ""
        options.append(f"        {name}) {reply}{takes} ;;")
    names = " ".join([*(name for name, _, _ in commands), "--help", "--version"])
    return _fill(_BASH, COMMANDS=names, VALUES="\n".join(values), OPTIONS="\n".join(options))


def zsh(commands: Commands) -> str:
    """The completion for zsh."""
    options = []
    for name, _, parser in commands:
        specs = []
        for action in _actions(parser):
            help_text = _zsh_text(action.help or "")
            for option in action.option_strings or [""]:
                shown = f"{option}[{help_text}]" if option else "*"
                specs.append(f"'{shown}{_zsh_value(action)}'")
        options.append(f"  {name})\n    _arguments \\\n      " + " \\\n      ".join(specs) + "\n    ;;")
    described = "\n".join(f"  '{name}:{_zsh_text(text)}'" for name, text, _ in commands)
    return _fill(_ZSH, COMMANDS=described, OPTIONS="\n".join(options))


def _fill(template: str, **values: str) -> str:
    for name, value in values.items():
        template = template.replace(f"@{name}@", value)
    return template


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    return (action for action in parser._actions if action.help != argparse.SUPPRESS)  # noqa: SLF001


def _choices(action: argparse.Action) -> list[str]:
    if action.choices is not None:
        return [str(choice) for choice in action.choices]
    return [str(strategy) for strategy in Strategy] if action.metavar == STRATEGY else []


def _kind(action: argparse.Action) -> str:
    name = str(action.metavar)
    if name.startswith(FILES) or not action.option_strings:
        return "file"
    return "folder" if name.startswith(FOLDERS) else ""


def _bash_value(action: argparse.Action) -> str:
    if choices := _choices(action):
        return f"mapfile -t COMPREPLY < <(compgen -W '{' '.join(choices)}' -- \"$word\")"
    return f"kind={_kind(action)}"


def _zsh_value(action: argparse.Action) -> str:
    if action.option_strings and action.nargs == 0:
        return ""
    name = _zsh_text(str(action.metavar or action.dest))
    if choices := _choices(action):
        return f":{name}:({' '.join(choices)})"
    return f":{name}:" + {"file": "_files", "folder": "_files -/", "": " "}[_kind(action)]


def _zsh_text(text: str) -> str:
    """Text inside of quotes, where brackets and colons mean something."""
    plain = text.replace("'", "").replace("`", "").replace("\\", "")
    return plain.replace("[", "\\[").replace("]", "\\]").replace(":", "\\:").replace("%%", "%")
