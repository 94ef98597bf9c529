# SPDX-License-Identifier: Apache-2.0
"""The same web configuration files for the agent and for the real node_exporter: who is let in is the same.

Debian 12's node_exporter (exporter-toolkit 0.8) knows neither inline certificates nor ``client_allowed_sans``
nor ``rate_limit``: what the agent makes of these is in test_web_keys.py.
"""

from __future__ import annotations

import http.client
import shutil
import ssl
import subprocess
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import bcrypt
import pytest

from tests.integration import forked
from tests.integration.agent import SECONDS, basic, scrape_status
from tests.integration.certificates import Authority, make_authority
from tests.integration.servers import wait_for
from tests.integration.test_web_config import KEEP_ROOT
from tests.tools.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.program("openssl"), pytest.mark.program("prometheus-node-exporter")]

PAIR = "cert_file: server.pem, key_file: server.key"
HASH = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
ECDSA = "TLS_ECDHE_ECDSA_WITH_"
SAFE = f"{ECDSA}AES_128_GCM_SHA256, {ECDSA}AES_256_GCM_SHA384"


def tls(more: str = "") -> str:
    return f"tls_server_config: {{{PAIR}{', ' if more else ''}{more}}}\n"


def users(*names: str, hashed: str = HASH) -> str:
    return "basic_auth_users:\n" + "".join(f"  {name}: {hashed}\n" for name in names)


def kind(letter: str) -> str:
    """The hash as another program writes it."""
    return HASH.replace("$2b$", f"$2{letter}$")


def header(name: str, value: str) -> str:
    return f"http_server_config: {{headers: {{{name}: {value}}}}}\n"


def verify(how: str) -> str:
    return tls(f"client_auth_type: {how}, client_ca_file: ca.pem")


