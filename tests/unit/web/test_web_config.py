# SPDX-License-Identifier: Apache-2.0
"""The web configuration file: what it may say, and what is said about what it may not."""

from __future__ import annotations

import os
import resource
import ssl
from pathlib import Path

import pytest

from tdx_headroom.errors import AgentError
from tdx_headroom.web.config import WebConfig, parse
from tdx_headroom.web.config_reload import ConfigWatch
from tdx_headroom.web.config_yaml import ConfigError, read_file
from tdx_headroom.web.rate_limit import Bucket, RateLimit

CHECKOUT = Path(__file__).resolve().parents[3]
HASH = "$2y$10$" + "a" * 53
TLS = "tls_server_config: {cert_file: c.pem, key_file: k.pem"

GOOD = f"""\
tls_server_config:
  cert_file: server.pem
  key_file: /etc/keys/server.key
  client_ca_file: ca.pem
  client_auth_type: RequireAndVerifyClientCert
  client_allowed_sans: [prometheus.example, 10.0.0.1]
  prefer_server_cipher_suites: off
  curve_preferences: [CurveP384]
  min_version: TLS13
  max_version: TLS13
  cipher_suites: [TLS_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384]
http_server_config:
  http2: true
  headers:
    Strict-Transport-Security: max-age=63072000
    X-Frame-Options: sameorigin
    X-XSS-Protection: 0
    Content-Security-Policy: ''
rate_limit:
  interval: 1m0.5s
  burst: 20
basic_auth_excluded_paths: [/-/healthy]
basic_auth_users:
  alice: {HASH}
  'bob smith': {HASH.replace("2y", "2b")}
  0x10: {HASH}
  5: {HASH.replace("2y", "2x")}
  yes: {HASH.replace("2y", "2")}
  2001-01-01: {HASH.replace("2y", "2a")}
"""


def test_a_whole_file(tmp_path: Path) -> None:
    """Every key that is known is read; relative paths are relative to the file."""
    config = parse(GOOD.encode(), tmp_path)
    assert config.tls is not None
    assert config.tls.cert.path == tmp_path / "server.pem"
    assert str(config.tls.key.path) == "/etc/keys/server.key"
    assert config.tls.client_ca is not None
    assert config.tls.files() == (tmp_path / "server.pem", Path("/etc/keys/server.key"), tmp_path / "ca.pem")
    assert config.tls.client_names == frozenset({"prometheus.example", "10.0.0.1"})
    assert config.tls.server_order is False
    assert config.tls.curve == "secp384r1"
    assert config.tls.client_auth is ssl.CERT_REQUIRED
    assert config.tls.min_version is config.tls.max_version is ssl.TLSVersion.TLSv1_3
    assert config.tls.ciphers == "ECDHE-RSA-AES256-GCM-SHA384"
    assert config.headers == (
        ("Strict-Transport-Security", "max-age=63072000"),
        ("X-Frame-Options", "sameorigin"),
        ("X-XSS-Protection", "0"),
    )
    assert config.rate_limit == RateLimit(60.5, 20)
    assert config.open_paths == {"/-/healthy"}
    assert dict(config.users) == {
        b"alice": HASH.encode(),
        b"bob smith": HASH.replace("2y", "2b").encode(),
        b"0x10": HASH.encode(),
        b"5": HASH.replace("2y", "2b").encode(),
        b"yes": HASH.replace("2y", "2b").encode(),
        b"2001-01-01": HASH.replace("2y", "2a").encode(),
    }


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "tls_server_config:\nbasic_auth_users: {}\nhttp_server_config:\n"]
)
def test_nothing_is_plain_http(text: str, tmp_path: Path) -> None:
    """An empty file, and empty sections, ask for nothing."""
    assert parse(text.encode(), tmp_path) == WebConfig()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", None),
        ("0s", None),
        ("1s", 1),
        ("250ms", 0.25),
        ("1h2m3.5s", 3723.5),
        (".5s", 0.5),
        ("2us", 2e-6),
    ],
)
def test_durations(text: str, seconds: float | None, tmp_path: Path) -> None:
    """An interval is in Go's notation; none is no limit."""
    limit = parse(f"rate_limit: {{interval: {text}, burst: 1}}".encode(), tmp_path).rate_limit
    assert (None if limit is None else limit.interval) == (
        None if seconds is None else pytest.approx(seconds)
    )


