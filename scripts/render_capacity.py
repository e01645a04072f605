"""What pages say of speed and capacity, from the JSON of benchmarks.

    python scripts/render_capacity.py [--check]

Reads `docs/benchmarks/{peers,load,autoscaling}.json`; replaces what stands between a part's two marks in
`docs/capacity.md` and `docs/slo.md` and the seconds of the README's table of models, and writes
`docs/benchmarks/autoscaling.svg`. A test checks that all are what the JSON gives.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from pathlib import Path
from typing import Any

from autoscaling_chart import chart
from capacity import measured
from pages import REPO, with_parts, write_or_check

PAGE = REPO / "docs" / "capacity.md"
OBJECTIVES = REPO / "docs" / "slo.md"
README = REPO / "README.md"
MEASURED = REPO / "docs" / "benchmarks"
CHART = MEASURED / "autoscaling.svg"

_TITLES = {
    "autoscaled": "30 s of queue for each replica, which starts within 60 s",
    "lower_target": "10 s of queue for each replica",
    "with_busy": "30 s of queue, or devices at work for more than 70% of the time",
    "more_at_least": "never fewer than 5 replicas",
    "slow_start": "a replica starts within 300 s: a node must come first",
    "short_queue": "`UPSCALED_MAX_PENDING_SECONDS=10`, below the target of 30 s",
    "lower_target_short_queue": "`UPSCALED_MAX_PENDING_SECONDS=10` and 10 s of queue for each replica",
    "manifests": "as `deploy/kubernetes` has it: `UPSCALED_MAX_PENDING_SECONDS=30`, 10 s of queue for each "
    "replica or devices at work for more than 70% of the time",
    "no_retries": "clients do not come back when they are refused",
    "fixed": "always 5 replicas",
    "fixed_at_the_peak": "always 20 replicas",
}
_SCRIPT = "render_capacity.py"
# By a model that was not measured, the one with the same network, and so with the same speed.
_SAME_NETWORK = {"real-esrgan-x4-v3-wdn": "real-esrgan-x4-v3"}
# A row of the README's table: a model's name, what it is good for, seconds.
_MODEL_ROW = re.compile(r"^(?P<before>\| `(?P<model>[^`]+)`[^|]*\|[^|]*\|)[^|]*\|", re.MULTILINE)


def with_seconds(page: str) -> str:
    """The README with what a megapixel takes in its table of models, by the measured speeds. Raises
    ValueError where a model that was measured has no row."""
    seconds = {each.model: 1 / each.megapixels_per_second for each in measured()}
    for model, same in _SAME_NETWORK.items():
        seconds[model] = seconds[same]
    seen: set[str] = set()

    def cell(row: re.Match[str]) -> str:
        seen.add(row["model"])
        found = seconds.get(row["model"])
        said = "not measured" if found is None else f"{found:.{0 if found >= 10 else 1}f}"
        return f"{row['before']} {said} |"

    page = _MODEL_ROW.sub(cell, page)
    if missing := seconds.keys() - seen:
        raise ValueError(f"README.md has no row for {', '.join(sorted(missing))}")
    return page


def _read(name: str) -> Any:
    return json.loads((MEASURED / f"{name}.json").read_text())


def _speeds() -> str:
    machine = _read("peers")["machine"]
    device = f"{machine['cpu']}, {machine['cores']} cores"
    lines = [
        "| device | model | image | megapixels of input a second | machine |",
        "| --- | --- | --- | --: | --- |",
    ]
    for each in sorted(measured(), key=lambda each: -each.megapixels_per_second):
        busy = "quiet" if each.quiet else "perhaps busy with other work too"
        speed = f"{each.megapixels_per_second:.3g}"
        lines.append(f"| {device} | {each.model} | {each.width}x{each.height} | {speed} | {busy} |")
    return "\n".join([*lines, "| CUDA cards | all | | open: not measured yet | |"])


def _load() -> str:
    found = _read("load")
    alone, beside = (found["beside_a_large_job"][each]["small"] for each in ("alone", "beside_batch"))
    together, cost = found["all_at_once"], found["policy"]
    many = found["many_callers"]
    large = found["beside_a_large_job"]["large_megapixels"]
    return "\n".join(
        [
            f"- Small images one after another, `{found['model']}`: median {alone['p50_seconds']:.2f} s, "
            f"95th percentile {alone['p95_seconds']:.2f} s. Beside batch work of {large:g} megapixels: "
            f"{beside['p50_seconds']:.2f} and {beside['p95_seconds']:.2f} s.",
            f"- {together['images']} small images all at once take {together['at_once_seconds']:.1f} s, one "
            f"after another {together['one_after_another_seconds']:.1f} s: a queue costs little throughput.",
            f"- {many['callers']} callers who ask again as soon as they are answered: median "
            f"{many['small']['p50_seconds']:.0f} s, 95th percentile {many['small']['p95_seconds']:.0f} s, "
            f"{many['refused']} refused. So saturation feels with the default"
            f" bounds.",
            f"- Scheduling costs {cost['microseconds_per_unit']:.0f} µs for each unit of work with "
            f"{cost['units_waiting']:,} waiting.",
        ]
    )


def _simulation(found: dict[str, Any]) -> str:
    day, mix, main = found["day"], found["mix"], found["scenarios"]["autoscaled"]
    settings, scaler = main["settings"], main["settings"]["scaler"]
    factor = day["bursts"][0]["factor"]
    bursts = [f"{each['at'] / 3600:.4g} h ({each['seconds'] / 60:g} min)" for each in day["bursts"]]
    return "\n".join(
        [
            f"- **Traffic**: {main['summary']['asked']:,} images a day. They ask for {day['lowest']:g} "
            f"device seconds a second at 4 h and {day['highest']:g} at 16 h, and {factor:g} times as much in "
            f"bursts at {', '.join(bursts)}. {1 - mix['large_share']:.0%} of them have sides of 128 to 512 "
            f"pixels; the others have {mix['large_megapixels']:g} megapixels and are batch work. There are "
            f"{mix['callers']} callers.",
            f"- **Devices**: one for each replica, {found['megapixels_per_second']:g} megapixels a second: "
            f"`{found['model']}` on the benchmark's two cores. A step takes up to 10% more or less than "
            "estimated.",
            "- **Servers**: the real admission and scheduler with their defaults: "
            f"{settings['max_open_runs']} images at the device, {settings['max_waiting_runs']} waiting, "
            f"{settings['max_pending_seconds']:g} device seconds pending, {settings['max_calls']} calls.",
            f"- **Clients**: take the replicas in turn; refused, they come back when the server says, up to "
            f"{settings['max_retries']} times, as the SDK does.",
            f"- **Autoscaler**: Kubernetes' rule every {scaler['sync_seconds']:g} s, on a scrape every "
            f"{scaler['scrape_seconds']:g} s: {scaler['minimum']} to {scaler['maximum']} replicas, at most "
            f"doubled or {scaler['up_pods']} more within {scaler['up_period_seconds']:g} s, one fewer in "
            f"{scaler['down_period_seconds']:g} s after {scaler['calm_seconds']:g} s of calm. One that goes "
            f"has {scaler['grace_seconds']:g} s to finish.",
        ]
    )


def _days(found: dict[str, Any]) -> str:
    lines = [
        "| one thing changed | wait, median | 95th | 99th | refused in the end | refusals | most replicas | "
        "replica hours | cut off |",
        "| --- | --: | --: | --: | --: | --: | --: | --: | --: |",
    ]
    for name, each in found["scenarios"].items():
        day = each["summary"]
        waits = " | ".join(f"{day[f'wait_{share}_seconds']:.1f} s" for share in ("p50", "p95", "p99"))
        lines.append(
            f"| {_TITLES[name]} | {waits} | {day['refused_share']:.2%} | {day['turned_away']:,} | "
            f"{day['most_replicas']} | {day['replica_hours']:.0f} | {day['cut_off']} |"
        )
    return "\n".join(lines)


def _latency() -> str:
    found = _read("load")
    alone, beside = (found["beside_a_large_job"][each]["small"] for each in ("alone", "beside_batch"))
    slow = min(
        (case for case in _read("peers")["cases"] if case["model"] == "real-esrgan-x4-plus"),
        key=lambda case: case["width"] * case["height"],
    )
    seconds = statistics.median(slow["results"]["end_to_end"]["seconds"])
    return "\n".join(
        [
            f"On the two cores of the [load benchmark](benchmarks/load.json), small images with "
            f"`{found['model']}` took {alone['p95_seconds']:.2f} s at the 95th percentile",
            f"alone, and {beside['p95_seconds']:.2f} s beside batch work of "
            f"{found['beside_a_large_job']['large_megapixels']:g} megapixels.",
            "",
            f"5 s suit the compact models on a CPU. `{slow['model']}` on two cores takes about "
            f"{seconds:.0f} s for an image of {slow['width']}x{slow['height']} with nothing before it "
            "([benchmarks](benchmarks.md)).",
        ]
    )


def outputs() -> dict[Path, str]:
    """What every generated file should hold."""
    found = _read("autoscaling")
    parts = {"speeds": _speeds(), "load": _load(), "simulation": _simulation(found), "days": _days(found)}
    return {
        PAGE: with_parts(PAGE.read_text(), parts, _SCRIPT),
        CHART: chart(found),
        OBJECTIVES: with_parts(OBJECTIVES.read_text(), {"latency": _latency()}, _SCRIPT),
        README: with_seconds(README.read_text()),
    }


def main() -> int:
    return write_or_check(__doc__, outputs())


if __name__ == "__main__":
    sys.exit(main())