SAME = {
    "empty": "",
    "only comments": "# nothing\n",
    "braces": "{}\n",
    "null": "~\n",
    "three dashes": "---\n",
    "empty sections": "tls_server_config:\nhttp_server_config:\nbasic_auth_users:\n",
    "empty maps": "tls_server_config: {}\nhttp_server_config: {}\nbasic_auth_users: {}\n",
    "TLS": tls(),
    "TLS in blocks": "tls_server_config:\n  cert_file: server.pem\n  key_file: 'server.key'\n",
    "certificate and key in one file": "tls_server_config: {cert_file: both.pem, key_file: both.pem}\n",
    "keys without values": "tls_server_config: {cert_file: , key_file: }\n",
    "an absolute path": "tls_server_config: {cert_file: {folder}/server.pem, key_file: server.key}\n",
    "a list": "- 1\n",
    "a word": "yes\n",
    "no YAML": "a: [\n",
    "tabs": "\ta: b\n",
    "an unknown section": "tls_config: {}\n",
    "an unknown key": tls("certfile: x"),
    "a key twice": tls() + tls(),
    "a user twice": users("alice", "alice"),
    "no key": "tls_server_config: {cert_file: server.pem}\n",
    "no certificate": "tls_server_config: {key_file: server.key}\n",
    "no file": "tls_server_config: {cert_file: none.pem, key_file: server.key}\n",
    "an empty file": "tls_server_config: {cert_file: empty.pem, key_file: server.key}\n",
    "a key that does not match": "tls_server_config: {cert_file: server.pem, key_file: client.key}\n",
    "a key for a certificate": "tls_server_config: {cert_file: server.key, key_file: server.key}\n",
    "only client_auth_type": "tls_server_config: {client_auth_type: RequireAndVerifyClientCert}\n",
    "min_version TLS12": tls("min_version: TLS12"),
    "min_version TLS13": tls("min_version: TLS13"),
    "max_version TLS12": tls("max_version: TLS12"),
    "max_version TLS13": tls("max_version: TLS13"),
    "an unknown version": tls("min_version: TLS14"),
    "a version that is a number": tls("min_version: 1.2"),
    "a version of nothing": tls("min_version: ''"),
    "a version without value": tls("min_version: "),
    "no client certificates": tls("client_auth_type: NoClientCert"),
    "an empty client_auth_type": tls("client_auth_type: ''"),
    "RequestClientCert": tls("client_auth_type: RequestClientCert"),
    "RequestClientCert with authorities": verify("RequestClientCert"),
    "VerifyClientCertIfGiven": verify("VerifyClientCertIfGiven"),
    "RequireAndVerifyClientCert": verify("RequireAndVerifyClientCert"),
    "another authority": tls("client_auth_type: RequireAndVerifyClientCert, client_ca_file: other.pem"),
    "two authorities": tls("client_auth_type: RequireAndVerifyClientCert, client_ca_file: two.pem"),
    "an intermediate authority": tls(
        "client_auth_type: RequireAndVerifyClientCert, client_ca_file: middle.pem"
    ),
    "a client's own certificate": tls(
        "client_auth_type: RequireAndVerifyClientCert, client_ca_file: self.pem"
    ),
    "the system's authorities": tls("client_auth_type: RequireAndVerifyClientCert"),
    "the system's authorities if given": tls("client_auth_type: VerifyClientCertIfGiven"),
    "an unknown client_auth_type": tls("client_auth_type: Always"),
    "authorities for nothing": tls("client_ca_file: ca.pem"),
    "authorities that are not there": tls(
        "client_auth_type: RequireAndVerifyClientCert, client_ca_file: no.pem"
    ),
    "two suites": tls(f"cipher_suites: [{SAFE}]"),
    "one suite": tls(f"cipher_suites: [{ECDSA}AES_128_GCM_SHA256]"),
    "a suite with CBC": tls(f"cipher_suites: [{ECDSA}AES_128_CBC_SHA]")
    + "http_server_config: {http2: false}\n",
    "suites of another key": tls("cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]"),
    "suites of TLS 1.3": tls("cipher_suites: [TLS_AES_128_GCM_SHA256]")
    + "http_server_config: {http2: false}\n",
    "no suites": tls("cipher_suites: []"),
    "an unknown suite": tls("cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]"),
    "a suite that is no list": tls("cipher_suites: {a: b}"),
    "the server's order": tls("prefer_server_cipher_suites: true"),
    "the client's order": tls("prefer_server_cipher_suites: no"),
    "an order that is no word": tls("prefer_server_cipher_suites: 5"),
    "P-256": tls("curve_preferences: [CurveP256]"),
    "P-384": tls("curve_preferences: [CurveP384]"),
    "P-521": tls("curve_preferences: [CurveP521]"),
    "X25519": tls("curve_preferences: [X25519]"),
    "all curves": tls("curve_preferences: [CurveP256, CurveP384, CurveP521, X25519]"),
    "no curves": tls("curve_preferences: []"),
    "an unknown curve": tls("curve_preferences: [P-256]"),
    "http2 on": tls() + "http_server_config: {http2: true}\n",
    "http2 off": tls() + "http_server_config: {http2: off}\n",
    "http2 of a letter": "http_server_config: {http2: y}\n",
    "http2 of a number": "http_server_config: {http2: 1}\n",
    "a header": header("X-Frame-Options", "deny"),
    "all headers": "http_server_config:\n  headers:\n    X-Frame-Options: sameorigin\n"
    "    X-Content-Type-Options: nosniff\n    X-XSS-Protection: 1; mode=block\n"
    "    Strict-Transport-Security: max-age=5\n"
    "    Content-Security-Policy: default-src 'self'\n",
    "a header that is a number": header("X-XSS-Protection", "0"),
    "a header of another value": header("X-Frame-Options", "allow"),
    "an unknown header": header("Server", "x"),
    "passwords": users("alice"),
    "passwords over TLS": tls() + users("alice"),
    "passwords and client certificates": verify("RequireAndVerifyClientCert") + users("alice"),
    "two users": users("alice", "bob"),
    "another user": users("bob"),
    "a user of digits": users("5"),
    "a user of hexadecimal digits": users("0x10"),
    "a user of a date": users("2001-01-01"),
    "a user called yes": users("yes"),
    "a user of nothing": users("''"),
    "a hash of $2a$": users("alice", hashed=kind("a")),
    "a hash of $2y$": users("alice", hashed=kind("y")),
    "a hash of $2x$": users("alice", hashed=kind("x")),
    "a hash of $2$": users("alice", hashed=kind("")),
    "a hash for another password": users("alice", hashed=bcrypt.hashpw(b"x", bcrypt.gensalt(4)).decode()),
    "a password for a hash": users("alice", hashed="secret"),
    "half a hash": users("alice", hashed=HASH[:40]),
    "a number for a hash": users("alice", hashed="5"),
    "no hash": users("alice", hashed=""),
    "a cost below 4": users("alice", hashed=HASH.replace("$04$", "$03$")),
    "users that are a list": "basic_auth_users: [alice]\n",
    "users merged in": f"basic_auth_users: {{<<: {{alice: '{HASH}'}}}}\n",
}
"""Files that both take, to the same effect, or both refuse."""

