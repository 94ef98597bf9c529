# SPDX-License-Identifier: Apache-2.0
"""The web configuration file: what it may say, and what is said about what it may not."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import pytest

from tdx_headroom.errors import AgentError
from tdx_headroom.web.config import ConfigError, WebConfig, parse, read_file
from tdx_headroom.web.watch import ConfigWatch

CHECKOUT = Path(__file__).resolve().parents[2]
HASH = "$2y$10$" + "a" * 53
TLS = "tls_server_config: {cert_file: c.pem, key_file: k.pem"

GOOD = f"""\
tls_server_config:
  cert_file: server.pem
  key_file: /etc/keys/server.key
  client_ca_file: ca.pem
  client_auth_type: RequireAndVerifyClientCert
  min_version: TLS13
  max_version: TLS13
  cipher_suites: [TLS_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384]
http_server_config:
  http2: true
  headers:
    Strict-Transport-Security: max-age=63072000
    X-Frame-Options: sameorigin
    X-XSS-Protection: ''
basic_auth_users:
  alice: {HASH}
  'bob smith': {HASH.replace("2y", "2b")}
"""


def test_a_whole_file(tmp_path: Path) -> None:
    """Every key that is known is read; relative paths are relative to the file."""
    config = parse(GOOD.encode(), tmp_path)
    assert config.tls is not None
    assert config.tls.cert_file == tmp_path / "server.pem"
    assert str(config.tls.key_file) == "/etc/keys/server.key"
    assert config.tls.client_ca_file == tmp_path / "ca.pem"
    assert config.tls.client_auth is ssl.CERT_REQUIRED
    assert config.tls.min_version is config.tls.max_version is ssl.TLSVersion.TLSv1_3
    assert config.tls.ciphers == "ECDHE-RSA-AES256-GCM-SHA384"
    assert config.headers == (
        ("Strict-Transport-Security", "max-age=63072000"),
        ("X-Frame-Options", "sameorigin"),
    )
    assert dict(config.users) == {
        b"alice": HASH.encode(),
        b"bob smith": HASH.replace("2y", "2b").encode(),
    }


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "tls_server_config:\nbasic_auth_users: {}\nhttp_server_config:\n"]
)
def test_nothing_is_plain_http(text: str, tmp_path: Path) -> None:
    """An empty file, and empty sections, ask for nothing."""
    assert parse(text.encode(), tmp_path) == WebConfig()


def test_defaults(tmp_path: Path) -> None:
    """TLS 1.2 is the least, and clients need no certificate."""
    tls = parse(f"{TLS}}}".encode(), tmp_path).tls
    assert tls is not None
    assert tls.min_version is ssl.TLSVersion.TLSv1_2
    assert tls.client_auth is ssl.CERT_NONE


@pytest.mark.parametrize(
    ("text", "key", "reason"),
    [
        ("tls_config: {}", "tls_config", "unknown key"),
        ("rate_limit: {burst: 1}", "rate_limit", "unknown key"),
        ("[1, 2]", "", "must be keys with values"),
        ("1: 2", "1", "a key must be text"),
        ("tls_server_config: yes", "tls_server_config", "must be keys"),
        ("tls_server_config: {key_file: k}", "tls_server_config.cert_file", "missing"),
        ("tls_server_config: {cert_file: c}", "tls_server_config.key_file", "missing"),
        ("tls_server_config: {cert_file: [c]}", "tls_server_config.cert_file", "must be a path"),
        ("tls_server_config: {cert: PEM}", "tls_server_config.cert", "use cert_file"),
        (f"{TLS}, certfile: c}}", "tls_server_config.certfile", "unknown key"),
        (f"{TLS}, client_allowed_sans: [x]}}", "tls_server_config.client_allowed_sans", "not supported"),
        (f"{TLS}, min_version: TLS11}}", "tls_server_config.min_version", "must be one of TLS12, TLS13"),
        (f"{TLS}, min_version: 1.2}}", "tls_server_config.min_version", "must be one of"),
        (f"{TLS}, min_version: TLS13, max_version: TLS12}}", "tls_server_config.max_version", "below"),
        (f"{TLS}, client_auth_type: Always}}", "tls_server_config.client_auth_type", "must be one of"),
        (f"{TLS}, client_auth_type: RequestClientCert}}", "tls_server_config.client_auth_type", "verifying"),
        (f"{TLS}, client_auth_type: RequireAnyClientCert}}", "tls_server_config.client_auth_type", "verify"),
        (f"{TLS}, client_ca_file: c}}", "tls_server_config.client_auth_type", "does not verify"),
        (
            f"{TLS}, client_auth_type: RequireAndVerifyClientCert}}",
            "tls_server_config.client_ca_file",
            "missing",
        ),
        (f"{TLS}, cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]}}", "tls_server_config.cipher_suites", "only"),
        (f"{TLS}, cipher_suites: x}}", "tls_server_config.cipher_suites", "must be a list"),
        ("http_server_config: {http2: 1}", "http_server_config.http2", "must be true or false"),
        ("http_server_config: {header: {}}", "http_server_config.header", "unknown key"),
        ("http_server_config: {headers: {Server: x}}", "http_server_config.headers.Server", "unknown key"),
        (
            "http_server_config: {headers: {X-Frame-Options: allow}}",
            "http_server_config.headers.X-Frame-Options",
            "must be deny or sameorigin",
        ),
        (
            'http_server_config: {headers: {X-XSS-Protection: "1\\r\\nX: y"}}',
            "http_server_config.headers.X-XSS-Protection",
            "on one line",
        ),
        ("basic_auth_users: {alice: secret}", "basic_auth_users.alice", "not a bcrypt hash"),
        ("basic_auth_users: {alice: 5}", "basic_auth_users.alice", "not a bcrypt hash"),
        ("basic_auth_users: {alice: }", "basic_auth_users.alice", "not a bcrypt hash"),
        (f"basic_auth_users: {{alice: {HASH}x}}", "basic_auth_users.alice", "not a bcrypt hash"),
        (f"basic_auth_users: {{alice: $2y$31${'a' * 53}}}", "basic_auth_users.alice", "cost"),
        (f"basic_auth_users: {{'a:b': {HASH}}}", "basic_auth_users.a:b", "colon"),
        (f'basic_auth_users: {{"\\ud800": {HASH}}}', "basic_auth_users.\\xd800", "no character"),
        (f"basic_auth_users: {{5: {HASH}}}", "basic_auth_users.5", "must be text"),
        ("basic_auth_users: {}\nbasic_auth_users: {}", "basic_auth_users", "twice (line 2)"),
        (f"basic_auth_users: {{bob: {HASH}, bob: {HASH}}}", "bob", "twice"),
        ("a: [", "", "line 1: not YAML"),
        ("a: 'x\n", "", "not YAML"),
        ("\t- a", "", "not YAML"),
        ("a: &x [*x, *y]", "", "not YAML"),
        ("a: 2001-99-99", "", "not YAML"),
        ("? [a, b]\n: c", "", "not YAML"),
        ("!!python/object/apply:os.system [id]", "", "not YAML"),
        ("[" * 400, "", "not YAML"),
        ("a: \x01", "", "not YAML"),
    ],
)
def test_what_is_wrong_is_named(text: str, key: str, reason: str, tmp_path: Path) -> None:
    """Whatever cannot be used is an error of one line that begins with its key."""
    with pytest.raises(ConfigError) as caught:
        parse(text.encode(), tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{key}: " if key else ""), message
    assert reason in message
    assert message.isprintable()
    assert caught.value.status == os.EX_CONFIG


@pytest.mark.parametrize(
    "text",
    [
        "basic_auth_users: {alice: hunter2}",
        "basic_auth_users:\n  alice: 'hunter2\n",
        "basic_auth_users:\n  alice: hunter2: x\n",
        "basic_auth_users:\n  alice: *hunter2\n",
        "basic_auth_users: {alice: !hunter2 x}",
    ],
)
def test_no_error_shows_a_secret(text: str, tmp_path: Path) -> None:
    """A value never shows in an error: it may be a password that was meant to be a hash."""
    with pytest.raises(ConfigError) as caught:
        parse(text.encode(), tmp_path)
    assert "hunter2" not in str(caught.value)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    """A file that is not UTF-8 is an error, not a traceback."""
    with pytest.raises(ConfigError, match="not YAML"):
        parse(b"\xff\xfe\xff", tmp_path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file, a directory, a FIFO, an endless device and a huge file are errors that name the key."""
    os.mkfifo(tmp_path / "fifo")
    with (tmp_path / "huge").open("wb") as huge:
        huge.truncate(2 << 20)
    for path, reason in (
        (tmp_path / "missing", "No such file"),
        (tmp_path, "no regular file"),
        (tmp_path / "fifo", "no regular file"),
        (tmp_path / "huge", "larger than 1 MiB"),
        (tmp_path / "a\0b", "null"),
    ):
        with pytest.raises(ConfigError, match=reason) as caught:
            read_file("tls_server_config.cert_file", path)
        assert str(caught.value).startswith("tls_server_config.cert_file: ")


