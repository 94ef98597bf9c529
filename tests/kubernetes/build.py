# SPDX-License-Identifier: Apache-2.0
"""Kubernetes' own programs, built of Debian 12's source package, and kept in the cache by its version.

Debian 12 packages no server of Kubernetes, but its source is whole. kubectl comes from Debian 13: the one of
that source has a kustomize that knows no components.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.kernel.source import suite_options
from tests.kernel.tools import (
    KernelTestError,
    MissingError,
    cache_folder,
    install_packages,
    last_line,
    new_folder,
    run,
)
from tests.tools.steps import say

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SUITE, CLIENT_SUITE = "bookworm", "trixie"
SERVERS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet")
CACHE = cache_folder().with_name("kubernetes")

_GO = Path("/usr/lib/go-1.19/bin")
_REFLECT = "src/github.com/modern-go/reflect2"
_NEEDED = {
    str(_GO / "go"): "golang-1.19-go",
    f"/usr/share/gocode/{_REFLECT}/reflect2.go": "golang-github-modern-go-reflect2-dev",
    "/usr/bin/gcc": "gcc",
    "/usr/include/stdio.h": "libc6-dev",
    "/usr/bin/dpkg-source": "dpkg-dev",
    "/usr/bin/openssl": "openssl",
}
_TAG = "+k8s:openapi-gen="
_NOT_SERVED = ("code-generator/", "sample-apiserver/", "/testdata/")
"""Parts of the source that ask for OpenAPI definitions of their own."""


class Programs(NamedTuple):
    """What a cluster is made of.

    Args:
        version: Kubernetes', ``1.20.2``.
        folder: its servers, and ``pause.tar``, the root of the image that holds a pod's namespaces.
        kubectl: the client.
        client: its version, ``1.32.3``.
    """

    version: str
    folder: Path
    kubectl: Path
    client: str


def programs(test: str) -> Programs:
    """Them from the cache, or built now, which takes ten minutes.

    Raises:
        MissingError: packages or the network are not there.
        KernelTestError: a build failed.
    """
    package = _newest("kubernetes", suite_options(SUITE, sources=True), "showsrc", r"(?m)^Version: (\S+)$")
    folder = CACHE / package
    # Debian calls the version 1.20.5+really1.20.2.
    version = re.split(r"really|-", package)[-2]
    if not folder.exists():
        install_packages([name for path, name in _NEEDED.items() if not Path(path).exists()])
        with new_folder(folder) as made:
            _build(test, package, version, made)
    client = _newest("kubectl", suite_options(CLIENT_SUITE), "madison", r"(?m)^ *kubectl \| (\S+) ")
    kubectl = CACHE / f"kubectl-{client}"
    if not kubectl.exists():
        with new_folder(kubectl) as made:
            _download(f"kubectl={client}", "download", made, suite_options(CLIENT_SUITE))
            (deb,) = made.glob("*.deb")
            run(["dpkg-deb", "--extract", deb, made])
            deb.unlink()
    return Programs(version, folder, kubectl / "usr/bin/kubectl", re.split(r"[+-]", client)[0])


def _newest(package: str, options: Sequence[str], question: str, pattern: str) -> str:
    """The first version that apt tells of, after an update of its lists if need be."""
    for update in (False, True):
        if update:
            subprocess.run(["apt-get", "-q", *options, "update"], capture_output=True, check=False)
        command = ["apt-cache", *options, question, package]
        told = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        if found := re.search(pattern, told):
            return found[1]
    raise MissingError(f"{package}: apt has no such package; is there a network?")


def _download(what: str, how: str, folder: Path, options: Sequence[str]) -> None:
    command = ["apt-get", "-q", *options, how, what]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise MissingError(f"{what}: no download ({last_line(done.stderr)}); is there a network?")


def _build(test: str, package: str, version: str, made: Path) -> None:
    """The servers and pause.tar into the folder; source and objects go at the end."""
    work = made / "work"
    tree = work / "src/k8s.io/kubernetes"
    tree.parent.mkdir(parents=True)
    began = time.monotonic()
    _download(f"kubernetes={package}", "source", work, suite_options(SUITE, sources=True))
    (source,) = (path for path in work.glob("kubernetes-*") if path.is_dir())
    source.rename(tree)
    say(test, f"source of Kubernetes {version}", began)
    # The vendored one is too old for Go 1.19: the server ends with SIGSEGV at the first custom resource.
    reflect = tree / "vendor" / _REFLECT.removeprefix("src/")
    shutil.rmtree(reflect)
    shutil.copytree(f"/usr/share/gocode/{_REFLECT}", reflect)
    env = {
        **os.environ,
        "PATH": f"{_GO}:{os.environ['PATH']}",
        "GOPATH": str(work),
        "GOCACHE": str(work / "objects"),
        "GO111MODULE": "off",
        "GOFLAGS": "",
        "CGO_ENABLED": "0",
    }
    began = time.monotonic()
    _generate(tree, env, work)
    say(test, "OpenAPI definitions", began)
    stamp = " ".join(
        f"-X {prefix}k8s.io/{part}/version.gitVersion=v{version}"
        for prefix in ("", "k8s.io/kubernetes/vendor/")
        for part in ("component-base", "client-go")
    )
    for name in SERVERS:
        began = time.monotonic()
        words: list[str | Path] = [
            "go",
            "build",
            "-trimpath",
            "-ldflags",
            f"-s -w {stamp}",
            "-o",
            made / name,
            f"./cmd/{name}",
        ]
        run(words, cwd=tree, env=env)
        say(test, f"{name} {version}", began)
    pause = work / "pause"
    run(["gcc", "-Os", "-static", "-s", "-o", pause, tree / "build/pause/linux/pause.c"])
    with tarfile.open(made / "pause.tar", "w") as tar:
        tar.add(pause, "pause")
    shutil.rmtree(work)


def _generate(tree: Path, env: Mapping[str, str], work: Path) -> None:
    """What the makefiles make first: the definitions that the server shows of its objects."""
    generator = work / "openapi-gen"
    run(["go", "build", "-o", generator, "./vendor/k8s.io/kube-openapi/cmd/openapi-gen"], cwd=tree, env=env)
    places = ["staging/src/k8s.io", "pkg", "cmd", "plugin"]
    tagged = run(["grep", "--recursive", "--files-with-matches", "--include=*.go", _TAG, *places], cwd=tree)
    folders = {
        f"k8s.io/kubernetes/{Path(name).parent}".replace("/staging/src/", "/vendor/")
        for name in tagged.splitlines()
        if not any(part in name for part in _NOT_SERVED)
    }
    if not folders:
        raise KernelTestError(f"no {_TAG} in {tree}")
    run(
        [
            *(generator, "--logtostderr", "-i", ",".join(sorted(folders))),
            *("-p", "k8s.io/kubernetes/pkg/generated/openapi", "-O", "zz_generated.openapi"),
            *("-h", "vendor/k8s.io/code-generator/hack/boilerplate.go.txt", "-r", work / "violations"),
        ],
        cwd=tree,
        env=env,
    )
