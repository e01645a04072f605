"""Sections of `docs/benchmarks.md` beside the contest's tables: arithmetic, processor time, memory of tall
images, cores that share no cache, cards."""

from __future__ import annotations

import statistics
from typing import Any

_ARITHMETIC = """\
## How much of the machine it uses

How many operations the engine does a second, counting the network's convolutions as they are written, against
what the same cores do in products of matrices (numpy, fp32, 2048x2048, once in each round of the case). A
share above 1 is Winograd's: convolutions of 3x3 are computed with a quarter to a fifth of their
multiplications.
"""

_SHARES = """\
Where its processor time goes, by library (`python -m tests.benchmarks.shares`, commit `{commit}`): what is
not convolution is all that there is to gain without another way to convolve.
"""

_MEMORY = """\
## Memory of tall images

`python -m tests.benchmarks.memory`: an image {width} pixels wide with {model}, whose rows are
made while they are read and whose result is thrown away. Peak memory is that of the engine's process with
everything in it. Commit `{commit}`.

| rows | peak memory | planned beside the model | first rows after | all rows after |
| --: | --: | --: | --: | --: |
"""

_POOLS = """\
## Cores that share no cache

Each thread that computes has memory of its own, which it uses again and again: with one pool for all of them
a core often writes to what another wrote last, and fetches it from that one's caches first. How long that
takes depends on where a virtual machine's cores are at the moment, on one chip or on two.
`python -m tests.benchmarks.pools`, commit `{commit}`: both ways in turns in one process. "Apart" are pairs of
runs before and after which a core took, on average, at least {apart} times as long to fill 256 KiB that the
other one had written as to fill its own, "together" those with at most {together}; left out in between:
{between}.

| | cores | pairs | a pool for each thread | one pool for all | ratio |
| --- | --- | --: | --: | --: | --: |
"""
_APART, _TOGETHER = 1.75, 1.2

_NO_CARD = (
    "Open: the code was written and checked on a CPU, and has not yet run on a card. `make bench-gpu` "
    "measures it, against RealESRGANer in half precision and torch.compile of the plain network."
)
_WIDE, _COMPACT = ("real-esrgan-x4-plus", 960, 540), ("real-esrgan-animevideo-v3", 1920, 1080)
_CARD_GOALS = (
    (_WIDE, "engine_together", "images_per_second", "images a second", 16),
    (_COMPACT, "engine_together", "images_per_second", "images a second", 60),
    (_WIDE, "engine_together", "share_of_matrix_rate", "share of the card's fp16 matrix rate", 0.4),
    (_WIDE, "end_to_end", "of_engine", "images a second end to end with PNG, of the engine's", 0.9),
)


def arithmetic(cases: list[dict[str, Any]]) -> list[str]:
    """Of the cases that have the matrix rate."""
    lines = [
        _ARITHMETIC,
        "| | operations an image | engine, a second | matrix product, a second | engine / matrix product |",
        "| --- | --: | --: | --: | --: |",
    ]
    for case in cases:
        seconds = case["results"].get("engine", {}).get("seconds")
        if seconds and "matrix_flops" in case:
            rate = case["operations"] / statistics.median(seconds)
            matrix = statistics.median(case["matrix_flops"])
            lines.append(
                f"| {case['model']}, {case['width']}x{case['height']} | {case['operations'] / 1e9:,.0f} G | "
                f"{rate / 1e9:,.0f} G | {matrix / 1e9:,.0f} G | {rate / matrix:.2f} |"
            )
    return [*lines, ""] if len(lines) > 3 else []


def shares(report: dict[str, Any]) -> list[str]:
    """Of processor time, by what libraries do."""
    parts = list(report["cases"][0]["shares"])
    lines = [
        _SHARES.format(commit=report["machine"]["commit"][:12]),
        f"| | {' | '.join(parts)} |",
        f"| --- |{' --: |' * len(parts)}",
    ]
    for case in report["cases"]:
        found = " | ".join(f"{case['shares'][part]:.0%}" for part in parts)
        lines.append(f"| {case['model']}, {case['width']}x{case['height']} | {found} |")
    return [*lines, ""]


def memory(report: dict[str, Any]) -> list[str]:
    rows, commit = report["rows"], report["machine"]["commit"][:12]
    lines = []
    for each in rows:
        peak, planned = (f"{each[name] / 2**20:,.0f} MiB" for name in ("peak_bytes", "planned_bytes"))
        first, last = (f"{each[name]:.1f} s" for name in ("first_rows_seconds", "seconds"))
        lines.append(f"| {each['height']:,} | {peak} | {planned} | {first} | {last} |")
    return [_MEMORY.format(**rows[0], commit=commit) + "\n".join(lines), ""]


def pools(report: dict[str, Any]) -> list[str]:
    """Medians of pairs by where the cores were."""
    lines, between = [], 0
    for case in report["cases"]:
        together = [each for each in case["samples"] if each["fetching"] <= _TOGETHER]
        apart = [each for each in case["samples"] if each["fetching"] >= _APART]
        between += len(case["samples"]) - len(together) - len(apart)
        for where, samples in (("together", together), ("apart", apart)):
            if samples:
                each, one = (
                    statistics.median(sample[kind] for sample in samples) for kind in ("each", "one")
                )
                ratio = statistics.median(sample["each"] / sample["one"] for sample in samples)
                lines.append(
                    f"| {case['model']}, {case['width']}x{case['height']} | {where} | {len(samples)} | "
                    f"{each:.2f} s | {one:.2f} s | {ratio:.2f} |"
                )
    commit = report["machine"]["commit"][:12]
    said = _POOLS.format(commit=commit, apart=_APART, together=_TOGETHER, between=between)
    return [said + "\n".join(lines), ""]


def card(report: dict[str, Any] | None) -> list[str]:
    """`report`: what `make bench-gpu` saved; None as long as nobody ran it."""
    if report is None:
        said = _NO_CARD
    else:
        commit = report["machine"]["commit"][:12]
        said = f"{report['device']['name']}, commit `{commit}`, written by `make bench-gpu`."
    lines = ["## On a CUDA card", "", said, "", "| | | goal, H200 | measured |", "| --- | --- | --: | --: |"]
    for case, entrant, field, what, goal in _CARD_GOALS:
        model, width, height = case
        found = _found(report, case, entrant, field)
        lines.append(f"| {model}, {width}x{height} | {what} | {goal:g} | {found} |")
    return [*lines, ""]


def _found(report: dict[str, Any] | None, case: tuple[str, int, int], entrant: str, field: str) -> str:
    for each in report["cases"] if report else []:
        if (each["model"], each["width"], each["height"]) == case:
            result = each["results"].get(entrant, {})
            return f"{result[field]:.3g}" if field in result else result.get("failed", "not measured")
    return "open"