def test_the_bucket() -> None:
    """It is full at first, gets a token in every interval, and never has room for more than its burst."""
    now = [0.0]
    bucket = Bucket(RateLimit(2, 3), lambda: now[0])
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]
    now[0] = 1.9
    assert not bucket.take()
    now[0] = 2.0
    assert [bucket.take() for _ in range(2)] == [True, False]
    now[0] = 100.0
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]


def test_words_for_yes_and_no(tmp_path: Path) -> None:
    """Those of YAML 1.1, with one letter too."""
    for word, value in (("y", True), ("Yes", True), ("ON", True), ("n", False), ("False", False), ("", True)):
        tls = parse(f"{TLS}, prefer_server_cipher_suites: {word}}}".encode(), tmp_path).tls
        assert tls is not None
        assert tls.server_order is value


def test_suites_of_tls13_only(tmp_path: Path) -> None:
    """A list without a suite for TLS 1.2 leaves TLS 1.3."""
    tls = parse(f"{TLS}, cipher_suites: [TLS_AES_128_GCM_SHA256]}}".encode(), tmp_path).tls
    assert tls is not None
    assert tls.min_version is ssl.TLSVersion.TLSv1_3
    assert tls.ciphers is None


def test_a_section_of_nothing(tmp_path: Path) -> None:
    """Keys that have no value ask for nothing."""
    assert parse(b"tls_server_config: {cert_file: , key_file: }", tmp_path).tls is None


