# SPDX-License-Identifier: Apache-2.0
"""Makes the documentation as packages install it: each path in it is one of an installed host.

``python3 packaging/installed_docs.py DIR`` writes README.md, CHANGELOG.md and docs/. What packages have
elsewhere has its installed path; what only the source has is named as such, and has no link. What stands
between ``<!-- source -->`` and ``<!-- /source -->`` is left out, and ``<!-- installed: TEXT -->`` becomes
TEXT. Pages about working on the source are left out whole.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
SHARE = "/usr/share/tdx-headroom"
ROOT_PAGES = ("README.md", "CHANGELOG.md")
LEFT_OUT = ("docs/dev", "docs/architecture.md", "docs/release.md")
"""Pages, and folders of pages, for who works on the source."""
PLACES = {
    "packaging/examples": "/usr/share/doc/tdx-headroom/examples",
    "packaging/sysusers": "/usr/lib/sysusers.d",
    "packaging/prometheus": f"{SHARE}/prometheus",
    "packaging/grafana": f"{SHARE}/grafana",
    "packaging/mixin": f"{SHARE}/mixin",
    "packaging/kubernetes": f"{SHARE}/kubernetes",
    "packaging/sos": f"{SHARE}/sos",
    "systemd/drop-ins": f"{SHARE}/systemd",
    "systemd/generators": "/usr/lib/systemd/system-generators",
    "tests/hosts/emerald-rapids": f"{SHARE}/hosts/emerald-rapids",
    "tests/history": f"{SHARE}/history",
}
"""Where packages have what a path of the source begins with."""

_OURS = re.compile(rf"(?<![\w/.-])(?:{'|'.join(map(re.escape, PLACES))})(?![\w-])")
_FENCED = re.compile(r"(?ms)(^ *```.*?^ *```$)")
_LINK = re.compile(r"(!?)\[((?:[^][]|\[[^][]*\])*)\]\((?!https?:|#)([^)#\s]+)(#[^)]*)?\)")
_SOURCE_ONLY = re.compile(
    r"`(?:make [a-z]|python -m tests|(?:tests|agent|packaging|\.github|\.ci)/)[^`]*`"
    r"|(?<![\w`/.-])(?:tests|agent|packaging|\.github|\.ci)/[\w./*-]*\w"
)


def installed(text: str, page: str) -> str:
    """A page as it is installed.

    Args:
        text: of the page.
        page: its path in the source, such as ``docs/boots.md``.
    """
    text = re.sub(r"(?s)<!-- source -->\n?.*?<!-- /source -->\n?", "", text)
    text = re.sub(r"(?s)<!-- installed: (.*?) -->", r"\1", text)
    parts = _FENCED.split(text)
    # Every second part is a fenced block: commands and files, which have paths and nothing else of ours.
    return "".join(_in_block(part) if i % 2 else _in_sentences(part, page) for i, part in enumerate(parts))


def _in_block(text: str) -> str:
    return _OURS.sub(lambda found: PLACES[found[0]], text)


def _in_sentences(text: str, page: str) -> str:
    linked = _LINK.sub(lambda found: _link(found, page), text)
    return _SOURCE_ONLY.sub(lambda found: f"{found[0]} of the source", _in_block(linked))


def _link(found: re.Match[str], page: str) -> str:
    """A link to a page that is installed stays; of any other the words are left, or where it leads."""
    mark, words, target, place = found.groups()
    path = (CHECKOUT / page).parent.joinpath(target).resolve().relative_to(CHECKOUT)
    if _is_installed(path.as_posix()):
        return f"{mark}[{words}]({target}{place or ''})"
    shown = words if "/" in words else path.as_posix()
    if any(path.is_relative_to(ours) for ours in PLACES):
        return f"`{shown.strip('`')}`"
    return f"{shown} of the source" if _SOURCE_ONLY.search(shown) is None else shown


def _is_installed(path: str) -> bool:
    if path in ROOT_PAGES:
        return True
    inside = path == "docs" or path.startswith("docs/")
    return inside and not any(path == out or path.startswith(f"{out}/") for out in LEFT_OUT)


def main(folder: str) -> int:
    """Write the pages; the exit status."""
    for path in (*(CHECKOUT / name for name in ROOT_PAGES), *sorted((CHECKOUT / "docs").rglob("*"))):
        name = path.relative_to(CHECKOUT).as_posix()
        if not path.is_file() or not _is_installed(name):
            continue
        target = Path(folder, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            target.write_text(installed(path.read_text("utf-8"), name), "utf-8")
        else:
            shutil.copyfile(path, target)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
