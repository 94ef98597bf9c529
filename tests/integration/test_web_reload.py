# SPDX-License-Identifier: Apache-2.0
"""Changes of the web configuration under a running agent: none of them opens a door or loses a client."""

from __future__ import annotations

import http.client
import os
import shutil
import ssl
import time
from contextlib import closing
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import TYPE_CHECKING, Self

import bcrypt
import pytest

from tests.integration.agent import SECONDS, Running, agent, basic, scrape_status
from tests.integration.certificates import Authority, make_authority
from tests.integration.recorded import record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.program("openssl")

LOCKED = """\
tls_server_config:
  cert_file: server.pem
  key_file: server.key
  client_ca_file: clients.pem
  client_auth_type: RequireAndVerifyClientCert
  min_version: TLS13
basic_auth_users:
  alice: {alice}
  bob: {bob}
"""


@dataclass
class Locked:
    """A running agent with every lock there is, and the folder of its configuration."""

    running: Running
    folder: Path
    authority: Authority
    stranger: ssl.SSLContext
    known: ssl.SSLContext

    @property
    def file(self) -> Path:
        return self.folder / "web.yml"

    def get(self, context: ssl.SSLContext | None, headers: dict[str, str]) -> int:
        """The status of a scrape; 0: there was no answer. No context: over plain HTTP."""
        return scrape_status(self.running.port, context, headers)

    def reload_success(self) -> bool:
        with closing(
            http.client.HTTPSConnection("127.0.0.1", self.running.port, timeout=SECONDS, context=self.known)
        ) as connection:
            connection.request("GET", "/metrics", headers=basic("alice"))
            text = connection.getresponse().read().decode()
        return "\ntdx_headroom_web_config_reload_success 1.0\n" in text

    def doors(self) -> list[int]:
        """What each way in gives: only the last may be 200."""
        return [
            self.get(None, {}),
            self.get(None, basic("alice")),
            self.get(self.stranger, basic("alice")),
            self.get(self.known, {}),
            self.get(self.known, basic("alice")),
        ]


REWRITTEN = 53
SHUT = [0, 0, 0, 401, 200]


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Locked]:
    folder = tmp_path_factory.mktemp("locked")
    authority = make_authority(folder / "ca")
    authority.issue("server", folder=folder)
    shutil.copy(authority.certificate, folder / "clients.pem")
    users = {user: bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode() for user in ("alice", "bob")}
    (folder / "web.yml").write_text(LOCKED.format(**users))
    with agent("--web.config.file", str(folder / "web.yml"), command="demo") as running:
        known = authority.client(authority.issue("client"))
        yield Locked(running, folder, authority, authority.client(), known)


def drop(*words: str) -> Callable[[str], str]:
    """The file without the lines that have one of these words in them."""
    return lambda text: "".join(
        line for line in text.splitlines(keepends=True) if not any(word in line for word in words)
    )


