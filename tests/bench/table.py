# SPDX-License-Identifier: Apache-2.0
"""What the benchmark prints: one table, every row a figure beside a peer's, measured in the same run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One figure.

    Args:
        what: was measured.
        own: the agent's figure.
        peer: the peer's; None: there is none, the figure stands against its target alone.
        against: who the peer is.
        unit: of both.
        limit: the largest (or, with `more`, the smallest) value that reaches the target; None: no target.
        of_ratio: whether the limit is one of own / peer, or of the figure itself.
        more: whether more is better.
    """

    what: str
    own: float
    peer: float | None
    against: str
    unit: str
    limit: float | None = None
    of_ratio: bool = True
    more: bool = False

    @property
    def ratio(self) -> float | None:
        return None if self.peer is None or self.peer == 0 else self.own / self.peer

    @property
    def reached(self) -> bool | None:
        """Whether the target is reached; None without one."""
        value = self.ratio if self.of_ratio else self.own
        if self.limit is None or value is None:
            return None
        return value >= self.limit if self.more else value <= self.limit

    @property
    def target(self) -> str:
        if self.limit is None:
            return ""
        sign = ">=" if self.more else "<="
        unit = "x" if self.of_ratio else f" {self.unit}"
        return f"{sign} {self.limit:g}{unit}"


def render(rows: list[Row]) -> str:
    """The table, as Markdown."""
    lines = [("what", "agent", "peer", "ratio", "target", "")]
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        peer = "" if row.peer is None else f"{_number(row.peer)} {row.unit} ({row.against})"
        reached = {True: "yes", False: "NO", None: ""}[row.reached]
        lines.append((row.what, f"{_number(row.own)} {row.unit}", peer, ratio, row.target, reached))
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    shown = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    shown.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(shown)


def _number(value: float) -> str:
    if value == 0 or abs(value) >= 1000:
        return f"{value:.0f}"
    return f"{value:.3g}"
