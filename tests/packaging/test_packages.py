# SPDX-License-Identifier: Apache-2.0
"""The Debian package and the RPM, built from this checkout."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.packaging.conftest import CHECKOUT

if TYPE_CHECKING:
    from pathlib import Path

DEB_TOOLS = [pytest.mark.program("dpkg-checkbuilddeps"), pytest.mark.program("dh")]
UNITS = {path.name for path in (CHECKOUT / "systemd").iterdir() if path.is_file()}
COMMON = (
    "usr/bin/tdx-headroom",
    "usr/lib/systemd/system-generators/tdx-headroom",
    "usr/lib/sysusers.d/tdx-headroom.conf",
    "usr/share/tdx-headroom/systemd/old-systemd.conf",
    "usr/share/tdx-headroom/systemd/network.conf",
    "usr/share/man/man8/tdx-headroom.8.gz",
    "usr/share/man/man7/tdx-headroom-metrics.7.gz",
    "usr/share/bash-completion/completions/tdx-headroom",
    "usr/lib/kernel/install.d/99-tdx-headroom.install",
    "usr/share/tdx-headroom/kernel-hooks/say-next-boot",
    "usr/share/tdx-headroom/motd/tdx-headroom.sh",
)
HOOKS = ("etc/kernel/postinst.d/zzz-tdx-headroom", "etc/kernel/postrm.d/zzz-tdx-headroom")
"""Of Debian's packages of kernels alone."""


