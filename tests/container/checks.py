# SPDX-License-Identifier: Apache-2.0
"""What must be so of the image and of its containers."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client.parser import text_string_to_metric_families

from tests.integration.certificates import make_authority
from tests.kernel.tools import KernelTestError
from tests.tools.machine_memory import memory_bytes
from tests.tools.steps import CheckError, expect, wait_for

if TYPE_CHECKING:
    from tests.container.engine import Engine

LABELS = ("title", "description", "version", "licenses")
AGENT, READER, USER = "tdx-headroom", "tdx-headroom-boots", 61110
BOOTS = Path(__file__).resolve().parents[1] / "boots/debian-two-saved"
NEXT = "6.1.0-28-amd64"
"""What boots next of these entries."""

FROM_HOST = ("/boot", "/lib/modules", "/etc/modprobe.d", "/usr/lib/modprobe.d")
"""Folders of the host in docs/container.md that are made up here: not every machine has them."""

WEB_CONFIG = """\
tls_server_config:
  cert_file: server.pem
  key_file: server.key
  client_ca_file: ca.pem
  client_auth_type: RequireAndVerifyClientCert
basic_auth_users:
  prometheus: $2b$04$9kkEm/OKzei2Nv5bu8IQuuX1v2HZZfMX/4USdrhjTq7bIurh0gZwC
"""


def image(engine: Engine) -> str:
    """It has a health check, and labels that say what it is."""
    made = json.loads(engine("image", "inspect", AGENT))[0]
    settings = made["Config"]
    # podman has it beside the settings, docker among them.
    health = made.get("Healthcheck") or made.get("HealthCheck") or settings.get("Healthcheck") or {}
    expect("it has no health check", health.get("Test"))
    labels = {k: v for k, v in (settings.get("Labels") or {}).items() if not k.startswith("io.buildah.")}
    lacking = {f"org.opencontainers.image.{name}" for name in LABELS} - {*labels}
    expect(f"it has no label {', '.join(sorted(lacking))}", not lacking)
    test = " ".join(health["Test"])
    return f"{made['Size'] / 1e6:.0f} MB, {len(labels)} labels, health check: {test}"


def agent(engine: Engine, shown: list[list[str]]) -> str:
    """Run as the page says, it reads this machine, keeps state, and has no capability in the end."""
    engine.run(_command(shown, AGENT))
    engine.wait_for_agent(AGENT)
    metrics = _metrics(engine)
    for source in ("iomem", "kernel-log", "firmware-memmap", "zoneinfo", "platform"):
        expect(f"{source} was read in the container", metrics["tdx_headroom_source_success", source] == 1)
    served = metrics["tdx_memory_bytes",]
    expect(f"{served:.0f} bytes are served, {memory_bytes()} are in /proc/iomem", served == memory_bytes())
    verdict = _verdict(engine)
    expect(
        f"of the next boot it says {verdict['boots_unknown']!r}",
        verdict["boots_unknown"] == "/host/boot is not mounted",
    )
    expect("it serves the page", engine.get("/").lower().startswith("<!doctype html>"))
    _expect_powerless(engine, AGENT, USER)
    wait_for("state in the volume", lambda: _state(engine).exists())
    expect("the state is not the agent's", _state(engine).stat().st_uid == USER)
    return f"{served:.0f} bytes of memory planned, the user {USER} without a capability"


def health(engine: Engine) -> str:
    """The recipe's health check tells an agent that answers from one that does not."""
    _expect_health_told(engine)
    return "passes, and fails where the agent does not answer"


def health_under_tls(engine: Engine, shown: list[list[str]]) -> str:
    """The same of an agent that wants TLS, a certificate and a password, of which the check has none."""
    folder = engine.folder / "web"
    authority = make_authority(folder)
    authority.issue("server")
    (folder / "web.yml").write_text(WEB_CONFIG)
    for path in (folder, *folder.iterdir()):
        path.chmod(0o755 if path.is_dir() else 0o644)
    *words, name = _command(shown, AGENT)
    serve = ["serve", "--path.rootfs", "/host", "--web.config.file", "/web/web.yml"]
    engine.run([*words, f"--volume={folder}:/web:ro", name, *serve])
    wait_for("listening agent", lambda: "msg=serving" in engine.logs(AGENT))
    try:
        engine.get("/-/healthy")
    except KernelTestError:
        pass
    else:
        raise CheckError("it answers without TLS")
    _expect_health_told(engine)
    engine("stop", "--time=60", AGENT)
    engine("rm", AGENT)
    return "passes, and fails where the agent does not answer"


def _expect_health_told(engine: Engine) -> None:
    engine.wait_for_health(AGENT, healthy=True)
    pid = engine.inspect(AGENT, "{{.State.Pid}}")
    engine.inside("kill", "-STOP", pid)
    try:
        engine.wait_for_health(AGENT, healthy=False)
    finally:
        engine.inside("kill", "-CONT", pid)


def restart(engine: Engine) -> str:
    """After a restart it answers the same, with the state of the volume, and again without capabilities."""
    before, kept = _metrics(engine)["tdx_memory_bytes",], _state(engine).read_text("utf-8")
    pid = engine.inspect(AGENT, "{{.State.Pid}}")
    engine("restart", AGENT)
    engine.wait_for_agent(AGENT)
    expect("it is another process", engine.inspect(AGENT, "{{.State.Pid}}") != pid)
    expect("the same memory", _metrics(engine)["tdx_memory_bytes",] == before)
    boot = json.loads(kept)["current"]["boot_id"]
    expect(
        "the boot in the state", json.loads(_state(engine).read_text("utf-8"))["current"]["boot_id"] == boot
    )
    expect("the state was set aside", "set aside" not in engine.logs(AGENT))
    _expect_powerless(engine, AGENT, USER)
    return "the same answer, with the state of the volume"


