"""The tables of `docs/metrics.md`: all metrics, from the literals in `telemetry/metrics.py`, and what they
cost, from `docs/benchmarks/telemetry.json`, which `make bench-telemetry` wrote.

    python scripts/render_metrics.py [--check]

Replaces what stands between the page's two marks. With `--check` nothing is written, and a page that is not
up to date is an error.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client import Counter, Gauge, Histogram, Info

from upscaled_server.telemetry import metrics

REPO = Path(__file__).resolve().parents[1]
PAGE = REPO / "docs" / "metrics.md"
MEASURED = REPO / "docs" / "benchmarks" / "telemetry.json"


@dataclass(frozen=True, slots=True)
class Described:
    """A metric by the name that it is scraped under, that of a histogram without the suffixes of its
    series."""

    name: str
    kind: str
    labels: tuple[str, ...]
    says: str
    buckets: tuple[float, ...] = ()


def described() -> list[Described]:
    """All of them, in the order of their names."""
    counted = [
        each for each in vars(metrics).values() if isinstance(each, Counter | Gauge | Histogram | Info)
    ]
    asked = (
        Described(f"{name}_total" if kind == metrics.COUNTER else name, kind, labels, says)
        for name, (kind, says, labels) in metrics.SNAPSHOT.items()
    )
    return sorted([*map(_described, counted), *asked], key=lambda each: each.name)


def series() -> list[str]:
    """The names of all series, those of histograms with their suffixes."""
    return list(_series())


def _series() -> Iterator[str]:
    for each in described():
        if each.kind == "histogram":
            yield from (f"{each.name}_{suffix}" for suffix in ("bucket", "count", "sum"))
        else:
            yield each.name


def _described(instrument: Counter | Gauge | Histogram | Info) -> Described:
    (family,) = instrument.describe()
    # prometheus_client has no public way to ask for the labels and buckets of what it declares.
    labels, buckets = tuple(instrument._labelnames), ()
    if isinstance(instrument, Histogram):
        buckets = tuple(instrument._kwargs.get("buckets", Histogram.DEFAULT_BUCKETS))
    if isinstance(instrument, Info):
        labels = (*labels, "version")
    suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
    return Described(family.name + suffix, family.type, labels, family.documentation, buckets)


def rendered(page: str) -> str:
    """The page with its tables anew."""
    for name, text in {"metrics": table(), "cost": cost(json.loads(MEASURED.read_text()))}.items():
        begin, end = f"<!-- {name}, by scripts/render_metrics.py -->\n", f"<!-- end of {name} -->"
        before, _, rest = page.partition(begin)
        _, found, after = rest.partition(end)
        if not found:
            raise ValueError(f"docs/metrics.md has no marks for {name}")
        page = f"{before}{begin}\n{text}\n\n{end}{after}"
    return page


def cost(report: dict[str, Any]) -> str:
    """What a scrape and what a request take."""
    scrape = report["scrape"]
    lines = [
        f"A scrape of a server that {scrape['callers']:,} callers have used: {scrape['series']} series, "
        f"{scrape['bytes'] / 1e3:.0f} kB, {scrape['cpu_ms']:.1f} ms of the server's processor time "
        f"(mean of {scrape['scrapes']}). Median wall time {scrape['idle_wall_ms']['median']:.1f} ms of an "
        f"idle server, {scrape['loaded_wall_ms']['median']:.1f} ms of one at work.",
        "",
        "| request | telemetry | processor time of the server | of all processes | of that without |",
        "| --- | --- | --: | --: | --: |",
    ]
    for request, servers in report["requests"].items():
        for name, each in servers.items():
            server, every = each["server_cpu_ms"], each["all_cpu_ms"]
            lines.append(
                f"| `{request}` | {name} | {server['median']:.2f} ms | {every['median']:.2f} ms "
                f"| {server['of_without']:.2f}, {every['of_without']:.2f} |"
            )
    turns = len(next(iter(next(iter(report["requests"].values())).values()))["all_cpu_ms"]["turns"])
    return "\n".join(
        [
            *lines,
            "",
            f"Medians of {turns} turns, the servers in alternation, on {report['cores']} cores with other "
            f"work on them (load {report['load_average_before']:.0f}), Python {report['python']}, commit "
            f"`{report['commit'][:12]}`{' (changed)' * report['changed']}.",
        ]
    )


def table() -> str:
    lines = ["| metric | kind | labels | what it says |", "| --- | --- | --- | --- |"]
    for each in described():
        labels = ", ".join(f"`{label}`" for label in each.labels) or "-"
        buckets = f" Buckets: {', '.join(f'{bound:g}' for bound in each.buckets)}." if each.buckets else ""
        lines.append(f"| `{each.name}` | {each.kind} | {labels} | {each.says}{buckets} |")
    return "\n".join(lines)


def main() -> int:
    page = PAGE.read_text()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(rendered(page))
        return 0
    if rendered(page) != page:
        print("docs/metrics.md is not up to date; run `python scripts/render_metrics.py`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
