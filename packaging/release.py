# SPDX-License-Identifier: Apache-2.0
"""Makes the release: sdist, wheel, Debian package, RPM and SHA256SUMS.

``python packaging/release.py --help``. The wheel and both packages are made from the unpacked sdist, so that
it is known to be complete. All files have the time of the last commit, or of SOURCE_DATE_EPOCH: the same
source gives the same bytes (--check makes everything twice, in folders of different names, and compares).
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CHECKOUT = Path(__file__).resolve().parents[1]
KINDS = ("sdist", "wheel", "deb", "rpm")
SUMS = "SHA256SUMS"
LIBRARIES = {
    "bcrypt": "python3-bcrypt",
    "jinja2": "python3-jinja2",
    "prometheus_client": "python3-prometheus-client",
    "psutil": "python3-psutil",
    "structlog": "python3-structlog",
    "tornado": "python3-tornado",
    "yaml": "python3-yaml",
}
"""What the system's Python needs to make man pages while rpmbuild runs, and Debian's packages of it."""
SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
"""The build is the distribution's: its Python and its libraries, not those of a virtual environment."""
PACKAGER = "tdx-headroom maintainers <tdx-headroom@example.org>"


class ReleaseError(Exception):
    """A step failed; the message is what a person needs to know.

    Args:
        message: what failed.
        status: what the command ends with; 69 when the machine lacks something.
    """

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


def main(arguments: Sequence[str] | None = None) -> int:
    """Make what is asked for.

    Returns:
        0: all went well. 1: a step failed, or two builds differ. 69: the machine lacks something.
    """
    parser = argparse.ArgumentParser(prog="packaging/release.py", description=__doc__)
    parser.add_argument(
        "kinds", nargs="*", choices=[*KINDS, []], metavar="KIND", help=f"of {', '.join(KINDS)} (default: all)"
    )
    parser.add_argument("--out", type=Path, default=CHECKOUT / "dist", metavar="DIR", help="(default: dist)")
    parser.add_argument("--check", action="store_true", help="make everything twice and compare")
    parser.add_argument(
        "--install-needed",
        action="store_true",
        help="install what the packages are built with (Debian, root)",
    )
    options = parser.parse_args(arguments)
    kinds = options.kinds or list(KINDS)
    try:
        if options.install_needed:
            _install_needed(kinds)
        _require(kinds, CHECKOUT / "packaging/debian/control")
        made = _make_all(kinds, options.out.resolve(), "build")
        if options.check:
            _check(made, kinds)
        _sum(made, options.out)
    except ReleaseError as error:
        print(f"release: {error}", file=sys.stderr)
        return error.status
    for path in made:
        print(path)
    return 0


def version() -> str:
    """The version in the code.

    Raises:
        ReleaseError: debian/changelog or the RPM's spec or the image's label has another.
    """
    packaging = CHECKOUT / "packaging"
    places = {
        CHECKOUT / "agent/tdx_headroom/__init__.py": r'^__version__ = "(.+)"$',
        packaging / "debian/changelog": r"^tdx-headroom \((.+)\) ",
        packaging / "rpm/tdx-headroom.spec": r"^Version:\s+(\S+)$",
        packaging / "container/Containerfile": r'org\.opencontainers\.image\.version="(.+)"',
    }
    found = {}
    for path, pattern in places.items():
        match = re.search(pattern, path.read_text("utf-8"), re.MULTILINE)
        found[path.relative_to(CHECKOUT)] = match[1] if match else "no version"
    if len(set(found.values())) != 1:
        raise ReleaseError("; ".join(f"{path}: {value}" for path, value in found.items()))
    return next(iter(found.values()))