STRICTER = {
    "min_version TLS10": (tls("min_version: TLS10"), "RFC 8996"),
    "min_version TLS11": (tls("min_version: TLS11"), "RFC 8996"),
    "max_version TLS11": (tls("min_version: TLS10, max_version: TLS11"), "RFC 8996"),
    "versions that exclude each other": (tls("min_version: TLS13, max_version: TLS12"), "below min_version"),
    "no forward secrecy": (tls(f"cipher_suites: [{SAFE}, TLS_RSA_WITH_AES_128_GCM_SHA256]"), "secrecy"),
    "two curves": (tls("curve_preferences: [CurveP256, X25519]"), "one curve or all"),
    "RequireAnyClientCert": (tls("client_auth_type: RequireAnyClientCert"), "Python's ssl"),
    "RequireClientCert": (tls("client_auth_type: RequireClientCert"), "Python's ssl"),
    "authorities without one": (
        tls("client_auth_type: RequireAndVerifyClientCert, client_ca_file: empty.pem"),
        "no PEM",
    ),
    "only min_version": ("tls_server_config: {min_version: TLS13}\n", "cert_file: missing"),
    "a cost of 17": (users("alice", hashed=HASH.replace("$04$", "$17$")), "cost must be"),
    "a hash that is too long": (users("alice", hashed=HASH + "x"), "not a bcrypt hash"),
    "a hash of $2z$": (users("alice", hashed=kind("z")), "not a bcrypt hash"),
    "a colon in a name": (users("'a:b'"), "colon"),
    "a header on two lines": (header("X-XSS-Protection", '"1\\nX: y"'), "one line"),
    "two documents": ("---\n{}\n---\n" + tls(), "a second document"),
}
"""Files that node_exporter takes and the agent refuses, and what its error says."""

LAXER = {
    "a header without value": header("X-Frame-Options", "''"),
    "a header in capitals": header("X-Frame-Options", "DENY"),
    "a suite that HTTP/2 does not allow": tls(f"cipher_suites: [{ECDSA}AES_256_GCM_SHA384]"),
}
"""Files that only the agent takes."""


class Process(Protocol):
    """What of a process is needed here."""

    def is_alive(self) -> bool: ...
    def kill(self) -> None: ...


@dataclass(frozen=True)
class Folder:
    """Where the files are that configurations name, and who asks."""

    path: Path
    clients: dict[str, ssl.SSLContext | None]


def restricted(context: ssl.SSLContext, *, curve: str = "", suites: str = "") -> ssl.SSLContext:
    """A client of TLS 1.2 with this curve and these suites only."""
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    if curve:
        context.set_ecdh_curve(curve)
    if suites:
        context.set_ciphers(suites)
    return context