@pytest.mark.parametrize("name", ["\\0", "\\ud800"])
def test_a_path_that_no_file_can_have(name: str, tmp_path: Path) -> None:
    """An error that names the key, at the start and after a change: counted, and the last one stays."""
    path = tmp_path / "web.yml"
    path.write_text("http_server_config: {headers: {X-Frame-Options: sameorigin}}")
    watch = ConfigWatch(path)
    path.write_text(f'tls_server_config: {{cert_file: "{name}", key_file: k}}')
    with pytest.raises(AgentError, match=r"tls_server_config\.cert_file: "):
        ConfigWatch(path)
    for _ in range(2):
        assert watch.current().config.headers == (("X-Frame-Options", "sameorigin"),)
        assert (watch.failing, watch.failures) == (True, 1)
    watch.close()


def test_the_examples_are_good() -> None:
    """The packaged example and the one in the documentation are configurations without a fault."""
    packaged = parse((CHECKOUT / "packaging/examples/web-config.yml").read_bytes(), CHECKOUT)
    assert packaged.tls is not None
    page = (CHECKOUT / "docs/web-config.md").read_text("utf-8")
    shown = parse(page.partition("```yaml\n")[2].partition("```")[0].encode(), CHECKOUT)
    assert shown.tls is not None
    assert shown.users
