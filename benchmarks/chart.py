"""The chart of a comparison: an SVG without scripts, readable on a light and on a dark page."""

import math
from statistics import median
from xml.sax.saxutils import escape

from benchmarks.operations import EVERYDAY_CALLS
from benchmarks.report import Results, cpu_ratios

WIDTH, LEFT, RIGHT = 820, 215, 45
LANE, ROW_GAP, BAR = 8, 9, 14
HEAD = 62  # pixels above the rows of a panel
# By server its colour: Okabe and Ito's palette, which people with colour blindness can tell apart.
COLOURS = {
    "stock": "#d55e00",
    "fastapi": "#009e73",
    "fastify": "#56b4e9",
    "go": "#0072b2",
    "floor+plan": "#cc79a7",
}
STYLE = """
svg { --page: #ffffff; --text: #1f2328; --faint: #6e7781; --line: #d0d7de; --bar: #0969da; --goal: #1f2328 }
@media (prefers-color-scheme: dark) {
  svg { --page: #0d1117; --text: #e6edf3; --faint: #8d96a0; --line: #30363d; --bar: #4493f8; --goal: #e6edf3 }
}
text { font: 12px system-ui, sans-serif; fill: var(--text) }
.title { font-size: 14px; font-weight: 600 }
.faint { fill: var(--faint); font-size: 11px }
"""


class Axis:
    """A logarithmic axis of ratios from `least` to `largest`, both powers of two, over the width of a panel."""

    def __init__(self, ratios: list[float]) -> None:
        self.least = math.floor(math.log2(min([1.0, *ratios])))
        self.largest = max(math.ceil(math.log2(max([1.0, *ratios]))), self.least + 1)

    def x(self, ratio: float) -> float:
        share = (math.log2(ratio) - self.least) / (self.largest - self.least)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def draw(self, top: float, bottom: float) -> list[str]:
        parts = []
        for power in range(self.least, self.largest + 1):
            x, ratio = self.x(2.0**power), 2.0**power
            width = 1.5 if power == 0 else 0.75
            parts.append(line(x, top, x, bottom, "var(--faint)" if power == 0 else "var(--line)", width))
            parts.append(svg_text(x, top - 5, f"{ratio:g}×", "middle", "faint"))
        return parts


def line(x1: float, y1: float, x2: float, y2: float, stroke: str, width: float) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" style="stroke:{stroke}" '
        f'stroke-width="{width:g}"/>'
    )


def svg_text(x: float, y: float, content: str, anchor: str = "start", kind: str = "") -> str:
    chosen = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{chosen}>{escape(content)}</text>'


def draw(results: Results) -> str:
    plain, middle = draw_plain_calls(results, 0)
    everyday, bottom = draw_everyday_calls(results, middle)
    size = f'width="{WIDTH}" height="{bottom:.0f}" viewBox="0 0 {WIDTH} {bottom:.0f}"'
    title = "<title>CPU a request beside other servers, and of everyday calls beside their plain call</title>"
    page = f'<rect width="{WIDTH}" height="{bottom:.0f}" style="fill:var(--page)"/>'
    parts = [title, f"<style>{STYLE}</style>", page, *plain, *everyday]
    return f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size}>\n{chr(10).join(parts)}\n</svg>\n'


def draw_plain_calls(results: Results, top: float) -> tuple[list[str], float]:
    """A row for each operation with a lane for each server; returns the parts and where the panel ends."""
    ratios = {
        operation: {
            server: median(cpu_ratios(slices, next(iter(measured.values()))))
            for server, slices in measured.items()
            if server in COLOURS
        }
        for operation, measured in results.plain.items()
    }
    ratios = {operation: found for operation, found in ratios.items() if found}
    if not ratios:
        return [], top
    servers = [name for name in COLOURS if any(name in found for found in ratios.values())]
    axis = Axis([ratio for found in ratios.values() for ratio in found.values()])
    parts = [svg_text(12, top + 22, "CPU of application and PostgreSQL a request, ours = 1", kind="title")]
    x = 12.0
    for server in servers:
        parts.append(f'<circle cx="{x + 5:.1f}" cy="{top + 37:.1f}" r="4.5" fill="{COLOURS[server]}"/>')
        parts.append(svg_text(x + 14, top + 41, server, kind="faint"))
        x += 30 + 7 * len(server)
    start = top + HEAD
    bottom = start + sum(len(found) * LANE + ROW_GAP for found in ratios.values())
    parts += axis.draw(start, bottom)
    y = start + ROW_GAP / 2
    for operation, found in ratios.items():
        parts.append(svg_text(LEFT - 12, y + len(found) * LANE / 2 + 4, operation, "end"))
        for server, ratio in found.items():
            lane = y + LANE / 2
            parts.append(line(axis.x(1), lane, axis.x(ratio), lane, COLOURS[server], 3))
            parts.append(
                f'<circle cx="{axis.x(ratio):.1f}" cy="{lane:.1f}" r="3.5" fill="{COLOURS[server]}">'
                f"<title>{escape(operation)}, {escape(server)}: {ratio:.2f}×</title></circle>"
            )
            y += LANE
        y += ROW_GAP
    return parts, bottom + 14


def draw_everyday_calls(results: Results, top: float) -> tuple[list[str], float]:
    """A bar for each everyday call and a mark where its goal is; returns the parts and where the panel ends."""
    ratios = {name: median(cpu_ratios(own, plain)) for name, (plain, own) in results.everyday.items()}
    if not ratios:
        return [], top
    goals = {name: EVERYDAY_CALLS[name].goal for name in ratios}
    axis = Axis([*ratios.values(), *goals.values()])
    parts = [
        svg_text(12, top + 22, "CPU of everyday calls, their plain call = 1", kind="title"),
        svg_text(12, top + 41, "The upright mark is the goal: at most so much.", kind="faint"),
    ]
    start = top + HEAD
    bottom = start + len(ratios) * (BAR + 3)
    parts += axis.draw(start, bottom)
    for number, (name, ratio) in enumerate(ratios.items()):
        y = start + number * (BAR + 3) + 2
        left, right = sorted((axis.x(1), axis.x(ratio)))
        parts.append(svg_text(LEFT - 12, y + BAR - 4, name, "end"))
        parts.append(
            f'<rect x="{left:.1f}" y="{y + 1:.1f}" width="{max(right - left, 1):.1f}" height="{BAR - 4}" rx="2" '
            f'style="fill:var(--bar)"/>'
        )
        goal = axis.x(goals[name])
        parts.append(line(goal, y - 1, goal, y + BAR - 1, "var(--goal)", 2))
        parts.append(svg_text(max(right, goal) + 6, y + BAR - 4, f"{ratio:.2f}×", kind="faint"))
    return parts, bottom + 14
