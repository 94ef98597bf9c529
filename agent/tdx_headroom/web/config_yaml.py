# SPDX-License-Identifier: Apache-2.0
"""The web configuration's text as YAML, read as Go's exporters read it.

Keys are always text: a user may be called 5. So is a value where text is wanted: ``X-XSS-Protection: 0`` has
no need of quotes. No error shows a value: the file holds password hashes, and may hold a private key.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from tdx_headroom.errors import AgentError

if TYPE_CHECKING:
    from collections.abc import Hashable
    from pathlib import Path

MAX_FILE = 1 << 20
TRUE = ("y", "yes", "true", "on")
FALSE = ("n", "no", "false", "off")

T = TypeVar("T")


class ConfigError(AgentError):
    """Something in the web configuration that cannot be used.

    Args:
        key: dotted path of the key, such as ``tls_server_config.cert_file``; empty: the file itself.
        reason: what is wrong.
    """

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"{key}: {reason}" if key else reason, status=os.EX_CONFIG)


@dataclass(frozen=True, slots=True)
class PlainScalar:
    """What looks like a number, a date, or yes or no: as it is written."""

    text: str


class _Loader(yaml.SafeLoader):
    """A safe loader that takes no key twice: the second would silently replace the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002  PyYAML's signature
        if not isinstance(node, yaml.MappingNode):
            raise yaml.constructor.ConstructorError(None, None, "keys with values expected", node.start_mark)
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key is no text", key.start_mark)
            if key.value in seen:
                raise ConfigError(key.value, f"is there twice (line {key.start_mark.line + 1})")
            seen.add(key.value)
        self.flatten_mapping(node)  # anchors that are merged in, before the keys that override them
        return {key.value: self.construct_object(value, deep=deep) for key, value in node.value}


def _plain(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> PlainScalar:
    return PlainScalar(str(loader.construct_scalar(node)))


for _kind in ("bool", "int", "float", "timestamp"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _plain)


def read_file(key: str, path: Path) -> bytes:
    """A regular file of sane size; anything else (a FIFO would wait for ever) is refused.

    Raises:
        ConfigError: naming `key`.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(key, f"{path} is no regular file")
        if status.st_size > MAX_FILE:
            raise ConfigError(key, f"{path} is larger than {MAX_FILE >> 20} MiB")
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(key, f"{path}: {reason}") from None


_PROBLEMS = {
    "found character": "a value cannot begin with this character; put it into quotes",
    "mapping values are not allowed": "a colon stands where no key is",
    "could not find expected": "a key has no colon behind it",
    "expected the node content": "a value is expected",
    "expected ','": "a comma or a closing bracket is expected",
    "expected <block end>": "this line belongs to nothing above it; look at its indentation",
    "found unexpected": "a quote or a bracket is not closed",
    "found undefined alias": "an alias has no anchor",
    "second occurrence": "an anchor is there twice",
    "found unknown escape": "in double quotes a backslash has a meaning of its own; use single quotes",
    "but found another document": "there is a second document in it",
    "could not determine a constructor": "its tag is unknown",
}
"""What PyYAML's problems mean, by how they begin."""


def load(data: bytes) -> object:
    """The document.

    Raises:
        ConfigError: it is no YAML, or has a key twice.
    """
    try:
        return yaml.load(data, _Loader)  # noqa: S506  a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ConfigError("", f"{line}not YAML: {_in_words(error.problem or '')}") from None
    except yaml.YAMLError:
        raise ConfigError("", "not YAML: it has characters that YAML does not allow") from None
    except RecursionError:
        raise ConfigError("", "not YAML: it is nested too deeply") from None
    except ValueError:
        raise ConfigError("", "not YAML: a value is not what its tag says") from None


def _in_words(problem: str) -> str:
    """PyYAML's problem without what it quotes: the file holds hashes."""
    if "<stream end>" in problem or "end of stream" in problem:
        return "it ends inside a bracket or a quote, or where a value is expected"
    if r"'\t'" in problem:
        return "a tab cannot indent"
    return next((text for start, text in _PROBLEMS.items() if problem.startswith(start)), "it cannot be read")


def mapping(key: str, value: object, names: tuple[str, ...] | None = None) -> dict[str, object]:
    """A section, with these keys only; one that is absent or has nothing in it is empty."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(key, "must be keys with values")
    for name in value:
        if names is not None and name not in names:
            where = f"{key}.{name}" if key else name
            raise ConfigError(where, f"unknown key; known here: {', '.join(names)}")
    return value


def text(key: str, value: object, what: str = "text") -> str | None:
    """Text, whatever it looks like."""
    if isinstance(value, PlainScalar):
        return value.text
    if value is None or isinstance(value, str):
        return value
    raise ConfigError(key, f"must be {what}")


def boolean(key: str, value: object, *, default: bool) -> bool:
    """Yes or no, in the words of YAML 1.1."""
    word = text(key, value, "true or false")
    if word is None:
        return default
    if word.lower() not in TRUE + FALSE:
        raise ConfigError(key, "must be true or false")
    return word.lower() in TRUE


def number(key: str, value: object) -> int:
    """A whole number that is not below zero; nothing is zero."""
    if value is None:
        return 0
    if not isinstance(value, PlainScalar) or not re.fullmatch(r"[0-9]{1,9}", value.text):
        raise ConfigError(key, "must be a whole number")
    return int(value.text)


def texts(key: str, value: object) -> tuple[str, ...] | None:
    """A list of texts; None: there is no list."""
    if value is None:
        return None
    if not isinstance(value, list):
        raise ConfigError(key, "must be a list")
    found = []
    for item in value:
        word = text(key, item, "a list of texts")
        if word is None:
            raise ConfigError(key, "has an item with nothing in it")
        found.append(word)
    return tuple(found)


def one_of(key: str, value: object, known: dict[str, T], default: T) -> T:
    """What a word stands for."""
    word = text(key, value)
    if word is None:
        return default
    if word not in known:
        raise ConfigError(key, f"must be one of {', '.join(known)}")
    return known[word]
