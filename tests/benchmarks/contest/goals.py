"""What the contest and the memory of tall images are to show."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.benchmarks.contest.ratios import ratio

_VIDEO, _GENERAL = "real-esrgan-animevideo-v3", "real-esrgan-x4-v3"
_ANIME, _PLUS = "real-esrgan-x4-plus-anime", "real-esrgan-x4-plus"

# Of the engine's time against another's, by model, width and height.
_AGAINST = (
    ("realesrganer", (_VIDEO, 448, 640), 0.32),
    ("realesrganer", (_GENERAL, 448, 640), 0.40),
    ("realesrganer", (_ANIME, 448, 320), 0.40),
    ("realesrganer", (_PLUS, 448, 320), 0.45),
    ("ncnn_py", (_VIDEO, 448, 640), 0.55),
    ("ncnn_py", (_ANIME, 448, 320), 0.60),
)
_END_TO_END, _END_TO_END_FROM_PIXELS = 1.10, 280_000
_LARGE, _LARGE_MEMORY = (_VIDEO, 2304, 1728), 1 / 3
_TALL_MEMORY, _FIRST_ROWS = 1.05, 1 / 10
_LARGEST_ERROR = 1


def missed(report: dict[str, Any], tall: dict[str, Any]) -> list[str]:
    """Goals that were not reached, or not measured, in words. `report` is that of all peers, `tall` that of
    the memory of tall images."""
    cases = {(each["model"], each["width"], each["height"]): each["results"] for each in report["cases"]}
    return [*_ratios_missed(cases), *_memory_missed(cases, tall), *_errors_missed(cases)]


def _ratios_missed(cases: dict[tuple[str, int, int], Any]) -> Iterator[str]:
    for entrant, case, most in _AGAINST:
        found = ratio(cases.get(case, {}), "engine", entrant)
        if found is None or found > most:
            yield f"engine / {entrant}, {case}: {found} of at most {most}"
    for case in cases:
        _, width, height = case
        if width * height >= _END_TO_END_FROM_PIXELS:
            near = ratio(cases[case], "end_to_end", "engine")
            if near is None or near > _END_TO_END:
                yield f"end to end / engine, {case}: {near} of at most {_END_TO_END}"


def _memory_missed(cases: dict[tuple[str, int, int], Any], tall: dict[str, Any]) -> Iterator[str]:
    peaks = [max(cases[_LARGE][name]["peak_bytes"]) for name in ("engine", "realesrganer")]
    if not peaks[0] <= _LARGE_MEMORY * peaks[1]:
        yield f"memory, {_LARGE}: {peaks[0] / peaks[1]:.2f} of at most {_LARGE_MEMORY:.2f}"
    least, most = sorted(each["peak_bytes"] for each in tall["rows"])
    if not most <= _TALL_MEMORY * least:
        yield f"memory of a tall image: {most / least:.3f} of at most {_TALL_MEMORY}"
    tallest = max(tall["rows"], key=lambda each: int(each["height"]))
    share = tallest["first_rows_seconds"] / tallest["seconds"]
    if not share <= _FIRST_ROWS:
        yield f"first rows of a tall image: after {share:.2f} of the time, at most {_FIRST_ROWS}"


def _errors_missed(cases: dict[tuple[str, int, int], Any]) -> Iterator[str]:
    for case, results in cases.items():
        for entrant in ("engine", "end_to_end"):
            largest = results[entrant]["accuracy"]["largest"]
            if largest > _LARGEST_ERROR:
                yield f"largest error, {entrant}, {case}: {largest} of at most {_LARGEST_ERROR}"
