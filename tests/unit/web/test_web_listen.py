# SPDX-License-Identifier: Apache-2.0
"""Listening sockets, and the flags that ask for them."""

from __future__ import annotations

import argparse
import errno
import os
import secrets
import socket
import stat
from typing import TYPE_CHECKING

import pytest

from tdx_headroom.commands.web_flags import add_flags, settings_from
from tdx_headroom.errors import AgentError
from tdx_headroom.web.listen import open_listeners
from tdx_headroom.web.settings import Address, UnixAddress, WebSettings

if TYPE_CHECKING:
    from pathlib import Path


def settings(*arguments: str) -> WebSettings:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_flags(parser)
    return settings_from(parser.parse_args(arguments))


def test_defaults() -> None:
    """With no flags: all addresses, the exporter's port, 40 requests, no web configuration."""
    assert settings() == WebSettings(addresses=(Address("", 10110),), max_requests=40)


def test_several_addresses() -> None:
    """--web.listen-address may be given several times, of each kind."""
    given = (":1", "127.0.0.1:2", "[::1]:3", "unix:/run/x.sock", "localhost:0")
    flags = [word for address in given for word in ("--web.listen-address", address)]
    assert settings(*flags).addresses == (
        Address("", 1),
        Address("127.0.0.1", 2),
        Address("::1", 3),
        UnixAddress("/run/x.sock"),
        Address("localhost", 0),
    )


def test_sockets_of_systemd_instead() -> None:
    """With --web.systemd-socket there is no default address, but one that is asked for stays."""
    assert settings("--web.systemd-socket").addresses == ()
    assert settings("--web.systemd-socket", "--web.listen-address", ":1").addresses == (Address("", 1),)


@pytest.mark.parametrize(
    "flags",
    [
        ("--web.listen-address", "10110"),
        ("--web.listen-address", ":65536"),
        ("--web.listen-address", ":٣"),
        ("--web.listen-address", ":" + "9" * 5000),
        ("--web.listen-address", "unix:run/x.sock"),
        ("--web.listen-address", "unix:/run/"),
        ("--web.max-requests", "-1"),
        ("--web.max-requests", "many"),
        ("--web.telemetry-path", "/-/ready"),
        ("--web.telemetry-path", "metrics"),
        ("--web.runbook-url", "wiki/runbooks"),
        ("--web.runbook-url", "javascript:alert(1)"),
        ("--web.runbook-url", 'https://x/"onclick="'),
    ],
)
def test_flags_that_mean_nothing(flags: tuple[str, str]) -> None:
    """A value that cannot be used is refused."""
    with pytest.raises(argparse.ArgumentError):
        settings(*flags)


def test_unix_socket_comes_and_goes(tmp_path: Path) -> None:
    """A unix socket is for owner and group alone, whatever the umask, and is removed when done."""
    path = tmp_path / "x.sock"
    mask = os.umask(0)
    try:
        (listener,) = open_listeners([UnixAddress(str(path))], [])
    finally:
        assert os.umask(mask) == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert listener.private
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    listener.close()
    assert list(tmp_path.iterdir()) == []


def test_stale_socket_is_replaced(tmp_path: Path) -> None:
    """A socket that nobody listens on any more is replaced; one that was replaced by others is left alone."""
    path = tmp_path / "x.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    (listener,) = open_listeners([UnixAddress(str(path))], [])
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        listener.close()
        assert path.is_socket()


def test_what_is_no_stale_socket_is_not_touched(tmp_path: Path) -> None:
    """A file, a link, a directory and a socket that is in use stay as they are, and are named."""
    (tmp_path / "file").write_text("precious")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "folder").mkdir()
    for name in ("file", "link", "folder"):
        with pytest.raises(AgentError, match=f"unix:{tmp_path}/{name}: there is something else"):
            open_listeners([UnixAddress(f"{tmp_path}/{name}")], [])
    assert (tmp_path / "file").read_text() == "precious"
    with socket.socket(socket.AF_UNIX) as used:
        used.bind(f"{tmp_path}/used")
        used.listen()
        with pytest.raises(AgentError, match="somebody listens there"):
            open_listeners([UnixAddress(f"{tmp_path}/used")], [])
    for path in (f"{tmp_path}/none/x", f"{tmp_path}/{'x' * 100}"):
        with pytest.raises(AgentError, match="cannot listen on unix:"):
            open_listeners([UnixAddress(path)], [])


def test_all_or_none(tmp_path: Path) -> None:
    """When one address cannot be had, those before it are given up again."""
    path = tmp_path / "x.sock"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(AgentError, match=f"cannot listen on 127.0.0.1:{port}"):
            open_listeners([UnixAddress(str(path)), Address("127.0.0.1", port)], [])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("step", ["socket.socket.listen", "pathlib.Path.rename"])
def test_a_socket_that_does_not_get_its_name_leaves_nothing(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever fails after it was bound under another name, it is removed, and nothing else is."""
    other = tmp_path / f".{os.getpid()}"
    other.write_text("precious")

    def fails(*_: object) -> None:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(step, fails)
    with pytest.raises(AgentError, match=r"cannot listen on unix:.*: Permission denied"):
        open_listeners([UnixAddress(str(tmp_path / "x.sock"))], [])
    assert list(tmp_path.iterdir()) == [other]


def test_what_has_the_other_name_is_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that has got there first stays as it is."""
    monkeypatch.setattr(secrets, "token_hex", lambda _: "taken")
    (tmp_path / ".taken").write_text("precious")
    with pytest.raises(AgentError, match="Address already in use"):
        open_listeners([UnixAddress(str(tmp_path / "x.sock"))], [])
    assert (tmp_path / ".taken").read_text() == "precious"


def test_nothing_to_listen_on() -> None:
    """An agent that systemd has handed no socket says so, rather than run for nobody."""
    with pytest.raises(AgentError, match=r"nothing to listen on; --web\.systemd-socket needs"):
        open_listeners([], [])


@pytest.mark.parametrize("host", ["no.such.host.invalid", "x" * 100, "256.1.1.1"])
def test_no_such_host(host: str) -> None:
    """A name that stands for no address is an error of one line."""
    with pytest.raises(AgentError, match="cannot listen on"):
        open_listeners([Address(host, 0)], [])


@pytest.mark.parametrize(("mode", "private"), [(0o660, True), (0o666, False), (0o602, False), (0o664, True)])
def test_given_unix_socket(mode: int, *, private: bool, tmp_path: Path) -> None:
    """A socket that was handed over is private only if its mode keeps others out; it is never removed."""
    path = tmp_path / "given.sock"
    given = socket.socket(socket.AF_UNIX)
    given.bind(str(path))
    given.listen()
    path.chmod(mode)
    (listener,) = open_listeners([], [given])
    assert listener.private is private
    assert not given.getblocking()
    listener.close()
    assert path.exists()


def test_given_tcp_and_abstract_sockets() -> None:
    """A TCP socket and an abstract one, which anybody may connect to, are served and are not private."""
    tcp, abstract = socket.socket(), socket.socket(socket.AF_UNIX)
    tcp.bind(("127.0.0.1", 0))
    abstract.bind("")
    for sock in (tcp, abstract):
        sock.listen()
    listeners = open_listeners([], [tcp, abstract])
    assert [listener.private for listener in listeners] == [False, False]
    assert listeners[0].name == f"127.0.0.1:{tcp.getsockname()[1]}"
    for listener in listeners:
        listener.close()