def test_sections_may_be_shared(tmp_path: Path) -> None:
    """An anchor's keys can be merged in, and overridden."""
    merged = parse(
        b"http_server_config: {headers: {<<: {X-Frame-Options: deny}, X-Frame-Options: sameorigin}}", tmp_path
    )
    assert merged.headers == (("X-Frame-Options", "sameorigin"),)


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
        ("rate_limit: {bursts: 1}", "rate_limit.bursts", "unknown key"),
        ("rate_limit: {interval: 1s}", "rate_limit.burst", "1 or more"),
        ("rate_limit: {interval: 1s, burst: many}", "rate_limit.burst", "a whole number"),
        ("rate_limit: {interval: 1s, burst: -1}", "rate_limit.burst", "a whole number"),
        ("rate_limit: {interval: 1, burst: 1}", "rate_limit.interval", "with its unit"),
        ("rate_limit: {interval: -1s, burst: 1}", "rate_limit.interval", "with its unit"),
        ("rate_limit: {interval: soon, burst: 1}", "rate_limit.interval", "with its unit"),
        ("basic_auth_excluded_paths: /metrics", "basic_auth_excluded_paths", "a list"),
        ("basic_auth_excluded_paths: [metrics]", "basic_auth_excluded_paths", "begins with /"),
        ("basic_auth_excluded_paths: [~]", "basic_auth_excluded_paths", "nothing in it"),
        ("[1, 2]", "", "must be keys with values"),
        ("1: 2", "1", "unknown key"),
        ("tls_server_config: yes", "tls_server_config", "must be keys"),
        ("tls_server_config: {key_file: k}", "tls_server_config.cert_file", "missing"),
        ("tls_server_config: {cert_file: c}", "tls_server_config.key_file", "missing"),
        ("tls_server_config: {cert_file: [c]}", "tls_server_config.cert_file", "must be a path"),
        ("tls_server_config: {cert: PEM}", "tls_server_config.key_file", "missing"),
        ("tls_server_config: {min_version: TLS13}", "tls_server_config.cert_file", "missing"),
        (f"{TLS}, cert: PEM}}", "tls_server_config.cert", "only one of them"),
        (f"{TLS}, client_ca: x, client_ca_file: y}}", "tls_server_config.client_ca", "only one of them"),
        (f"{TLS}, curve_preferences: [P-256]}}", "tls_server_config.curve_preferences", "must be of X25519"),
        (f"{TLS}, curve_preferences: [X25519, CurveP256]}}", "tls_server_config.curve_preferences", "or all"),
        (f"{TLS}, prefer_server_cipher_suites: 1}}", "tls_server_config.prefer_server_cipher_suites", "true"),
        (f"{TLS}, client_allowed_sans: []}}", "tls_server_config.client_allowed_sans", "nobody"),
        (f"{TLS}, max_version: TLS10}}", "tls_server_config.max_version", "TLS 1.0 and 1.1"),
        (f"{TLS}, min_version: ''}}", "tls_server_config.min_version", "must be one of"),
        (
            f"{TLS}, cipher_suites: [TLS_RSA_WITH_AES_128_GCM_SHA256]}}",
            "tls_server_config.cipher_suites",
            "secrecy",
        ),
        (
            f"{TLS}, cipher_suites: [TLS_AES_128_GCM_SHA256], max_version: TLS12}}",
            "tls_server_config.cipher_suites",
            "only suites of TLS 1.3",
        ),
        (f"{TLS}, certfile: c}}", "tls_server_config.certfile", "unknown key"),
        (f"{TLS}, client_allowed_sans: [x]}}", "tls_server_config.client_allowed_sans", "RequireAnd"),
        (f"{TLS}, min_version: TLS11}}", "tls_server_config.min_version", "RFC 8996"),
        (f"{TLS}, min_version: 1.2}}", "tls_server_config.min_version", "must be one of"),
        (f"{TLS}, min_version: TLS13, max_version: TLS12}}", "tls_server_config.max_version", "below"),
        (f"{TLS}, client_auth_type: Always}}", "tls_server_config.client_auth_type", "must be one of"),
        (
            f"{TLS}, client_auth_type: RequireAnyClientCert}}",
            "tls_server_config.client_auth_type",
            "without verifying",
        ),
        (f"{TLS}, client_ca_file: c}}", "tls_server_config.client_auth_type", "does not ask"),
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
        (f"basic_auth_users: {{alice: $2z$10${'a' * 53}}}", "basic_auth_users.alice", "not a bcrypt hash"),
        ("basic_auth_users: {}\nbasic_auth_users: {}", "basic_auth_users", "twice (line 2)"),
        (f"basic_auth_users: {{bob: {HASH}, bob: {HASH}}}", "bob", "twice"),
        ("a: [", "", "line 1: not YAML: it ends inside a bracket or a quote, or where a value is expected"),
        ("a: {b: 1", "", "line 1: not YAML: it ends inside a bracket"),
        ("a: 'x\n", "", "not YAML: it ends inside a bracket or a quote"),
        ("a:\n\tb: c", "", "line 2: not YAML: a tab cannot indent"),
        ("\t- a", "", "line 1: not YAML: a tab cannot indent"),
        ("a: `x", "", "not YAML: a value cannot begin with this character"),
        ("a:\n  b: 1\n c: 2", "", "line 3: not YAML: this line belongs to nothing above it"),
        ("a\nb: 1", "", "line 2: not YAML: a colon stands where no key is"),
        ("a: }", "", "line 1: not YAML: a value is expected"),
        ("a: &", "", "line 1: not YAML: it cannot be read"),
        ("a: &x [*x, *y]", "", "not YAML: an alias has no anchor"),
        ("a: 2001-99-99", "a", "unknown key"),
        ("a: !!map b", "", "not YAML"),
        ("a: !!int [1]", "", "not YAML"),
        ("a: !!bool {b: c}", "", "not YAML"),
        ("a: 1\n---\nb: 2\n", "", "line 2: not YAML: there is a second document in it"),
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
        "tls_server_config: {cert: hunter2, key: {hunter2: 1}}",
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


def test_a_failure_that_passes(tmp_path: Path) -> None:
    """A change that could not be read for want of a descriptor is read a minute later all the same."""
    path = tmp_path / "web.yml"
    path.write_text("http_server_config: {headers: {X-Frame-Options: sameorigin}}")
    now = [0.0]
    watch = ConfigWatch(path, lambda: now[0])
    path.write_text("http_server_config: {headers: {X-Frame-Options: deny}}")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        assert watch.current().config.headers == (("X-Frame-Options", "sameorigin"),)
        now[0] = 100.0
        assert watch.current().config.headers == (("X-Frame-Options", "sameorigin"),)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (watch.failing, watch.failures) == (True, 1)
    assert watch.current().config.headers == (("X-Frame-Options", "sameorigin"),)
    now[0] = 200.0
    assert watch.current().config.headers == (("X-Frame-Options", "deny"),)
    assert (watch.failing, watch.failures) == (False, 1)
    watch.close()


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
