# SPDX-License-Identifier: Apache-2.0
"""Where a module opens, lists or looks at a path of the machine that it runs on, by itself."""

from __future__ import annotations

import ast

FUNCTIONS = {
    "open",
    *(f"io.{name}" for name in ("open", "open_code", "FileIO")),
    *(f"os.{name}" for name in ("open", "listdir", "scandir", "walk", "fwalk", "stat", "lstat")),
    *(f"os.{name}" for name in ("readlink", "access", "statvfs", "getxattr", "listxattr")),
    *(f"os.path.{name}" for name in ("exists", "lexists", "isfile", "isdir", "islink", "ismount")),
    *(f"os.path.{name}" for name in ("realpath", "getsize", "getmtime", "samefile")),
    *(f"glob.{name}" for name in ("glob", "iglob")),
}
"""Of these even a mention counts: it may be handed to somebody who calls it."""

METHODS = {
    *("read_text", "iterdir", "walk", "glob", "rglob", "lstat", "readlink", "resolve", "samefile", "owner"),
    *("is_file", "is_dir", "is_symlink", "is_socket", "is_fifo", "is_mount", "is_block_device"),
    "is_char_device",
}
"""Of a ``Path``; nothing else that the agent calls has methods of these names."""

ALSO_OF_ROOTS = {"open": 2, "read_bytes": 2, "exists": 1, "stat": 1}
"""Of a host's files as well: with so many arguments it is theirs."""


def openings(text: str) -> list[str]:
    """What of a module's text opens, lists or looks at a path, each as it is written."""
    tree = ast.parse(text)
    names = _imported(tree)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and _full_name(node, names) in FUNCTIONS:
            found.append(ast.unparse(node))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            method, given = node.func.attr, len(node.args)
            on_a_path = method in METHODS or given < ALSO_OF_ROOTS.get(method, 0)
            # What reads a stream that is open already, such as tarfile.
            if on_a_path and "fileobj" not in {keyword.arg for keyword in node.keywords}:
                found.append(ast.unparse(node.func))
    return found


def _imported(tree: ast.AST) -> dict[str, str]:
    """What names of modules, and of what is taken out of modules, stand for."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _full_name(node: ast.Name | ast.Attribute, names: dict[str, str]) -> str:
    first, _, rest = ast.unparse(node).partition(".")
    return ".".join(filter(None, (names.get(first, first), rest)))
