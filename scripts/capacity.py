"""What upscaling costs, and how many replicas it takes, from a price an hour and what was measured.

    python scripts/capacity.py --price-per-hour 0.08 --megapixels-per-day 20000 [--model NAME …]

Speeds are those of `docs/benchmarks/peers.json`: one server on the machine of the benchmark, end to end. With
`--megapixels-per-second` yours take their place: Prometheus tells it of a server under load as
`rate(upscaled_device_pixels_total[1h]) / rate(upscaled_device_busy_seconds_total[1h]) / 1e6`.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

PEERS = Path(__file__).resolve().parents[1] / "docs" / "benchmarks" / "peers.json"
_SECONDS_A_DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Speed:
    """Of one server, in megapixels of input a second. `quiet`: whether the machine did nothing else."""

    model: str
    width: int
    height: int
    megapixels_per_second: float
    quiet: bool


@dataclass(frozen=True, slots=True)
class Demand:
    """What is asked of a service. `busy`: the share of the time for which devices may be at work, so that
    there is room for chance; `peak`: how many times the mean the busiest hour asks for.
    """

    megapixels_per_day: float
    price_per_hour: float
    busy: float = 0.6
    peak: float = 3.0


@dataclass(frozen=True, slots=True)
class Cost:
    """`replicas_mean` is what an autoscaler comes to over a day, `replicas_peak` what it must be able to
    reach. Prices are in the currency of the hourly price.
    """

    per_thousand_megapixels: float
    replicas_mean: float
    replicas_peak: int
    per_day_autoscaled: float
    per_day_fixed: float


def measured() -> list[Speed]:
    """Of each model the largest case, which says least of what an image costs besides its pixels."""
    report = json.loads(PEERS.read_text())
    found: dict[str, Speed] = {}
    for case in sorted(report["cases"], key=lambda case: case["width"] * case["height"]):
        seconds = case["results"].get("end_to_end", {}).get("seconds")
        if seconds:
            speed = case["width"] * case["height"] / 1e6 / statistics.median(seconds)
            quiet = case["load"] <= 0.25 * report["machine"]["cores"]
            found[case["model"]] = Speed(case["model"], case["width"], case["height"], speed, quiet)
    return list(found.values())


def cost(megapixels_per_second: float, demand: Demand) -> Cost:
    """For a server of this speed, which costs `price_per_hour` whether it has work or not."""
    useful = megapixels_per_second * demand.busy
    mean = demand.megapixels_per_day / _SECONDS_A_DAY / useful
    peak = math.ceil(mean * demand.peak)
    return Cost(
        per_thousand_megapixels=1000 / useful / 3600 * demand.price_per_hour,
        replicas_mean=mean,
        replicas_peak=peak,
        per_day_autoscaled=max(1.0, mean) * 24 * demand.price_per_hour,
        per_day_fixed=peak * 24 * demand.price_per_hour,
    )


def table(speeds: list[tuple[str, float]], demand: Demand) -> str:
    """One line for each name and speed."""
    lines = [
        f"{'model':28} {'MP/s':>8} {'price/1000 MP':>14} {'replicas, mean':>15} {'at peak':>8} "
        f"{'price/day, scaled':>18} {'fixed at peak':>14}"
    ]
    for name, speed in speeds:
        found = cost(speed, demand)
        lines.append(
            f"{name:28} {speed:8.4f} {found.per_thousand_megapixels:14.3g} {found.replicas_mean:15.3g} "
            f"{found.replicas_peak:8d} {found.per_day_autoscaled:18.2f} {found.per_day_fixed:14.2f}"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--price-per-hour", type=_positive, required=True, help="of one server, in any currency"
    )
    parser.add_argument(
        "--megapixels-per-day", type=_positive, required=True, help="of input, all images together"
    )
    parser.add_argument("--model", action="append", default=[], help="default: every model that was measured")
    parser.add_argument("--megapixels-per-second", type=_positive, help="of input: what your server does")
    parser.add_argument("--busy", type=_share, default=0.6, help="share of the time for work (default 0.6)")
    parser.add_argument(
        "--peak", type=_positive, default=3.0, help="the busiest hour, by the mean (default 3)"
    )
    options = parser.parse_args()
    demand = Demand(options.megapixels_per_day, options.price_per_hour, options.busy, options.peak)
    if options.megapixels_per_second:
        name = ", ".join(options.model) or "as given"
        print(table([(name, options.megapixels_per_second)], demand))
        return 0
    speeds = {each.model: each.megapixels_per_second for each in measured()}
    unknown = [name for name in options.model if name not in speeds]
    if unknown:
        parser.error(
            f"not measured: {', '.join(unknown)}; give --megapixels-per-second, or one of {', '.join(speeds)}"
        )
    print(table([(name, speeds[name]) for name in options.model or speeds], demand))
    return 0


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and at most 1")
    return value


if __name__ == "__main__":
    sys.exit(main())