def complete(tree: Path, line: str) -> list[str]:
    """What bash offers at the end of a line, with the completion of the package."""
    script = f"""
        source {tree}/usr/share/bash-completion/completions/tdx-headroom
        line={line!r}
        read -ra COMP_WORDS <<< "${{line//=/ = }}"
        [[ $line != *' ' ]] || COMP_WORDS+=('')
        COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
        function=$(complete -p tdx-headroom | sed -E 's/.* -F ([^ ]+) .*/\\1/')
        "$function" tdx-headroom "${{COMP_WORDS[COMP_CWORD]}}" "${{COMP_WORDS[COMP_CWORD - 1]}}"
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=CHECKOUT / "packaging")
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


class TestDebian:
    pytestmark = DEB_TOOLS

    @pytest.mark.program("lintian")
    def test_lintian_has_nothing_to_say(self, deb: Path) -> None:
        """No error, warning, information or pedantry, and no override."""
        done = subprocess.run(
            ["lintian", "--allow-root", "--no-cfg", "--display-info", "--pedantic", deb],
            capture_output=True, text=True, env={**os.environ, "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (0, "")
        assert not list((CHECKOUT / "packaging/debian").glob("*lintian-overrides*"))

    def test_everything_is_in_it(self, deb_tree: Path) -> None:
        """The command, units, settings, man pages, completions and the host of the demo."""
        wanted = [*COMMON, "etc/default/tdx-headroom", "etc/default/tdx-headroom-textfile"]
        wanted += ["etc/init.d/tdx-headroom", "usr/share/zsh/vendor-completions/_tdx-headroom"]
        wanted += ["usr/lib/python3/dist-packages/tdx_headroom/hosts/emerald-rapids/proc/iomem"]
        assert [path for path in wanted if not (deb_tree / path).is_file()] == []
        assert {path.name for path in deb_tree.rglob("*systemd/system/*") if path.is_file()} == UNITS
        conffiles = (deb_tree / "DEBIAN/conffiles").read_text().split()
        assert sorted(conffiles) == [
            "/etc/default/tdx-headroom",
            "/etc/default/tdx-headroom-textfile",
            "/etc/init.d/tdx-headroom",
            *(f"/{path}" for path in HOOKS),
        ]

    def test_hooks_can_be_run(self, deb_tree: Path) -> None:
        """Those for kernels are programs; the login message is in no folder where a login would read it."""
        programs = [*HOOKS, *(path for path in COMMON if "kernel" in path)]
        assert [path for path in programs if (deb_tree / path).stat().st_mode & 0o777 != 0o755] == []
        for path in programs:
            assert (deb_tree / path).read_text().startswith("#!/bin/sh\n")
        assert not [path for path in ("etc/profile.d", "etc/update-motd.d") if (deb_tree / path).exists()]

    def test_it_depends_on_what_it_imports(self, deb_tree: Path) -> None:
        """Every dependency of pyproject.toml is one of the package, by Debian's name."""
        control = (deb_tree / "DEBIAN/control").read_text()
        depends = re.search(r"^Depends: (.*)$", control, re.MULTILINE)
        assert depends
        names = {part.split()[0] for part in depends[1].split(", ")}
        assert names == {
            "python3-bcrypt",
            "python3-jinja2",
            "python3-prometheus-client",
            "python3-psutil",
            "python3-structlog",
            "python3-tornado",
            "python3-yaml",
            "python3:any",
            "systemd",  # or another that has systemd-sysusers
        }

    def test_the_units_are_the_checkouts(self, deb_tree: Path) -> None:
        """No unit is changed on its way into the package."""
        for path in deb_tree.rglob("*systemd/system/*"):
            if path.is_file():
                assert path.read_bytes() == (CHECKOUT / "systemd" / path.name).read_bytes()

    def test_the_user_is_there_before_anything_starts(self, deb_tree: Path) -> None:
        """The package makes the agent's own user first, from the file that the RPM has, too."""
        file = "usr/lib/sysusers.d/tdx-headroom.conf"
        assert (deb_tree / file).read_bytes() == (
            CHECKOUT / "packaging/sysusers/tdx-headroom.conf"
        ).read_bytes()
        postinst = (deb_tree / "DEBIAN/postinst").read_text()
        made = re.search(r"systemd-sysusers .*tdx-headroom\.conf", postinst)
        assert made
        for start in ("deb-systemd-invoke", "invoke-rc.d"):
            assert made.start() < postinst.index(start)

    def test_man_pages_have_no_warning(self, deb_tree: Path) -> None:
        """The man pages are the generated ones, with nothing left to fill in."""
        for path in (deb_tree / "usr/share/man").rglob("*.gz"):
            text = gzip.decompress(path.read_bytes()).decode()
            assert text.startswith('.\\" SPDX')
            assert not re.search(r"@[A-Z]+@", text)

    @pytest.mark.parametrize(
        ("line", "offered"),
        [
            ("tdx-headroom pl", ["plan"]),
            ("tdx-headroom --ver", ["--version"]),
            ("tdx-headroom plan --format=", ["text", "json"]),
            ("tdx-headroom plan --kernel ", []),
            ("tdx-headroom serve --web.l", ["--web.listen-address"]),
            ("tdx-headroom serve --log.format ", ["logfmt", "json"]),
            ("tdx-headroom plan --strategy cmr-", ["cmr-subregion", "cmr-walk"]),
            ("tdx-headroom plan --assume-strategy m", ["memory-regions"]),
            ("tdx-headroom plan --root deb", ["debian"]),
            ("tdx-headroom plan --log rel", ["release.py"]),
        ],
    )
    def test_bash_completes(self, deb_tree: Path, line: str, offered: list[str]) -> None:
        """Commands, options, choices, folders and files."""
        assert complete(deb_tree, line) == offered

    @pytest.mark.program("zsh")
    def test_zsh_takes_its_completion(self, deb_tree: Path) -> None:
        """zsh finds no fault with the syntax."""
        file = deb_tree / "usr/share/zsh/vendor-completions/_tdx-headroom"
        done = subprocess.run(["zsh", "--no-exec", file], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.program("rpmbuild")
@pytest.mark.program("rpm")
class TestRpm:
    @pytest.mark.program("rpmlint")
    def test_rpmlint_has_nothing_to_say(self, rpm: Path) -> None:
        """Neither about the package nor about the spec."""
        folder = CHECKOUT / "packaging/rpm"
        done = subprocess.run(
            ["rpmlint", "-c", folder / "rpmlint.toml", rpm, folder / "tdx-headroom.spec"],
            capture_output=True, text=True, env={**os.environ, "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
        assert "0 errors, 0 warnings" in done.stdout, done.stdout

    def test_everything_is_in_it(self, rpm: Path) -> None:
        """The files of the Debian package where an RPM has them; nothing in a folder of Debian's."""
        listed = subprocess.run(["rpm", "-qpl", rpm], capture_output=True, text=True, check=True)
        files = set(listed.stdout.split())
        wanted = [f"/{path}" for path in COMMON]
        wanted += [f"/usr/lib/systemd/system/{unit}" for unit in UNITS]
        wanted += ["/etc/sysconfig/tdx-headroom", "/etc/sysconfig/tdx-headroom-textfile"]
        wanted += ["/usr/share/zsh/site-functions/_tdx-headroom"]
        assert set(wanted) - files == set()
        debians = "dist-packages|/etc/default|/etc/kernel|/com/|__pycache__"
        assert not [path for path in files if re.search(debians, path)]

    def test_the_scriptlets_are_complete(self, rpm: Path) -> None:
        """No macro of RPM is left over in what runs at the installation, where a macro was missing."""
        done = subprocess.run(["rpm", "-qp", "--scripts", rpm], capture_output=True, text=True, check=True)
        assert "%" not in done.stdout
        assert "systemd-sysusers tdx-headroom.conf" in done.stdout
        for verb in ("install", "remove", "mark-restart"):
            assert f"{verb}-system-units tdx-headroom.service" in done.stdout

    @pytest.mark.program("rpm2cpio")
    @pytest.mark.program("cpio")
    def test_the_command_runs(self, rpm_tree: Path, tmp_path: Path) -> None:
        """Unpacked, the command plans the bundled host with its own code."""
        command = (rpm_tree / "usr/bin/tdx-headroom").read_text()
        app = "/usr/share/tdx-headroom/python"
        assert f'"{app}"' in command
        local = tmp_path / "command"
        local.write_text(command.replace(app, f"{rpm_tree}{app}"))
        host = f"{rpm_tree}{app}/tdx_headroom/hosts/emerald-rapids"
        done = subprocess.run(
            ["/usr/bin/python3", "-I", local, "plan", "--root", host, "--format", "json"],
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        tdmrs = json.loads(done.stdout)["strategies"]["memory-regions"]["tdmrs"]
        assert [tdmr["needed_holes"] for tdmr in tdmrs] == [17, 1, 1, 1, 1]
