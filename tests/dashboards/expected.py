# SPDX-License-Identifier: Apache-2.0
"""What must be seen on the dashboards of the fleet of hosts.py: texts, and the colours that they have."""

from __future__ import annotations

from typing import NamedTuple


class Seen(NamedTuple):
    """A text of a panel, and the colour that it is drawn in or on."""

    panel: str
    text: str
    colour: str


HOSTS: dict[str, tuple[Seen, ...]] = {
    "failed": (
        Seen("Verdict", "failed", "red"),
        Seen("Next boot", "will-fail", "red"),
        Seen("TDX module", "failed", "red"),
        Seen("Areas left", "-1", "red"),
        Seen("Another boot is staged", "no", "text"),
        Seen("Plan agrees with kernel", "yes", "green"),
        Seen("This host", "INTEL(R) XEON(R) PLATINUM 8592+", "text"),
        Seen("This host", "build 595 of 20231008", "text"),
        Seen("What boots next", "the running kernel", "text"),
        Seen("The running kernel again", "will-fail", "red"),
        Seen("Why TDX failed", "reserved-areas-exhausted", "text"),
        Seen("Findings", "fails", "red"),
        Seen("Findings", "risk", "orange"),
        Seen("Reserved areas of the fullest TDMRs", "17", "red"),
        Seen("Reserved areas of the fullest TDMRs", "3", "green"),
        Seen("Alerts of this host", "critical", "red"),
        Seen("Installed kernels", "will-fail", "red"),
        Seen("Installed kernels", "-1", "red"),
        Seen("Outcome by strategy", "ok", "green"),
        Seen("Outcome by strategy", "reserved-areas-exhausted", "red"),
        Seen("Outcome by strategy", "-1", "red"),
        Seen("TDMRs", "13", "green"),
        Seen("Sources", "yes", "green"),
        Seen("Sources that show other memory", "no", "text"),
    ),
    "healthy": (
        Seen("Verdict", "initialized", "green"),
        Seen("Next boot", "will-initialize", "green"),
        Seen("TDX module", "initialized", "green"),
        Seen("Areas left", "13", "green"),
        Seen("Why TDX failed", "It did not fail.", "text"),
        Seen("Alerts of this host", "None fires.", "text"),
    ),
    "at-risk": (
        Seen("Verdict", "initialized", "green"),
        Seen("Next boot", "at-risk", "orange"),
        Seen("Areas left", "1", "orange"),
        Seen("Findings", "risk", "orange"),
        Seen("Reserved areas of the fullest TDMRs", "15", "orange"),
        Seen("Alerts of this host", "warning", "orange"),
    ),
    "staged": (
        Seen("Verdict", "initialized", "green"),
        Seen("Next boot", "will-fail", "red"),
        Seen("Another boot is staged", "yes", "blue"),
        Seen("What boots next", "6.12.0-1-amd64", "text"),
        Seen("The running kernel again", "will-initialize", "green"),
        Seen("Installed kernels", "will-fail", "red"),
        Seen("Installed kernels", "will-initialize", "green"),
    ),
    "no-tdx": (
        Seen("Verdict", "not-tdx", "grey"),
        Seen("Next boot", "not for TDX", "text"),
        Seen("TDX module", "unsupported", "grey"),
        Seen("Areas left", "unknown", "text"),
        Seen("Another boot is staged", "unknown", "text"),
        Seen("Plan agrees with kernel", "unknown", "text"),
    ),
}

FLEET = (
    Seen("Hosts", "7", "text"),
    Seen("TDX is up", "4", "text"),
    Seen("Failed", "2", "red"),
    Seen("Next boot will fail", "3", "red"),
    Seen("Staged to fail", "1", "red"),
    Seen("At risk", "1", "orange"),
    Seen("Target kernel fails", "3", "orange"),
    Seen("Cannot tell", "0", "text"),
    Seen("Agents down", "0", "text"),
    Seen("Hosts with alerts", "critical", "red"),
    Seen("Hosts with alerts", "failed-too:10110", "link"),
    Seen("Hosts that the target kernel breaks", "mainline-fails:10110", "link"),
    Seen("Hosts that the target kernel breaks", "initialized", "green"),
    Seen("Hosts that the target kernel breaks", "reserved-areas-exhausted", "red"),
    Seen("Hosts that the target kernel breaks", "-1", "red"),
    Seen("Hosts with a staged boot that fails", "staged:10110", "link"),
    Seen("Hosts with a staged boot that fails", "6.12.0-1-amd64", "text"),
    Seen("Hosts on which TDX failed", "reserved-areas-exhausted", "text"),
    Seen("Hosts with the fewest areas left", "1", "orange"),
    Seen("Alerts that fire", "warning", "orange"),
    Seen("Outcome by strategy", "ok", "green"),
    Seen("Next boot by kernel", "at-risk", "orange"),
    Seen("Areas left by BIOS and platform", "13", "green"),
)
STRATEGY_FLEET = (
    Seen("Target kernel fails", "0", "text"),
    Seen("Hosts that the target kernel breaks", "None.", "text"),
)
"""With cmr-subregion as the target kernel's strategy."""

ORDER = {
    "Findings": ("fails", "risk"),
    "TDMRs": ("-1", "14"),
    "Hosts with alerts": ("critical", "warning"),
    "Hosts that the target kernel breaks": ("initialized", "failed"),
    "Hosts with the fewest areas left": ("-1", "13"),
}
"""What comes before what, of the host that failed and of the fleet."""

MAY_BE_EMPTY = {
    "What BIOS updates took": "no host of these has been booted twice",
}
"""Panels without data, of the fleet and of the host that failed."""

DASHBOARD = "/d/tdx-headroom-host?var-datasource=chosen&var-job=tdx-headroom&var-instance=failed:10110"
LINKS = {
    "Hosts with alerts": [DASHBOARD, "http://failed:10110/"],
    "Hosts on which TDX failed": [DASHBOARD],
    "Hosts with the fewest areas left": [DASHBOARD],
    "Hosts that the target kernel breaks": [DASHBOARD],
}
"""Where the name of the host that failed leads, by table."""
