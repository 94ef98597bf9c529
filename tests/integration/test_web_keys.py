# SPDX-License-Identifier: Apache-2.0
"""Keys of the web configuration that Debian's node_exporter does not know yet, in the real agent."""

from __future__ import annotations

import os
import socket
import ssl
import tempfile
from pathlib import Path

import bcrypt
import pytest
import yaml

from tests.integration.agent import agent, basic
from tests.integration.certificates import Authority, make_authority
from tests.integration.servers import wait_for
from tests.integration.test_web_config import get, handshakes, start
from tests.tools.scrape import EVERYTHING

pytestmark = pytest.mark.program("openssl")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = make_authority(tmp_path_factory.mktemp("ca"))
    made.issue("server")
    return made


def inline(authority: Authority) -> dict[str, str]:
    folder = authority.folder
    return {"cert": (folder / "server.pem").read_text(), "key": (folder / "server.key").read_text()}


def with_clients(folder: Path, authority: Authority) -> dict[str, str]:
    """A section that lets in whoever has a certificate of this authority."""
    (folder / "ca.pem").write_bytes(authority.certificate.read_bytes())
    return inline(authority) | {"client_ca_file": "ca.pem", "client_auth_type": "RequireAndVerifyClientCert"}


def test_inline_certificates(tmp_path: Path, authority: Authority) -> None:
    """Certificate, key and authorities may stand in the file, and are renewed with it; no disk has a copy."""
    file = tmp_path / "web.yml"
    section = inline(authority) | {
        "client_ca": authority.certificate.read_text("utf-8"),
        "client_auth_type": "RequireAndVerifyClientCert",
    }
    file.write_text(yaml.safe_dump({"tls_server_config": section}))
    known = authority.client(authority.issue("client"))
    with agent("--web.config.file", str(file), command="demo") as running:
        assert handshakes(running.port, known)
        assert not handshakes(running.port, authority.client())
        other = make_authority(tmp_path / "other")
        other.issue("server")
        file.write_text(yaml.safe_dump({"tls_server_config": section | inline(other)}))
        assert not handshakes(running.port, known)
        trusting = ssl.create_default_context(cafile=str(other.certificate))
        trusting.load_cert_chain(*authority.issue("client"))
        assert handshakes(running.port, trusting)
        section.pop("client_ca")
        file.write_text(yaml.safe_dump({"tls_server_config": section}))
        assert handshakes(running.port, trusting)
        assert "tls_server_config.client_ca: asks for less" in running.wait_for("not re-read")
        assert {path.name for path in tmp_path.iterdir()} == {"web.yml", "other"}


@pytest.mark.parametrize("name", ["cert", "key", "client_ca"])
def test_inline_certificates_that_are_none(name: str, tmp_path: Path, authority: Authority) -> None:
    """The error names the key, and shows nothing of what it holds."""
    section = inline(authority) | {"client_ca": authority.certificate.read_text("utf-8")}
    section["client_auth_type"] = "RequireAndVerifyClientCert"
    section[name] = "zq9"
    (tmp_path / "web.yml").write_text(yaml.safe_dump({"tls_server_config": section}))
    run = start(tmp_path / "web.yml")
    assert run.returncode == os.EX_CONFIG
    line = run.stderr.splitlines()[-1]
    assert f"tls_server_config.{name}: the text holds no PEM" in line
    assert "zq9" not in run.stderr
    assert "PRIVATE" not in run.stderr


