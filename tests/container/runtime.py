#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""runc for a machine that is a container itself: what this could not give to a container, it leaves out.

Engines call it in place of runc. Capabilities that are not in its own bounding set go, and without
CAP_SYS_RESOURCE no process is kept from the OOM killer more than this one is. Where nothing is lacking it
changes nothing.
"""

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

CAPABILITIES = """
    CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE
    NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT
    SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE
    AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ
    PERFMON BPF CHECKPOINT_RESTORE
"""
"""By their numbers, from 0."""


def main() -> None:
    """Mend the container's description, if the call has one, and become runc."""
    words = sys.argv[1:]
    if "--bundle" in words:
        path = Path(words[words.index("--bundle") + 1]) / "config.json"
        config = json.loads(path.read_text("utf-8"))
        mend(config.get("process", {}), Path("/proc/self"))
        path.write_text(json.dumps(config))
    os.execvp("runc", ["runc", *words])


def mend(process: dict[str, Any], this: Path) -> None:
    """Take out of a container's process what this one (its folder in /proc) could not give."""
    (bounding,) = re.findall(r"CapBnd:\t(\w+)", (this / "status").read_text("utf-8"))
    has = int(bounding, 16)
    lacking = {f"CAP_{name}" for bit, name in enumerate(CAPABILITIES.split()) if not has >> bit & 1}
    for kind, given in process.get("capabilities", {}).items():
        process["capabilities"][kind] = [name for name in given if name not in lacking]
    if "CAP_SYS_RESOURCE" in lacking and "oomScoreAdj" in process:
        own = int((this / "oom_score_adj").read_text("utf-8"))
        process["oomScoreAdj"] = max(process["oomScoreAdj"], own)


if __name__ == "__main__":
    main()
