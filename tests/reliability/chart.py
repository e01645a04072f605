"""The charts of a scenario: what it sampled, over time, as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

Points = Sequence[Sequence[float]]

_LEFT, _WIDTH, _HEIGHT, _TOP, _GAP, _RIGHT = 64, 640, 96, 30, 52, 130
# Runs that are no longer have an axis in seconds.
_SHORT_SECONDS = 180.0
# Of the usual distance of two points; what is further apart is not joined.
_LONGEST_GAP = 3
_COLOURS = ("#2563eb", "#d97706", "#6b7280")
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#374151}.title{font-weight:600}"
    ".tick{fill:#6b7280;font-size:11px}.end{text-anchor:end}.middle{text-anchor:middle}"
    ".grid{stroke:#e5e7eb}path{fill:none;stroke-width:1.4}"
)


@dataclass(frozen=True, slots=True)
class _Panel:
    """One set of axes. `lines`: what a series is called there, by its name. A value is shown divided by
    `divisor`."""

    title: str
    lines: Mapping[str, str]
    divisor: float = 1.0


_PANELS: Final = (
    _Panel("Memory of the server's own process (RSS), MiB", {"server_rss_bytes": ""}, 1 << 20),
    _Panel("Memory with workers and decoders (RSS), MiB", {"tree_rss_bytes": ""}, 1 << 20),
    _Panel("Queue: images and jobs that have not ended", {"queue_images_and_jobs": ""}),
    _Panel(
        "Latency of calls that enlarge, of the last 10 s, seconds",
        {"latency_p50_seconds": "median", "latency_p95_seconds": "95th percentile"},
    ),
    _Panel(
        "Descriptors and threads of the server, processes",
        {"descriptors": "descriptors", "threads": "threads", "processes": "processes"},
    ),
    _Panel(
        "Disk and shared memory, MiB",
        {"disk_bytes": "data folder", "shared_memory_bytes": "shared memory"},
        1 << 20,
    ),
)


def chart(series: Mapping[str, Points]) -> str:
    """One panel below the other: those that there are series for, and one of its own for every series that
    belongs to none. A line is broken where nothing was sampled."""
    of_panels = {name for panel in _PANELS for name in panel.lines}
    panels = [
        *(panel for panel in _PANELS if panel.lines.keys() & series.keys()),
        *(_panel_of(name) for name in series if name not in of_panels),
    ]
    longest = max(points[-1][0] for points in series.values() if points)
    body = [line for row, panel in enumerate(panels) for line in _drawn(panel, row, series, longest)]
    height = _TOP + len(panels) * (_HEIGHT + _GAP) - 12
    width = _LEFT + _WIDTH + _RIGHT
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}">',
            f"<style>{_STYLE}</style>",
            '<rect width="100%" height="100%" fill="#ffffff"/>',
            *body,
            "</svg>",
            "",
        ]
    )


def _panel_of(name: str) -> _Panel:
    words = name.replace("_", " ").replace("rss", "RSS")
    if name.endswith("_bytes"):
        return _Panel(f"{words.removesuffix(' bytes')}, MiB", {name: ""}, 1 << 20)
    return _Panel(words, {name: ""})


def _drawn(panel: _Panel, row: int, series: Mapping[str, Points], longest: float) -> list[str]:
    top = _TOP + row * (_HEIGHT + _GAP)
    shown = {name: series[name] for name in panel.lines if series.get(name)}
    most = max((value for points in shown.values() for _, value in points), default=1.0) / panel.divisor
    highest = _above(most or 1.0)
    unit, of_unit = ("min", 60.0) if longest > _SHORT_SECONDS else ("s", 1.0)
    end = _above(longest / of_unit)

    def x(seconds: float) -> float:
        return round(_LEFT + _WIDTH * seconds / of_unit / end, 1)

    def y(value: float) -> float:
        return round(top + _HEIGHT * (1 - value / highest), 1)

    body = [f'<text x="{_LEFT}" y="{top - 10}" class="title">{escape(panel.title)}</text>']
    for share in (0, 0.5, 1):
        at, label = y(highest * share), f"{highest * share:g}"
        body.append(f'<line class="grid" x1="{_LEFT}" x2="{_LEFT + _WIDTH}" y1="{at}" y2="{at}"/>')
        body.append(f'<text x="{_LEFT - 6}" y="{at + 4}" class="tick end">{label}</text>')
    for share in (0, 0.25, 0.5, 0.75, 1):
        label = f"{end * share:g} {unit}"
        at, below = round(_LEFT + _WIDTH * share, 1), top + _HEIGHT + 16
        body.append(f'<text x="{at}" y="{below}" class="tick middle">{label}</text>')
    for number, (name, points) in enumerate(shown.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        gap = _LONGEST_GAP * (points[-1][0] - points[0][0]) / max(1, len(points) - 1)
        steps, before = "", -math.inf
        for seconds, value in points:
            steps += f"{'M' if seconds - before > gap else 'L'}{x(seconds)} {y(value / panel.divisor)}"
            before = seconds
        body.append(f'<path d="{steps}" stroke="{colour}"/>')
        if not panel.lines[name]:
            continue
        beside, beneath = _LEFT + _WIDTH + 12, top + 12 + 18 * number
        body.append(f'<rect x="{beside}" y="{beneath - 8}" width="10" height="10" fill="{colour}"/>')
        body.append(f'<text x="{beside + 16}" y="{beneath + 1}">{escape(panel.lines[name])}</text>')
    return body


def _above(value: float) -> float:
    """A round number that is not below `value`."""
    scale = 10.0 ** math.floor(math.log10(value))
    return next(scale * step for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if scale * step >= value)