@pytest.mark.root("can become another user")
def test_inline_certificates_without_root() -> None:
    """A user who may not look into /proc of root's processes reads the key as root does."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        authority = make_authority(folder / "ca")
        authority.issue("server")
        (folder / "web.yml").write_text(yaml.safe_dump({"tls_server_config": inline(authority)}))
        flags = ("--web.config.file", str(folder / "web.yml"), "--user", "nobody")
        with agent(*flags, command="demo") as running:
            assert handshakes(running.port, authority.client())


def test_client_allowed_sans(tmp_path: Path, authority: Authority) -> None:
    """Who has a certificate with one of the names is answered, whoever has another is cut off."""
    section = with_clients(tmp_path, authority)
    file = tmp_path / "web.yml"

    def allow(*names: str) -> None:
        file.write_text(yaml.safe_dump({"tls_server_config": section | {"client_allowed_sans": list(names)}}))

    names = {
        "dns": "DNS:prometheus.example",
        "ip": "IP:10.0.0.1",
        "ip6": "IP:2001:db8:0:0:0:0:0:1",
        "mail": "email:scrape@prometheus.example",
        "uri": "URI:spiffe://example/prometheus",
        "other": "DNS:grafana.example",
        "longer": "DNS:prometheus.example.com",
    }
    clients = {name: authority.client(authority.issue(name, names=san)) for name, san in names.items()}
    for client in clients.values():
        client.minimum_version = ssl.TLSVersion.TLSv1_2
    five = ("prometheus.example", "10.0.0.1", "2001:db8::1", "scrape@prometheus.example")
    allow(*five, "spiffe://example/prometheus")
    with agent("--web.config.file", str(file), command="demo") as running:

        def let_in() -> set[str]:
            return {name for name, client in clients.items() if handshakes(running.port, client)}

        assert let_in() == {"dns", "ip", "ip6", "mail", "uri"}
        for client in clients.values():
            client.maximum_version = ssl.TLSVersion.TLSv1_2
        assert let_in() == {"dns", "ip", "ip6", "mail", "uri"}
        assert not handshakes(running.port, authority.client())
        allow("grafana.example")
        wait_for("new rule", lambda: let_in() == {"other"})
        file.write_text(yaml.safe_dump({"tls_server_config": section}))
        assert let_in() == {"other"}
        assert "client_allowed_sans: asks for less" in running.wait_for("not re-read")


def test_names_are_checked_in_resumed_sessions(tmp_path: Path, authority: Authority) -> None:
    """A client that resumes a session has the names that it had, and no others."""
    section = with_clients(tmp_path, authority)
    file = tmp_path / "web.yml"
    file.write_text(yaml.safe_dump({"tls_server_config": section | {"client_allowed_sans": ["localhost"]}}))
    client = authority.client(authority.issue("client"))
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    with agent("--web.config.file", str(file), command="demo") as running:
        session = None
        for resumed in (False, True):
            with (
                socket.create_connection(("127.0.0.1", running.port), 60) as plain,
                client.wrap_socket(plain, server_hostname="127.0.0.1", session=session) as secure,
            ):
                assert secure.session_reused is resumed
                secure.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")
                assert secure.recv(100).startswith(b"HTTP/1.1 200 ")
                session = secure.session


def test_rate_limit(tmp_path: Path) -> None:
    """A burst is answered, then 429 until the time has come, whatever is asked; and it is counted."""
    file = tmp_path / "web.yml"
    hashed = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
    users = f"basic_auth_users: {{alice: {hashed}}}\n"
    file.write_text(users + "rate_limit: {interval: 1h, burst: 5}\n")
    with agent("--web.config.file", str(file), command="demo") as running:
        known = [running.get("/metrics", basic("alice"))[0] for _ in range(2)]
        assert known == [200, 200]
        # A guess costs a token as well: that is what keeps guessers slow.
        assert [running.get("/", basic("mallory"))[0] for _ in range(5)] == [401, 401, 401, 429, 429]
        status, headers, body = running.get("/metrics", basic("alice"))
        assert status == 429
        assert headers["Retry-After"] == "1"
        assert body.startswith("429: ")
        file.write_text(users)  # a change does not take the limit away, nor fill the bucket
        assert running.get("/-/healthy", basic("alice"))[0] == 429
        assert "rate_limit: asks for less" in running.wait_for("not re-read")
        file.write_text(users + "rate_limit: {interval: 1ms, burst: 100}\n")
        status, _, body = running.get(EVERYTHING, basic("alice"))
        assert status == 200
        assert '\ntdx_headroom_http_requests_total{code="429"} 4.0\n' in body


def test_excluded_paths(tmp_path: Path) -> None:
    """These need no password; every other does, however like them it is, and no change makes them more."""
    file = tmp_path / "web.yml"
    hashed = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
    text = f"basic_auth_users: {{alice: {hashed}}}\nbasic_auth_excluded_paths: [/-/healthy, /none]\n"
    file.write_text(text)
    with agent("--web.config.file", str(file), command="demo") as running:
        assert running.get("/-/healthy")[0] == 200
        assert running.get("/-/healthy?x=1")[0] == 200
        assert running.get("/-/healthy", basic("mallory"))[0] == 200
        assert running.get("/none")[0] == 404
        for path in (
            "/",
            "/metrics",
            "/-/ready",
            "/-/healthy/",
            "/-/Healthy",
            "/-/healthy/../../metrics",
            "//",
        ):
            assert running.get(path)[0] == 401, path
        file.write_text(text.replace("/none", "/metrics"))
        assert running.get("/metrics")[0] == 401
        assert "basic_auth_excluded_paths: asks for less" in running.wait_for("not re-read")
        file.write_text(text.replace("/-/healthy, /none", "/none"))
        assert running.get("/-/healthy")[0] == 401


def test_suites_of_tls12(tmp_path: Path, authority: Authority) -> None:
    """By default there is none with CBC; the server's order counts, or the client's."""
    file = tmp_path / "web.yml"
    aes128, aes256 = "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384"
    go = ["TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"]

    def client(suites: str) -> ssl.SSLContext:
        context = authority.client()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(suites)
        return context

    def chosen(suites: str) -> str:
        with (
            socket.create_connection(("127.0.0.1", running.port), 60) as plain,
            client(suites).wrap_socket(plain, server_hostname="127.0.0.1") as secure,
        ):
            found = secure.cipher()
            assert found is not None
            return found[0]

    def write(**more: object) -> None:
        file.write_text(yaml.safe_dump({"tls_server_config": inline(authority) | more}))

    write()
    with agent("--web.config.file", str(file), command="demo") as running:
        for suite in client("ALL:@SECLEVEL=0").get_ciphers():
            name = suite["name"]
            if suite["protocol"] == "TLSv1.3" or "ECDSA" not in name:
                continue
            good = name.endswith(("-AES128-GCM-SHA256", "-AES256-GCM-SHA384", "-CHACHA20-POLY1305"))
            assert handshakes(running.port, client(f"{name}:@SECLEVEL=0")) is good, name
        write(cipher_suites=go)
        assert chosen(f"{aes128}:{aes256}") == aes256
        write(cipher_suites=go, prefer_server_cipher_suites=False)
        assert chosen(f"{aes128}:{aes256}") == aes128
        write(cipher_suites=["TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA"])
        assert chosen("ECDHE-ECDSA-AES128-SHA") == "ECDHE-ECDSA-AES128-SHA"
        assert get(running.port, authority.client(), "/-/healthy")[0] == 200