CHANGES: dict[str, Callable[[str], str]] = {
    "emptied": lambda _: "",
    "only blanks and line ends": lambda _: " \n\n  \n",
    "only comments": lambda text: "".join(f"# {line}" for line in text.splitlines(keepends=True)),
    "`{}`": lambda _: "{}\n",
    "`---`": lambda _: "---\n",
    "`null`": lambda _: "null\n",
    "keys without values": lambda _: "tls_server_config:\nbasic_auth_users:\nhttp_server_config:\n",
    "empty sections": lambda _: "tls_server_config: {}\nbasic_auth_users: {}\n",
    "`basic_auth_users: {}`": lambda text: text.partition("basic_auth_users")[0] + "basic_auth_users: {}\n",
    "no users": lambda text: text.partition("basic_auth_users")[0],
    "no TLS": lambda text: "".join(text.partition("basic_auth_users")[1:]),
    "a lower client_auth_type": lambda text: text.replace("RequireAndVerify", "Verify").replace(
        "ClientCert\n", "ClientCertIfGiven\n"
    ),
    "no client certificates": drop("client_"),
    "client_auth_type NoClientCert": lambda text: drop("client_ca")(text).replace(
        "RequireAndVerifyClientCert", "NoClientCert"
    ),
    "client_auth_type RequestClientCert": lambda text: text.replace(
        "RequireAndVerifyClientCert", "RequestClientCert"
    ),
    "no client_ca_file": drop("client_ca_file"),
    "a lower min_version": lambda text: text.replace("TLS13", "TLS12"),
    "no min_version": drop("min_version"),
    "NUL bytes": lambda text: "\0" * len(text),
    "only headers": lambda _: "http_server_config: {headers: {X-Frame-Options: deny}}\n",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_no_change_opens_a_door(change: Callable[[str], str], locked: Locked) -> None:
    """A file that asks for less than what is in force is a failed change, and every door stays shut."""
    good = locked.file.read_text()
    failures = sum("web configuration not re-read" in line for line in locked.running.log)
    locked.file.write_text(change(good))
    try:
        assert locked.doors() == SHUT
        assert not locked.reload_success()
        told = [line for line in locked.running.log if "web configuration not re-read" in line]
        assert len(told) == failures + 1
        assert "level=error" in told[-1]
        assert str(locked.file) in told[-1]
    finally:
        locked.file.write_text(good)
    assert locked.doors() == SHUT
    assert locked.reload_success()


def test_cut_short_at_any_byte(locked: Locked) -> None:
    """However little of the file has been written, nobody gets in who would not with all of it."""
    good = locked.file.read_text()
    try:
        for end in range(0, len(good), 7):
            locked.file.write_text(good[:end])
            assert locked.get(locked.known, {}) == 401, good[:end]
            assert locked.get(locked.stranger, {}) == 0, good[:end]
            assert locked.get(None, {}) == 0, good[:end]
    finally:
        locked.file.write_text(good)
    assert locked.reload_success()
    record(
        "web configuration cut short at any byte (TLS, client certificates, passwords)",
        "refuses what asks for less than before, keeps the last good one",
    )


def put_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def put_loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def put_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def empty(path: Path) -> None:
    path.write_text("")


PLACES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "gone": ("web.yml", lambda path: path.unlink()),
    "a directory": ("web.yml", put_directory),
    "a link to itself": ("web.yml", put_loop),
    "a FIFO": ("web.yml", put_fifo),
    "certificate emptied": ("server.pem", empty),
    "certificate gone": ("server.pem", lambda path: path.unlink()),
    "key emptied": ("server.key", empty),
    "authorities emptied": ("clients.pem", empty),
    "authorities gone": ("clients.pem", lambda path: path.unlink()),
}


@pytest.mark.parametrize(("name", "inject"), PLACES.values(), ids=PLACES)
def test_a_file_that_is_no_more(name: str, inject: Callable[[Path], None], locked: Locked) -> None:
    """Whatever becomes of the file, or of one that it names, the last good configuration stays."""
    path = locked.folder / name
    good = path.read_bytes()
    inject(path)
    try:
        assert locked.doors() == SHUT
        assert not locked.reload_success()
    finally:
        if path.is_dir():
            path.rmdir()
        path.unlink(missing_ok=True)
        path.write_bytes(good)
    assert locked.doors() == SHUT
    assert locked.reload_success()