def _install_needed(kinds: Sequence[str]) -> None:
    """Install the build dependencies that debian/control has, and rpm.

    Raises:
        ReleaseError: apt-get could not.
    """
    commands: list[list[str | Path]] = []
    install: list[str | Path] = ["apt-get", "-q", "-y", "--no-install-recommends"]
    if {"deb", "rpm"} & set(kinds) and _lacking_build_dependencies(CHECKOUT / "packaging/debian/control"):
        commands.append([*install, "install", "dpkg-dev"])
        commands.append([*install, "build-dep", CHECKOUT / "packaging"])
    if "rpm" in kinds and shutil.which("rpmbuild") is None:
        commands.append([*install, "install", "rpm"])
    if commands:
        commands.insert(0, ["apt-get", "-q", "update"])
    for command in commands:
        try:
            _run(command, CHECKOUT, {**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
        except ReleaseError as error:
            raise ReleaseError(f"needs packages of Debian: {error}", 69) from None


def _require(kinds: Sequence[str], control: Path) -> None:
    """See that all programs and libraries are there, before anything is made.

    Raises:
        ReleaseError: something is missing; one line names all of it.
    """
    lacking = []
    if "deb" in kinds:
        lacking += _lacking_build_dependencies(control)
    if "rpm" in kinds:
        lacking += ["rpm"] if shutil.which("rpmbuild") is None else []
        lacking += [package for package in _lacking_libraries() if package not in lacking]
    if lacking:
        hint = 'as root, make release ARGS=--install-needed installs that; ARGS="sdist wheel" does without'
        raise ReleaseError(f"not installed: {', '.join(lacking)}; {hint}", 69)


def _lacking_libraries() -> list[str]:
    script = f"import importlib.util as u; print(*(n for n in {list(LIBRARIES)} if u.find_spec(n) is None))"
    python = shutil.which("python3", path=SYSTEM_PATH)
    if python is None:
        return ["python3", *LIBRARIES.values()]
    done = subprocess.run([python, "-I", "-c", script], capture_output=True, text=True, check=False)
    return [LIBRARIES[name] for name in done.stdout.split()]


def _lacking_build_dependencies(control: Path) -> list[str]:
    try:
        command: list[str | Path] = ["dpkg-checkbuilddeps", control]
        done = subprocess.run(
            command,
            env={**os.environ, "LC_ALL": "C"},
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return ["dpkg-dev"]
    if done.returncode == 0:
        return []
    # one line, whose end is a list such as `debhelper-compat (= 13) dh-python`
    names = done.stderr.strip().rpartition(": ")[2]
    return re.findall(r"\S+(?: \([^)]*\))?", names) or ["build dependencies"]


def _make_all(kinds: Sequence[str], out: Path, name: str) -> list[Path]:
    """Make the kinds in a folder of that name; gives the files, which lie in ``out``."""
    number = version()
    makers: dict[str, Callable[[Path, Path, str], Path]] = {"wheel": _wheel, "deb": _deb, "rpm": _rpm}
    made: list[Path] = []
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="tdx-release-") as folder:
        work = Path(folder) / name
        work.mkdir()
        _run(
            [sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", work, CHECKOUT], CHECKOUT
        )
        (sdist,) = work.glob("*.tar.gz")
        for kind in kinds:
            file = sdist if kind == "sdist" else makers[kind](work, sdist, number)
            made.append(Path(shutil.copyfile(file, out / file.name)))
    return made


def _unpacked(work: Path, sdist: Path, name: str) -> Path:
    with tarfile.open(sdist) as archive:
        # Not extractall(filter=…): Debian 12's Python, 3.11.2, has no such argument yet.
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
        archive.extractall(work / name)  # noqa: S202  made a moment ago
    return work / name / sdist.name.removesuffix(".tar.gz")


def _wheel(work: Path, sdist: Path, _number: str) -> Path:
    tree = _unpacked(work, sdist, "wheel")
    _run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", work, tree], tree)
    return next(work.glob("*.whl"))


def _deb(work: Path, sdist: Path, number: str) -> Path:
    tree = _unpacked(work, sdist, "deb")
    (tree / "packaging/debian").rename(tree / "debian")
    environment = {**_environment(), "PATH": SYSTEM_PATH}
    _run(["dpkg-buildpackage", "-b", "-us", "-uc"], tree, environment)
    return work / "deb" / f"tdx-headroom_{number}_all.deb"


def _rpm(work: Path, sdist: Path, number: str) -> Path:
    tree = _unpacked(work, sdist, "rpm")
    defined = {
        "_topdir": str(work / "rpmbuild"),
        "_sourcedir": str(work),
        "_buildhost": "reproducible",
        "packager": PACKAGER,
        "use_source_date_epoch_as_buildtime": "1",
        "clamp_mtime_to_source_date_epoch": "1",
        "_binary_payload": "w19.zstdio",
    }
    options = [word for name, value in defined.items() for word in ("--define", f"{name} {value}")]
    environment = {**_environment(), "PATH": SYSTEM_PATH}
    # --nodeps: on Debian rpm's own database is empty; a build dependency that is missing fails in %build.
    _run(
        ["rpmbuild", "-bb", "--nodeps", *options, tree / "packaging/rpm/tdx-headroom.spec"], tree, environment
    )
    return next((work / "rpmbuild/RPMS/noarch").glob(f"tdx-headroom-{number}-*.rpm"))


def _check(made: list[Path], kinds: Sequence[str]) -> None:
    """Make everything again elsewhere and compare.

    Raises:
        ReleaseError: bytes differ.
    """
    with tempfile.TemporaryDirectory(prefix="tdx-release-check-") as folder:
        for first, second in zip(made, _make_all(kinds, Path(folder), "another-folder"), strict=True):
            if first.read_bytes() != second.read_bytes():
                kept = first.with_name(f"{first.name}.second")
                shutil.copyfile(second, kept)
                raise ReleaseError(
                    f"{first} is not the same when it is made twice: diffoscope {first} {kept}"
                )


def _sum(made: list[Path], out: Path) -> None:
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in sorted(made)]
    (out / SUMS).write_text("".join(lines))


def _environment() -> dict[str, str]:
    """The environment, with the time of the last commit."""
    environment = dict(os.environ)
    if "SOURCE_DATE_EPOCH" not in environment:
        log = ["git", "-C", str(CHECKOUT), "log", "-1", "--format=%ct"]
        done = subprocess.run(log, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ReleaseError("no git history here: set SOURCE_DATE_EPOCH to the time of the release")
        environment["SOURCE_DATE_EPOCH"] = done.stdout.strip()
    return environment


def _run(command: Sequence[str | Path], folder: Path, environment: dict[str, str] | None = None) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment or _environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        hint = "as root, make release ARGS=--install-needed may help, or see docs/release.md"
        raise ReleaseError(f"{command[0]} is not installed: {hint}", 69) from None
    if done.returncode != 0:
        end = "\n".join(done.stdout.splitlines()[-25:])
        raise ReleaseError(f"{' '.join(map(str, command))}: status {done.returncode}\n{end}")


if __name__ == "__main__":
    sys.exit(main())
