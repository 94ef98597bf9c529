# SPDX-License-Identifier: Apache-2.0
"""A few curves as SVG, without a library."""

from __future__ import annotations

import math
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEFT, TOP, GAP = 720, 130, 60, 40, 56
COLOURS = ("#1f6fb2", "#b2521f")


@dataclass(frozen=True)
class Panel:
    """Curves over the same minutes, each a name and its values."""

    title: str
    curves: dict[str, list[float]]


def render(title: str, minutes: list[float], panels: list[Panel]) -> str:
    """The panels below one another; every value axis begins at zero."""
    height = TOP + len(panels) * (HEIGHT + GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH + LEFT + 30} {height}" role="img">',
        f"<title>{escape(title)}</title>",
        "<style>text { font: 12px sans-serif }</style>",
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="{LEFT}" y="20">{escape(title)}</text>',
    ]
    for i, panel in enumerate(panels):
        parts += _panel(panel, minutes, TOP + i * (HEIGHT + GAP) + 14)
    return "\n".join(["<!-- SPDX-License-Identifier: Apache-2.0 -->", *parts, "</svg>", ""])


def _round_up(value: float) -> float:
    """The next 1, 2 or 5 times a power of ten."""
    power = 10 ** math.floor(math.log10(value)) if value > 0 else 1
    return next(float(digit * power) for digit in (1, 2, 5, 10) if digit * power >= value)


def _panel(panel: Panel, minutes: list[float], top: float) -> list[str]:
    most = _round_up(max(max(values) for values in panel.curves.values()))
    end = max(minutes[-1], 1e-9)
    bottom = top + HEIGHT
    parts = [f'<text x="{LEFT}" y="{top - 6}">{escape(panel.title)}</text>']
    for share in (0, 0.5, 1):
        y = bottom - share * HEIGHT
        parts.append(f'<path d="M{LEFT} {y:.1f}h{WIDTH}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{share * most:.3g}</text>')
    step = _round_up(end / 6)
    for i in range(int(end / step) + 1):
        x = LEFT + i * step / end * WIDTH
        parts.append(f'<text x="{x:.1f}" y="{bottom + 15}" text-anchor="middle">{i * step:g} min</text>')
    for i, (name, values) in enumerate(panel.curves.items()):
        points = " ".join(
            f"{LEFT + at / end * WIDTH:.1f},{bottom - value / most * HEIGHT:.1f}"
            for at, value in zip(minutes, values, strict=True)
        )
        colour = COLOURS[i % len(COLOURS)]
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        x = LEFT + WIDTH - 110 * (len(panel.curves) - i)
        parts.append(f'<text x="{x}" y="{top - 6}" fill="{colour}">{escape(name)}</text>')
    return parts