def stop(engine: Engine) -> str:
    """It ends by itself when asked, as a container's first process too."""
    engine("stop", "--time=60", AGENT)
    status = engine.inspect(AGENT, "{{.State.ExitCode}}")
    expect(f"its exit status is {status}", status == "0")
    engine("rm", AGENT)
    return "exit status 0"


def boots(engine: Engine, shown: list[list[str]]) -> str:
    """With the second container and the folders that the page names the agent knows what boots next."""
    host = engine.folder / "host"
    shutil.copytree(BOOTS, host, symlinks=True)
    (host / "boot/grub/grub.cfg").chmod(0o600)
    for name in FROM_HOST:
        (host / name.lstrip("/")).mkdir(parents=True, exist_ok=True)
    reader = _made_up(_command(shown, READER), host)
    engine.run(reader)
    volumes = [word for flag, word in pairwise(reader) if flag == "--volume"]
    first = next(i for i, word in enumerate(volumes) if word.endswith("/boot:/host/boot:ro,rslave"))
    *same, last = volumes[first:]
    *words, name = _command(shown, AGENT)
    engine.run([*words, *(f"--volume={volume}" for volume in (*same, f"{last}:ro")), name])
    engine.wait_for_agent(AGENT)

    def known() -> bool:
        engine("kill", "--signal=HUP", AGENT)
        verdict = _verdict(engine)
        return verdict["boots_unknown"] is None and NEXT in json.dumps(verdict)

    wait_for("next boot", known)
    _expect_powerless(engine, AGENT, USER)
    _expect_powerless(engine, READER, 0)
    engine("stop", "--time=60", READER)
    status = engine.inspect(READER, "{{.State.ExitCode}}")
    expect(f"the second container's exit status is {status}", status in ("0", "143"))
    engine("rm", "--force", AGENT, READER)
    return f"{NEXT} boots next; the container that reads them has no capability"


def esp(engine: Engine, shown: list[list[str]]) -> str:
    """What is mounted below a volume is not read-only with it, but has to be made so, as the page says."""
    host = engine.folder / "with-esp"
    for name in (*FROM_HOST, "/boot/efi"):
        (host / name.lstrip("/")).mkdir(parents=True, exist_ok=True)
    engine.inside("mount", "-t", "tmpfs", "tmpfs", host / "boot/efi")
    reader = _made_up(_command(shown, READER), host)
    boot = next(i for i, word in enumerate(reader) if word.endswith("/boot:/host/boot:ro,rslave"))
    closed = [*reader[: boot + 1], f"--volume={host}/boot/efi:/host/boot/efi:ro", *reader[boot + 1 :]]
    for words, may_write in ((reader, True), (closed, False)):
        engine.run(words)
        # Root without capabilities can still write to folders that it owns.
        said = engine("exec", READER, "sh", "-c", "touch /host/boot/efi/kept 2>&1 || true")
        expect(f"writing to the ESP: {said!r}", may_write == (not said))
        expect(f"writing to the ESP: {said!r}", may_write or "Read-only file system" in said)
        engine("rm", "--force", READER)
    return "writable below a read-only /boot, and read-only with a volume of its own"


def textfile(engine: Engine, shown: list[list[str]]) -> str:
    """The page's textfile is what node_exporter reads, and says the same of this machine."""
    folder = engine.folder / "textfiles"
    folder.mkdir()
    words = next(words for words in shown if "textfile" in words)
    engine.once(
        *(f"{folder}:{word.partition(':')[2]}" if word.endswith(":/textfile") else word for word in words)
    )
    (path,) = folder.iterdir()
    served = samples(path.read_text("utf-8"))["tdx_memory_bytes",]
    expect(f"{served:.0f} bytes are served, {memory_bytes()} are in /proc/iomem", served == memory_bytes())
    expect("node_exporter may read it", path.stat().st_mode & 0o444 == 0o444)
    return f"{path.name}, {served:.0f} bytes of memory planned"


def _command(shown: list[list[str]], name: str) -> list[str]:
    """The page's command that makes the container of this name."""
    return next(words for words in shown if name in words and words[words.index(name) - 1] == "--name")


def _made_up(words: list[str], host: Path) -> list[str]:
    """The same with folders below ``host`` for the machine's own."""
    return [f"{host}{word}" if word.partition(":")[0] in FROM_HOST else word for word in words]


def _metrics(engine: Engine) -> dict[tuple[str, ...], float]:
    return samples(engine.get("/metrics"))


def samples(text: str) -> dict[tuple[str, ...], float]:
    """By name and values of labels."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def _verdict(engine: Engine) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(engine.get("/api/v1/plan"))["verdict"]
    return found


def _state(engine: Engine) -> Path:
    """The state in the volume, from outside."""
    return Path(engine("volume", "inspect", "--format", "{{.Mountpoint}}", AGENT).strip()) / "state.json"


def _expect_powerless(engine: Engine, name: str, user: int) -> None:
    pid = engine.inspect(name, "{{.State.Pid}}")
    expect_powerless(name, Path(f"/proc/{pid}/status").read_text(), user)


def expect_powerless(name: str, text: str, user: int) -> None:
    """By its /proc/PID/status: that user, and not what a root without privileges may not have either."""
    status = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    users = {int(number) for number in status["Uid"].split()}
    expect(f"{name} is the users {users}", users == {user})
    for key in ("CapEff", "CapPrm", "CapInh", "CapAmb", "CapBnd"):
        expect(f"{name} has {key} {status[key]}", int(status[key], 16) == 0)
    expect(f"{name} may gain privileges", status["NoNewPrivs"] == "1")