def has_curve(name: str) -> bool:
    """Whether this Python can offer one curve alone: X25519 not in Debian 12's 3.11.2."""
    try:
        ssl.create_default_context().set_ecdh_curve(name)
    except (ssl.SSLError, ValueError):
        return False
    return True


def middle_authority(root: Authority, folder: Path) -> Authority:
    """An authority that another one has signed."""
    made = make_authority(folder)
    extensions = folder / "middle.ext"
    extensions.write_text(
        "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n"
        "authorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n"
    )
    for words in (
        ("req", "-new", "-key", "ca.key", "-out", "ca.csr", "-subj", "/CN=middle"),
        (
            *("x509", "-req", "-in", "ca.csr", "-out", "ca.pem", "-days", "2", "-extfile", str(extensions)),
            *("-CA", str(root.certificate), "-CAkey", str(root.folder / "ca.key"), "-CAcreateserial"),
        ),
    ):
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    path = tmp_path_factory.mktemp("parity")
    authority = make_authority(path / "ca")
    other = make_authority(path / "other")
    middle = middle_authority(other, path / "middle")
    for name in ("server", "client"):
        authority.issue(name, folder=path)
    shutil.copy(authority.certificate, path / "ca.pem")
    shutil.copy(other.certificate, path / "other.pem")
    shutil.copy(middle.certificate, path / "middle.pem")
    (path / "two.pem").write_bytes(other.certificate.read_bytes() + authority.certificate.read_bytes())
    (path / "both.pem").write_bytes((path / "server.key").read_bytes() + (path / "server.pem").read_bytes())
    (path / "empty.pem").touch()
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-keyout", "self.key", "-out", "self.pem", "-subj", "/CN=self", "-days", "2"),
        ],
        cwd=path,
        check=True,
        capture_output=True,
    )
    new = authority.client()
    new.minimum_version = ssl.TLSVersion.TLSv1_3
    return Folder(
        path,
        {
            "plain HTTP": None,
            "TLS": authority.client(),
            "TLS 1.3": new,
            "TLS 1.2": restricted(authority.client()),
            "its certificate": authority.client((path / "client.pem", path / "client.key")),
            "another's certificate": authority.client(other.issue("client")),
            "an intermediate's certificate": authority.client(middle.issue("client")),
            "its own certificate": authority.client((path / "self.pem", path / "self.key")),
            "CBC": restricted(authority.client(), suites="ECDHE-ECDSA-AES128-SHA"),
            "P-256": restricted(authority.client(), curve="prime256v1"),
            "P-384": restricted(authority.client(), curve="secp384r1"),
            **({"X25519": restricted(authority.client(), curve="X25519")} if has_curve("X25519") else {}),
        },
    )


def ask(port: int, context: ssl.SSLContext | None, user: str | None) -> int:
    """The status of a scrape; 0: no answer but a refused handshake, or 400 to HTTP where TLS is spoken."""
    status = scrape_status(port, context, basic(user) if user is not None else {})
    # Go tells an HTTP client that this is HTTPS; the agent, that never speaks HTTP here, says nothing.
    return 0 if status == 400 else status


USERS = (None, "alice", "bob", "5", "0x10", "2001-01-01", "yes", "")


def answers(port: int, folder: Folder) -> dict[str, int]:
    """How each client fares without a password, and each user on a connection that is possible."""
    found = {"plain HTTP": ask(port, None, None)}
    if not found["plain HTTP"]:  # a handshake with a server of plain HTTP would wait for its deadline
        found |= {name: ask(port, context, None) for name, context in folder.clients.items()}
    way = next((name for name in ("plain HTTP", "TLS", "its certificate") if found.get(name)), None)
    if way is not None:
        found |= {f"user {user!r}": ask(port, folder.clients[way], user) for user in USERS}
    return found


class NodeExporter:
    """The real one."""

    def __init__(self, arguments: list[str], log: Path) -> None:
        nothing = ("--collector.disable-defaults", "--web.disable-exporter-metrics")
        command = ["prometheus-node-exporter", *nothing, *arguments]
        with log.open("ab") as file:
            self._process = subprocess.Popen(command, stderr=file, stdout=file)

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


