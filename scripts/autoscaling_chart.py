"""The chart of a simulated day: what is asked for and what is there, how long images wait, how many are
refused. The day is on the left, its largest burst on the right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

_HEIGHT, _TOP, _GAP = 128, 64, 58
_MAIN, _TUNED = "autoscaled", "lower_target_short_queue"
_COLOURS = {_MAIN: "#6b7280", _TUNED: "#2563eb"}
_NAMES = {
    _MAIN: "as deploy/kubernetes has it",
    _TUNED: "10 s of queue for each replica, at most 10 s pending",
}
_OFFERED = "#fcd34d"
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#374151}.title{font-weight:600}"
    ".tick{fill:#6b7280;font-size:11px}.end{text-anchor:end}.middle{text-anchor:middle}"
    ".grid{stroke:#e5e7eb}path{fill:none;stroke-width:1.4}"
)

Values = Sequence[float | None]


@dataclass(frozen=True, slots=True)
class _Span:
    """Hours that are shown from `left` on, over `width`, with a mark at every `every`."""

    left: int
    width: int
    begin: float
    end: float
    every: float


_DAY = _Span(left=56, width=460, begin=0, end=24, every=4)
_BURST = _Span(left=572, width=340, begin=14.75, end=15.75, every=0.25)


class _Plot:
    """One set of axes: hours to the right, values from 0 up to `highest`."""

    def __init__(self, row: int, span: _Span, title: str, highest: float, hours: float, unit: str) -> None:
        """`hours`: of a bin."""
        self._top = _TOP + row * (_HEIGHT + _GAP)
        self._span, self._highest, self._hours = span, highest, hours
        left, right = span.left, span.left + span.width
        self.body = [f'<text x="{left}" y="{self._top - 10}" class="title">{escape(title)}</text>']
        for share in (0, 0.5, 1):
            y = self.y(highest * share)
            self.body.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y}" y2="{y}"/>')
            label = f"{highest * share:g}{unit}"
            self.body.append(f'<text x="{left - 6}" y="{y + 4}" class="tick end">{label}</text>')
        for number in range(round((span.end - span.begin) / span.every) + 1):
            hour = span.begin + number * span.every
            shown = f"{int(hour)}:{round(hour % 1 * 60):02d}" if span.every < 1 else f"{hour:g} h"
            x, y = self.x(hour), self.y(0) + 16
            self.body.append(f'<text x="{x}" y="{y}" class="tick middle">{shown}</text>')

    def x(self, hour: float) -> float:
        share = (hour - self._span.begin) / (self._span.end - self._span.begin)
        return round(self._span.left + share * self._span.width, 1)

    def y(self, value: float) -> float:
        return round(self._top + _HEIGHT * (1 - min(value, self._highest) / self._highest), 1)

    def area(self, values: Values, colour: str) -> None:
        points = [(self.x(hour), self.y(value or 0)) for hour, value in self._shown(values)]
        corners = [(points[0][0], self.y(0)), *points, (points[-1][0], self.y(0))]
        self.body.append(f'<polygon points="{" ".join(f"{x},{y}" for x, y in corners)}" fill="{colour}"/>')

    def line(self, values: Values, colour: str, *, dashed: bool = False) -> None:
        """Broken where there is no value."""
        steps, pen = [], "M"
        for hour, value in self._shown(values):
            if value is None:
                pen = "M"
                continue
            steps.append(f"{pen}{self.x(hour)} {self.y(value)}")
            pen = "L"
        dash = ' stroke-dasharray="2 3"' if dashed else ""
        self.body.append(f'<path d="{"".join(steps)}" stroke="{colour}"{dash}/>')

    def _shown(self, values: Values) -> list[tuple[float, float | None]]:
        """With the middle of each bin, in hours."""
        middles = [((at + 0.5) * self._hours, value) for at, value in enumerate(values)]
        return [each for each in middles if self._span.begin <= each[0] <= self._span.end]


def chart(found: dict[str, Any]) -> str:
    """As SVG."""
    series, hours = found["series"], found["bin_seconds"] / 3600
    rows = (_load, _waits, _refused)
    plots = [draw(number, span, series, hours) for number, draw in enumerate(rows) for span in (_DAY, _BURST)]
    height = _TOP + len(rows) * (_HEIGHT + _GAP) - 14
    total = _BURST.left + _BURST.width + 24
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total} {height}" width="{total}">',
            f"<style>{_STYLE}</style>",
            '<rect width="100%" height="100%" fill="#ffffff"/>',
            *_legend(),
            *(line for plot in plots for line in plot.body),
            "</svg>",
            "",
        ]
    )


def _load(row: int, span: _Span, series: dict[str, Any], hours: float) -> _Plot:
    offered = series[_MAIN]["offered"]
    most = max(max(offered), *(max(each["ready"]) for each in series.values()))
    title = "Replicas, and device seconds asked for each second" if span is _DAY else "The largest burst"
    plot = _Plot(row, span, title, _above(most), hours, "")
    plot.area(offered, _OFFERED)
    for name, each in series.items():
        plot.line(each["ready"], _COLOURS[name])
    return plot


def _waits(row: int, span: _Span, series: dict[str, Any], hours: float) -> _Plot:
    most = _most(series, lambda each: each["wait_p95_seconds"])
    title = "Wait of interactive images: 95th percentile, and median (dotted)" if span is _DAY else ""
    plot = _Plot(row, span, title, _above(most), hours, " s")
    for name, each in series.items():
        plot.line(each["wait_p95_seconds"], _COLOURS[name])
        plot.line(each["wait_p50_seconds"], _COLOURS[name], dashed=True)
    return plot


def _refused(row: int, span: _Span, series: dict[str, Any], hours: float) -> _Plot:
    def per_minute(each: dict[str, Any]) -> Values:
        return [count / (60 * hours) for count in each["refused"]]

    title = "Images refused in the end, per minute" if span is _DAY else ""
    plot = _Plot(row, span, title, _above(max(1.0, _most(series, per_minute))), hours, "")
    for name, each in series.items():
        plot.line(per_minute(each), _COLOURS[name])
    return plot


def _most(series: dict[str, Any], values: Callable[[dict[str, Any]], Values]) -> float:
    return max(value for each in series.values() for value in values(each) if value is not None)


def _legend() -> list[str]:
    lines, x = [], _DAY.left
    entries = [(_OFFERED, "asked for"), *((_COLOURS[name], _NAMES[name]) for name in _COLOURS)]
    for colour, text in entries:
        lines.append(f'<rect x="{x}" y="14" width="12" height="12" fill="{colour}"/>')
        lines.append(f'<text x="{x + 18}" y="24">{escape(text)}</text>')
        x += 40 + 7 * len(text)
    return lines


def _above(value: float) -> float:
    """A round number that is not below `value`."""
    scale = 10.0 ** math.floor(math.log10(value))
    return next(scale * step for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if scale * step >= value)
