# SPDX-License-Identifier: Apache-2.0
"""What the modules of a package import, and what a module reaches that reads, waits or logs."""

from __future__ import annotations

import ast
from collections import deque
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

HARMLESS = {
    "__future__",
    "bisect",
    "collections",
    "dataclasses",
    "difflib",
    "enum",
    "errno",
    "functools",
    "heapq",
    "itertools",
    "json",
    "math",
    "operator",
    "re",
    "string",
    "types",
    "typing",
}
"""What a pure module may use of the standard library."""

IN_PARTS = {"os", "traceback"}
HARMLESS_PARTS = {"traceback.walk_tb"}
"""What it may use of modules that also read; and of `os` the constants, as os.EX_DATAERR."""

TYPES_ONLY = ("TYPE_CHECKING", "typing.TYPE_CHECKING")
READING_BUILTINS = {"__import__", "breakpoint", "eval", "exec", "input", "open", "print"}


class Module(NamedTuple):
    """What one file of a package says.

    Attributes:
        imports: absolute names of all that it imports, under TYPE_CHECKING too.
        at_run_time: those that are imported when the program runs.
        calls: built-in functions that read or write, and parts of `os` and `traceback` that may.
    """

    imports: frozenset[str]
    at_run_time: frozenset[str]
    calls: frozenset[str]


def modules_of(package: Path) -> dict[str, Module]:
    """Every module below the package's folder by its full name; a package by that of its ``__init__``."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = (package.name, *path.relative_to(package).with_suffix("").parts)
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        found[name] = _module(path.read_text("utf-8"), name if is_package else name.rpartition(".")[0])
    return found


@cache
def _module(text: str, inside: str) -> Module:
    tree = ast.parse(text)
    running = list(_at_run_time(tree))
    return Module(
        frozenset(_imports(ast.walk(tree), inside)),
        frozenset(_imports(running, inside)),
        frozenset(_calls(running)),
    )


def _at_run_time(tree: ast.AST) -> Iterator[ast.AST]:
    """As ast.walk(), without what stands under ``if TYPE_CHECKING``."""
    todo = [tree]
    while todo:
        node = todo.pop()
        yield node
        if isinstance(node, ast.If) and ast.unparse(node.test) in TYPES_ONLY:
            todo += node.orelse
        else:
            todo += ast.iter_child_nodes(node)


def _imports(nodes: Iterable[ast.AST], inside: str) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = inside.split(".")[: len(inside.split(".")) + 1 - node.level] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            yield origin
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def _calls(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id in READING_BUILTINS:
                yield f"{node.func.id}()"
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield from _parts(node.value.id, node.attr)
        elif isinstance(node, ast.Import):
            # Under another name its parts cannot be followed.
            yield from (a.name for a in node.names if a.asname and a.name.split(".")[0] in IN_PARTS)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (part for alias in node.names for part in _parts(node.module, alias.name))


def _parts(module: str, name: str) -> Iterator[str]:
    """The name in full where the module is looked at in parts, and this one is not harmless."""
    if (
        module in IN_PARTS
        and not (module == "os" and name.isupper())
        and f"{module}.{name}" not in HARMLESS_PARTS
    ):
        yield f"{module}.{name}"


def _own(name: str, modules: dict[str, Module]) -> Iterator[str]:
    """The modules of the package that run when this name is imported: itself and the packages around it."""
    parts = name.split(".")
    yield from (".".join(parts[:n]) for n in range(1, len(parts) + 1) if ".".join(parts[:n]) in modules)


def _beyond(module: Module, package: str) -> list[str]:
    """What a module itself uses that is not harmless."""
    foreign = {name.split(".")[0] for name in module.at_run_time} - HARMLESS - IN_PARTS - {package}
    return sorted(foreign | module.calls)


def circles(package: Path) -> list[list[str]]:
    """Modules that import each other when the program runs, directly or through others; each circle sorted.

    Imports inside of functions count. That the package of a module runs before it does not, since it is so
    wherever an ``__init__`` imports modules of its package.
    """
    modules = modules_of(package)
    imports = {
        name: {_module_named(one, modules) for one in module.at_run_time} - {"", name}
        for name, module in modules.items()
    }
    reached = {name: _reached(name, imports) for name in modules}
    found = {
        tuple(sorted(other for other in reached[name] if name in reached[other]))
        for name in modules
        if name in reached[name]
    }
    return sorted(map(list, found))


def _module_named(name: str, modules: dict[str, Module]) -> str:
    """The module that a name is, or that it is taken out of; none for one of another package."""
    return max((owner for owner in _own(name, modules)), key=len, default="")


def _reached(start: str, imports: dict[str, set[str]]) -> set[str]:
    """All that a module imports, directly or through others."""
    found: set[str] = set()
    todo = [start]
    while todo:
        new = imports[todo.pop()] - found
        found |= new
        todo += new
    return found


def impurities(package: Path, pure: tuple[str, ...]) -> list[str]:
    """How pure modules come to something that reads, waits or logs.

    Args:
        package: its folder.
        pure: its modules, as ``plan.build``, and packages, as ``plan``, that shall be pure.

    Returns:
        Chains as ``plan.build -> log -> structlog``, without the package's own name. Each begins at the last
        pure module on the way, and is a shortest one.
    """
    modules = modules_of(package)
    inner = {name: name.removeprefix(f"{package.name}.") for name in modules}
    starts = [m for m in modules if any(f"{inner[m]}.".startswith(f"{name}.") for name in pure)]
    found = []
    for start in starts:
        chains = {start: inner[start]}
        queue = deque([start])
        while queue:
            name = queue.popleft()
            found += [f"{chains[name]} -> {thing}" for thing in _beyond(modules[name], package.name)]
            for imported in sorted(modules[name].at_run_time):
                for other in _own(imported, modules):
                    if other not in chains and other not in starts:
                        chains[other] = f"{chains[name]} -> {inner[other]}"
                        queue.append(other)
    return found