def test_the_emptied_file(locked: Locked) -> None:
    """401 over TLS, nothing over HTTP, and a certificate that is renewed meanwhile is served."""
    good = locked.file.read_text()
    client = ssl.create_default_context(cafile=str(locked.authority.certificate))
    client.load_cert_chain(*locked.authority.issue("another"))

    def serial() -> str:
        with closing(
            http.client.HTTPSConnection("127.0.0.1", locked.running.port, timeout=SECONDS, context=client)
        ) as connection:
            connection.connect()
            assert isinstance(connection.sock, ssl.SSLSocket)
            certificate = connection.sock.getpeercert()
            assert certificate is not None
            return str(certificate["serialNumber"])

    before = serial()
    locked.file.write_text("")
    try:
        assert locked.get(locked.known, {}) == 401
        assert locked.get(None, {}) == 0
        assert serial() == before
        locked.authority.issue("server", folder=locked.folder)
        assert serial() != before
        assert not locked.reload_success()
    finally:
        locked.file.write_text(good)
    assert locked.reload_success()
    record(
        "web configuration emptied (TLS, passwords)",
        "401 over TLS and nothing over HTTP, as before; says that it asks for less",
    )


@dataclass
class Clients:
    """Scrape as fast as they are answered, on a new connection each time."""

    locked: Locked
    number: int
    statuses: list[int] = field(default_factory=list)
    over: Event = field(default_factory=Event)
    threads: list[Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        self.threads = [
            Thread(target=self.scrape, args=(user,)) for user in ("alice", "bob") * (self.number // 2)
        ]
        for thread in self.threads:
            thread.start()
        return self

    def scrape(self, user: str) -> None:
        while not self.over.is_set():
            self.statuses.append(self.locked.get(self.locked.known, basic(user)))

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join(SECONDS)


def in_one_piece(path: Path, text: str) -> None:
    path.write_text(text)


def in_two_steps(path: Path, text: str) -> None:
    """With time between emptying and writing for every client to come."""
    with path.open("w") as stream:
        time.sleep(0.05)
        stream.write(text)


def line_by_line(path: Path, text: str) -> None:
    """As a shell's echos do it: for a while there is one user less."""
    with path.open("w") as stream:
        for line in text.splitlines(keepends=True):
            stream.write(line)
            stream.flush()
            time.sleep(0.005)


@pytest.mark.parametrize("write", [in_one_piece, in_two_steps, line_by_line])
def test_rewriting_in_place_loses_no_client(write: Callable[[Path, str], None], locked: Locked) -> None:
    """Configuration, certificate and key rewritten in place again and again, beside four clients."""
    good = locked.file.read_text()
    pairs = []
    for name in ("one", "two"):
        certificate, key = locked.authority.issue(name)
        pairs.append((certificate.read_text(), key.read_text()))
    rewritten = 0
    with Clients(locked, 4) as clients:
        while rewritten < REWRITTEN:
            certificate_text, key_text = pairs[rewritten % 2]
            seen = len(clients.statuses)
            write(locked.folder / "server.pem", certificate_text)
            write(locked.folder / "server.key", key_text)
            write(locked.file, good + f"# {rewritten}\n")
            rewritten += 1
            end = time.monotonic() + SECONDS
            while len(clients.statuses) < seen + 4:
                assert time.monotonic() < end
                time.sleep(0.005)
    print(f"\n{rewritten} rewritten {write.__name__}: {len(clients.statuses)} scrapes")
    assert set(clients.statuses) == {200}
    locked.file.write_text(good)
    assert locked.doors() == SHUT
    assert locked.reload_success()
    if write is in_two_steps:
        record(
            "certificate, key and web configuration rewritten in place 53 times beside four clients",
            "loses no client",
        )


def test_a_user_who_is_taken_away(locked: Locked) -> None:
    """Is refused soon after, when nobody can be writing the file any more; the others are not."""
    good = locked.file.read_text()
    assert locked.get(locked.known, basic("bob")) == 200
    locked.file.write_text(drop("bob")(good))
    try:
        end = time.monotonic() + SECONDS
        while locked.get(locked.known, basic("bob")) != 401:
            assert time.monotonic() < end
            assert locked.get(locked.known, basic("alice")) == 200
            time.sleep(0.05)
        assert locked.reload_success()
    finally:
        locked.file.write_text(good)
    assert locked.get(locked.known, basic("bob")) == 200