class Agent:
    """Ours, as a fork."""

    def __init__(self, arguments: list[str], log: Path) -> None:
        self._process = forked.start(["demo", *KEEP_ROOT, *arguments], log)

    def is_alive(self) -> bool:
        return self._process.is_alive()

    def kill(self) -> None:
        self._process.kill()
        self._process.join()


def started(process: Process, port: int) -> bool:
    """Whether it listens; False: it has ended."""
    end = time.monotonic() + SECONDS
    while process.is_alive():
        try:
            with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)) as connection:
                connection.connect()
                return True
        except OSError:
            assert time.monotonic() < end
            time.sleep(0.01)
    return False


@dataclass
class Outcome:
    """What a program made of a file: its answers, or None and what it has said."""

    answers: dict[str, int] | None
    said: str


def serves(folder: Folder) -> bool:
    """Whether the log says so, which either says only when it has read the file."""
    said = (folder.path / "log").read_text()
    return "TLS is " in said or "msg=serving" in said


def run(start: Callable[[list[str], Path], Process], file: Path, folder: Folder, *, asked: bool) -> Outcome:
    port = free_port()
    log = folder.path / "log"
    log.write_bytes(b"")
    process = start([f"--web.config.file={file}", f"--web.listen-address=127.0.0.1:{port}"], log)
    try:
        found = (answers(port, folder) if asked else {}) if started(process, port) else None
        # node_exporter listens before it has read the file: it may be about to end.
        wait_for("end, or word that it serves", lambda: not process.is_alive() or serves(folder))
        if not process.is_alive():
            found = None
        outcome = Outcome(found, log.read_text())
    finally:
        process.kill()
    if found is None and "address already in use" in outcome.said.lower():
        return run(start, file, folder, asked=asked)  # somebody else was quicker
    return outcome


def both(text: str, folder: Folder, *, asked: bool = False) -> tuple[Outcome, Outcome]:
    file = folder.path / "web.yml"
    file.write_text(text.replace("{folder}", str(folder.path)))
    theirs = run(NodeExporter, file, folder, asked=asked)
    ours = run(Agent, file, folder, asked=asked)
    assert "Traceback" not in ours.said
    if ours.answers is None:
        assert f"tdx-headroom: {file}: " in ours.said.splitlines()[-1]
    return theirs, ours


@pytest.mark.parametrize("text", SAME.values(), ids=SAME)
def test_the_same_file_means_the_same(text: str, folder: Folder) -> None:
    """Both refuse it, or both let in the same clients."""
    if "[X25519]" in text and not has_curve("X25519"):
        pytest.skip("this Python cannot offer X25519 alone")
    theirs, ours = both(text, folder, asked=True)
    if theirs.answers is not None and ours.answers is not None and "cipher_suites: [TLS" not in text:
        # The one difference that no key makes: suites with CBC have to be asked for here.
        assert not ours.answers.pop("CBC", 0)
        theirs.answers.pop("CBC", None)
    assert ours.answers == theirs.answers, (theirs.said, ours.said)


@pytest.mark.parametrize(("text", "reason"), STRICTER.values(), ids=STRICTER)
def test_what_is_refused_here_says_why(text: str, reason: str, folder: Folder) -> None:
    """node_exporter takes it; the agent's one line says why it does not."""
    theirs, ours = both(text, folder)
    assert theirs.answers is not None, theirs.said
    assert ours.answers is None
    assert reason in ours.said.splitlines()[-1]


@pytest.mark.parametrize("text", LAXER.values(), ids=LAXER)
def test_what_only_the_agent_takes(text: str, folder: Folder) -> None:
    """Harmless differences of the other kind, so that this list does not grow unseen."""
    theirs, ours = both(text, folder)
    assert theirs.answers is None
    assert ours.answers is not None
