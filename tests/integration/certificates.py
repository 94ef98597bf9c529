# SPDX-License-Identifier: Apache-2.0
"""Certificates for tests, made by the openssl program."""

from __future__ import annotations

import ssl
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def _openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)


@dataclass(frozen=True)
class Authority:
    """A certificate authority in a folder of its own."""

    folder: Path

    @property
    def certificate(self) -> Path:
        return self.folder / "ca.pem"

    def issue(
        self, name: str, *, folder: Path | None = None, names: str = "IP:127.0.0.1,DNS:localhost"
    ) -> tuple[Path, Path]:
        """A certificate for these names, and its key, at ``name.pem`` and ``name.key``."""
        to = folder or self.folder
        request, extensions = self.folder / "request", self.folder / "extensions"
        key, certificate = to / f"{name}.key", to / f"{name}.pem"
        # Python 3.13 verifies strictly: with identifiers of the authority's key, and its usage (below).
        extensions.write_text(
            f"subjectAltName={names}\nauthorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n"
        )
        _openssl("req", "-new", *_KEY, "-keyout", str(key), "-out", str(request), "-subj", f"/CN={name}")
        _openssl(
            *("x509", "-req", "-in", str(request), "-out", str(certificate), "-days", "2"),
            *("-CA", str(self.certificate), "-CAkey", str(self.folder / "ca.key"), "-CAcreateserial"),
            *("-extfile", str(extensions)),
        )
        return certificate, key

    def client(self, certificate: tuple[Path, Path] | None = None) -> ssl.SSLContext:
        """A context that trusts this authority only."""
        context = ssl.create_default_context(cafile=str(self.certificate))
        if certificate is not None:
            context.load_cert_chain(*certificate)
        return context


def make_authority(folder: Path) -> Authority:
    folder.mkdir(exist_ok=True)
    made = Authority(folder)
    _openssl(
        *("req", "-x509", *_KEY, "-keyout", str(folder / "ca.key"), "-out", str(made.certificate)),
        *("-days", "2", "-subj", "/CN=test authority", "-addext", "keyUsage=critical,keyCertSign,cRLSign"),
    )
    return made
