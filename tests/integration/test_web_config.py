# SPDX-License-Identifier: Apache-2.0
"""The real agent with a web configuration: TLS, client certificates, passwords, and changes of all that."""

from __future__ import annotations

import http.client
import os
import re
import socket
import ssl
import subprocess
import sys
import warnings
from contextlib import closing
from typing import TYPE_CHECKING

import bcrypt
import pytest

from tests.integration.agent import SECONDS, agent, basic
from tests.integration.certificates import Authority, make_authority
from tests.integration.servers import wait_for
from tests.tools.ports import free_port

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.program("openssl")

KEEP_ROOT = ("--user", "root") if os.geteuid() == 0 else ()
"""Scratch folders of a test are its user's alone."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def config(tmp_path: Path, authority: Authority) -> Path:
    """A configuration with TLS; certificate and key lie beside it."""
    authority.issue("server", folder=tmp_path)
    path = tmp_path / "web.yml"
    path.write_text("tls_server_config: {cert_file: server.pem, key_file: server.key}\n")
    return path


def get(
    port: int, context: ssl.SSLContext, path: str = "/metrics", headers: dict[str, str] | None = None
) -> tuple[int, str]:
    with closing(
        http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=SECONDS)
    ) as connection:
        connection.request("GET", path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def serial_seen(port: int, context: ssl.SSLContext) -> str:
    with (
        socket.create_connection(("127.0.0.1", port), SECONDS) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
    ):
        certificate = secure.getpeercert()
        assert certificate is not None
        return str(certificate["serialNumber"])


def handshakes(port: int, context: ssl.SSLContext) -> bool:
    """Whether a request gets through under this context."""
    try:
        return get(port, context, "/-/healthy")[0] == 200
    except (ssl.SSLError, ConnectionResetError, BrokenPipeError, http.client.RemoteDisconnected):
        return False


def test_tls(config: Path, authority: Authority) -> None:
    """With a certificate all is HTTPS with TLS 1.2 or newer; plain HTTP and older versions get nothing."""
    with agent("--web.config.file", str(config), command="demo") as running:
        assert "url=https://127.0.0.1" in running.wait_for("msg=serving")
        status, body = get(running.port, authority.client())
        assert status == 200
        assert "tdx_headroom_web_config_reload_success 1.0" in body
        for version, works in (
            (ssl.TLSVersion.TLSv1_1, False),
            (ssl.TLSVersion.TLSv1_2, True),
            (ssl.TLSVersion.TLSv1_3, True),
        ):
            context = authority.client()
            context.set_ciphers("DEFAULT:@SECLEVEL=0")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # TLS 1.1 is what is tried here
                context.minimum_version = context.maximum_version = version
            assert handshakes(running.port, context) is works
        with pytest.raises((http.client.HTTPException, OSError)):
            running.get("/metrics")
        assert not [line for line in running.log if "level=error" in line]


def test_tls13_only(config: Path, authority: Authority) -> None:
    """min_version is obeyed."""
    config.write_text(config.read_text().replace("}", ", min_version: TLS13}"))
    with agent("--web.config.file", str(config), command="demo") as running:
        old = authority.client()
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        assert handshakes(running.port, authority.client())
        assert not handshakes(running.port, old)


def test_client_certificates(config: Path, authority: Authority, tmp_path: Path) -> None:
    """Who must show a certificate gets in with one of the named authority, and with no other or none."""
    stranger = make_authority(tmp_path / "stranger")
    ours, theirs = authority.issue("client"), stranger.issue("client")
    (tmp_path / "clients.pem").write_bytes(authority.certificate.read_bytes())
    more = ", client_ca_file: clients.pem, client_auth_type: RequireAndVerifyClientCert}"
    config.write_text(config.read_text().replace("}", more))
    required = config.read_text()
    config.write_text(required.replace("RequireAndVerifyClientCert", "VerifyClientCertIfGiven"))
    with agent("--web.config.file", str(config), command="demo") as running:
        assert handshakes(running.port, authority.client())
        assert handshakes(running.port, authority.client(ours))
        assert not handshakes(running.port, authority.client(theirs))
        config.write_text(required)
        assert handshakes(running.port, authority.client(ours))
        assert not handshakes(running.port, authority.client(theirs))
        assert not handshakes(running.port, authority.client())


def test_certificate_rotates(config: Path, authority: Authority) -> None:
    """A new certificate is served from the next connection on; a broken one leaves the last in place."""
    with agent("--web.config.file", str(config), command="demo") as running:
        client = authority.client()
        first = serial_seen(running.port, client)
        open_since_before = http.client.HTTPSConnection(
            "127.0.0.1", running.port, context=client, timeout=SECONDS
        )
        open_since_before.connect()

        authority.issue("server", folder=config.parent)
        second = serial_seen(running.port, client)
        assert second != first
        open_since_before.request("GET", "/-/healthy")
        assert open_since_before.getresponse().status == 200
        open_since_before.close()

        (config.parent / "server.pem").write_text("garbage")
        assert serial_seen(running.port, client) == second
        line = running.wait_for("web configuration not re-read")
        assert "tls_server_config.cert_file: " in line
        assert "holds no PEM certificate" in line
        body = get(running.port, client)[1]
        assert "tdx_headroom_web_config_reload_success 0.0" in body
        assert re.search(r"tdx_headroom_web_config_reload_failures_total [1-9]", body)

        authority.issue("server", folder=config.parent)
        wait_for("new certificate", lambda: serial_seen(running.port, client) not in (first, second))
        assert "tdx_headroom_web_config_reload_success 1.0" in get(running.port, client)[1]


def test_passwords_change(tmp_path: Path) -> None:
    """A changed password is in force with the next request, also for who was recognized before."""
    path = tmp_path / "web.yml"

    def write(password: str) -> None:
        hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()
        new = tmp_path / "new"
        new.write_text(f"basic_auth_users:\n  alice: {hashed}\n")
        new.rename(path)

    def header(password: str) -> dict[str, str]:
        return basic("alice", password)

    write("one")
    with agent("--web.config.file", str(path), command="demo") as running:
        assert running.get("/metrics")[0] == 401
        assert running.get("/metrics", header("one"))[0] == 200
        write("two")
        assert running.get("/metrics", header("one"))[0] == 401
        assert running.get("/metrics", header("two"))[0] == 200
        path.write_text("basic_auth_users: {alice: two}\n")
        assert running.get("/metrics", header("two"))[0] == 200
        line = running.wait_for("not re-read")
        assert "basic_auth_users.alice: not a bcrypt hash" in line
        assert "tdx_headroom_http_auth_failures_total 2.0" in running.get("/metrics", header("two"))[2]
        path.write_text("")
        assert running.get("/metrics")[0] == 401
        assert running.get("/metrics", header("two"))[0] == 200


def start(config: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tdx_headroom", "demo", "--web.config.file", str(config)]
    address = f"127.0.0.1:{free_port()}"
    return subprocess.run(
        [*command, *KEEP_ROOT, "--web.listen-address", address],
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )


def test_what_cannot_be_used_at_start(config: Path, authority: Authority) -> None:
    """Such a configuration ends the agent with EX_CONFIG and one line that names file and key."""
    folder = config.parent
    authority.issue("other", folder=folder)
    encrypt = ("openssl", "ec", "-aes128", "-passout", "pass:x", "-in", "server.key", "-out", "locked.key")
    subprocess.run(encrypt, cwd=folder, check=True, capture_output=True)
    cases = {
        "tls_server_config: {cert_file: none.pem, key_file: server.key}": ("cert_file", "No such file"),
        "tls_server_config: {cert_file: server.key, key_file: server.key}": ("cert_file", "no PEM cert"),
        "tls_server_config: {cert_file: server.pem, key_file: server.pem}": ("key_file", "no PEM private"),
        "tls_server_config: {cert_file: server.pem, key_file: other.key}": ("key_file", "does not belong"),
        "tls_server_config: {cert_file: server.pem, key_file: locked.key}": ("key_file", "encrypted"),
        "tls_server_config: {cert_file: server.pem, key_file: server.key, client_ca_file: server.key,"
        " client_auth_type: RequireAndVerifyClientCert}": ("client_ca_file", "no PEM cert"),
    }
    for text, (key, reason) in cases.items():
        config.write_text(text + "\n")
        run = start(config)
        assert run.returncode == os.EX_CONFIG, run.stderr
        line = run.stderr.splitlines()[-1]
        assert line.startswith(f"tdx-headroom: {config}: tls_server_config.{key}: "), line
        assert reason in line
        assert "Traceback" not in run.stderr
    config.unlink()
    assert (
        start(config).stderr.splitlines()[-1].endswith(f"tdx-headroom: {config}: No such file or directory")
    )
