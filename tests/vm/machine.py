# SPDX-License-Identifier: Apache-2.0
"""A guest in QEMU: boots an image, runs commands as root in it, gets memory while it runs."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tests.kernel.tools import KernelTestError
from tests.tools.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

BOOT_SECONDS = 600

# TCG always: it is there everywhere, and with KVM the kernel would find the machine's own CPU. cmpxchg16b
# crashes under TCG.
ACCELERATOR = ("-accel", "tcg,thread=multi,tb-size=256", "-cpu", "qemu64,-cx16", "-smp", "2")
DEVICES = (
    *("-nodefaults", "-no-user-config", "-display", "none"),
    *("-device", "virtio-serial-pci"),
    *("-device", "virtserialport,chardev=shell,name=vm-test"),
    *("-device", "virtio-net-pci,netdev=net,romfile="),
)


class GuestError(KernelTestError):
    """The guest does not do what a guest must be able to do."""


class Machine:
    """One guest; a context that ends it.

    Args:
        kernel: bzImage; None: the firmware of ``more`` boots what is on the disk.
        disk: root file system; what the guest writes is thrown away, unless ``keep`` is true.
        port: the guest's port that :meth:`fetch` reaches from outside the guest.
        memory: MiB at boot; there is room for as much again in :meth:`add_memory`.
        append: for the kernel's command line.
        keep: the disk keeps what the guest writes.
        more: arguments for QEMU.
    """

    def __init__(
        self,
        kernel: Path | None,
        disk: Path,
        *,
        port: int,
        memory: int = 1024,
        append: str = "",
        keep: bool = False,
        more: Sequence[str] = (),
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="tdx-vm-"))
        self.port = free_port()
        self._number = 0
        self._buffer = b""
        self._shell: socket.socket | None = None
        self._dimms = 0
        self.boot_seconds = 0.0
        arguments = [
            *("qemu-system-x86_64", *ACCELERATOR, *DEVICES),
            *("-machine", "q35", "-m", f"{memory}M,slots=4,maxmem={memory + 4096}M"),
            *("-serial", f"file:{self.folder}/console"),
            *("-qmp", f"unix:{self.folder}/qmp,server=on,wait=off"),
            *("-chardev", f"socket,id=shell,path={self.folder}/shell,server=on,wait=off"),
            *("-netdev", f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{self.port}-:{port}"),
            *("-drive", f"file={disk},format=raw,if=virtio,snapshot={'off' if keep else 'on'}"),
            *more,
        ]
        if kernel is not None:
            line = f"console=ttyS0 panic=0 quiet root=/dev/vda rw net.ifnames=0 {append}".strip()
            arguments += ["-kernel", str(kernel), "-append", line]
        with (self.folder / "qemu").open("wb") as out:
            self._process = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
            )

    def __enter__(self) -> Self:
        try:
            self.boot()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def boot(self) -> None:
        """Wait until the guest takes commands, and give it its address.

        Raises:
            GuestError: it does not come up.
        """
        started = time.monotonic()
        self._shell = self._connect("shell")
        self.come_up()
        self.boot_seconds = time.monotonic() - started

    def reboot(self) -> None:
        """Boot anew, with what was written so far.

        Raises:
            GuestError: it does not come up again.
        """
        self.run("systemctl --no-block reboot")
        self.come_up()

    def power_off(self) -> None:
        """Shut the guest down as an operator would, and wait until it is off.

        Raises:
            GuestError: it does not end.
        """
        self.run("systemctl --no-block poweroff")
        try:
            self._process.wait(BOOT_SECONDS)
        except subprocess.TimeoutExpired:
            raise GuestError(f"it does not switch off; console: {self._last_words()}") from None

    def come_up(self) -> None:
        """Wait until the guest takes commands, after a reboot that it makes itself.

        Raises:
            GuestError: it does not.
        """
        while self._receive(BOOT_SECONDS)["id"] != 0:
            pass
        # The driver may be a module that comes late.
        self.run("until [ -e /sys/class/net/eth0 ]; do sleep 0.1; done", timeout=60)
        self.run("ip link set lo up; ip link set eth0 up; ip addr add 10.0.2.15/24 dev eth0")

    def run(self, command: str, *, timeout: float = 600, check: bool = True) -> str:
        """Run a shell command as root; gives what it wrote to both its outputs.

        Raises:
            GuestError: it ends with another status than 0, and ``check`` is true.
        """
        answer = self._ask({"run": command, "timeout": timeout}, timeout + 30)
        if check and answer["status"] != 0:
            raise GuestError(f"{command}: status {answer['status']}: {answer['output'].strip()}")
        return str(answer["output"])

    def status(self, command: str) -> int:
        """Run a shell command as root; its exit status."""
        return int(self._ask({"run": command, "timeout": 600}, 630)["status"])

    def write(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Write a file in the guest; folders are made."""
        answer = self._ask({"write": path, "mode": mode, "data": base64.b64encode(data).decode()}, 300)
        if answer["status"] != 0:
            raise GuestError(f"{path}: {answer['output']}")

    def fetch(self, path: str, timeout: float = 100) -> str:
        """GET a page of the guest, from outside of it."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=timeout) as answer:
            body: bytes = answer.read()
        return body.decode()

    def add_memory(self, mib: int) -> None:
        """Plug a memory module in."""
        name = f"dimm{self._dimms}"
        self._dimms += 1
        self.qmp("object-add", **{"qom-type": "memory-backend-ram", "id": f"{name}-ram", "size": mib << 20})
        self.qmp("device_add", driver="pc-dimm", id=name, memdev=f"{name}-ram")

    def qmp(self, command: str, **arguments: Any) -> Any:  # noqa: ANN401  QEMU's answers are of all kinds
        """Give QEMU a command.

        Raises:
            GuestError: it refuses.
        """
        with self._connect("qmp") as connection, connection.makefile("rwb") as stream:
            stream.readline()
            answer: Any = None
            for request in ({"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments}):
                stream.write(json.dumps(request).encode() + b"\n")
                stream.flush()
                answer = json.loads(stream.readline())
                while "event" in answer:
                    answer = json.loads(stream.readline())
        if "error" in answer:
            raise GuestError(f"{command}: {answer['error']['desc']}")
        return answer["return"]

    def console(self) -> str:
        """All that the guest wrote to its console."""
        path = self.folder / "console"
        return path.read_text(errors="replace") if path.exists() else ""

    def stop(self) -> None:
        """Switch the guest off, hard."""
        if self._shell is not None:
            self._shell.close()
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _ask(self, request: dict[str, object], timeout: float) -> dict[str, Any]:
        assert self._shell is not None
        self._number += 1
        self._shell.sendall(json.dumps({"id": self._number, **request}).encode() + b"\n")
        answer = self._receive(timeout)
        if answer["id"] != self._number:
            raise GuestError(f"the guest answers {answer['id']}, not {self._number}")
        return answer

    def _receive(self, timeout: float) -> dict[str, Any]:
        assert self._shell is not None
        self._shell.settimeout(timeout)
        while b"\n" not in self._buffer:
            try:
                data = self._shell.recv(1 << 16)
            except TimeoutError:
                raise GuestError(f"no answer in {timeout:.0f} s; console: {self._last_words()}") from None
            if not data:
                raise GuestError(f"the guest has gone; console: {self._last_words()}")
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _connect(self, name: str) -> socket.socket:
        end = time.monotonic() + 60
        while True:
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(str(self.folder / name))
            except OSError:
                connection.close()
                if self._process.poll() is not None or time.monotonic() > end:
                    said = (self.folder / "qemu").read_text(errors="replace").strip()
                    raise GuestError(f"QEMU does not start: {said}") from None
                time.sleep(0.02)
            else:
                return connection

    def _last_words(self) -> str:
        return " | ".join(line.strip() for line in self.console().splitlines()[-5:])
