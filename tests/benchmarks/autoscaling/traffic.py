"""Who asks for what, and when: a day's curve with sudden bursts."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Burst:
    """For `seconds` from `at` on, `factor` times as many requests come as the curve says."""

    at: float
    seconds: float
    factor: float = 10.0


BURSTS = (
    Burst(1 * HOUR, 300.0),
    Burst(9.5 * HOUR, 600.0),
    Burst(15 * HOUR, 900.0),
    Burst(20 * HOUR, 300.0),
)


@dataclass(frozen=True, slots=True)
class Day:
    """Device seconds asked for each second: lowest at 4 in the morning, highest at 16, and bursts."""

    lowest: float = 0.4
    highest: float = 2.4
    bursts: tuple[Burst, ...] = BURSTS

    def rate(self, at: float) -> float:
        middle, swing = (self.highest + self.lowest) / 2, (self.highest - self.lowest) / 2
        rate = middle - swing * math.cos(2 * math.pi * (at / HOUR - 4) / 24)
        return rate * max(
            (each.factor for each in self.bursts if 0 <= at - each.at < each.seconds), default=1
        )

    @property
    def highest_rate(self) -> float:
        """A bound on `rate`."""
        return self.highest * max((each.factor for each in self.bursts), default=1)


@dataclass(frozen=True, slots=True)
class Request:
    """An image that is asked for at a moment, and the device seconds that it takes."""

    at: float
    seconds: float
    caller: str
    batch: bool


@dataclass(frozen=True, slots=True)
class Mix:
    """Images as in the load benchmark: mostly small ones with sides of 128 to 512 pixels, and as batch work
    a few large ones. `megapixels_per_second`: of input, what one device does.
    """

    megapixels_per_second: float
    large_share: float = 0.03
    large_megapixels: float = 4.0
    callers: int = 20

    @property
    def mean_seconds(self) -> float:
        small = (320 / 1000) ** 2
        mean = self.large_share * self.large_megapixels + (1 - self.large_share) * small
        return mean / self.megapixels_per_second

    def request(self, at: float, chance: random.Random) -> Request:
        batch = chance.random() < self.large_share
        small = chance.randint(128, 512) * chance.randint(128, 512) / 1e6
        seconds = (self.large_megapixels if batch else small) / self.megapixels_per_second
        return Request(at, seconds, f"caller {chance.randrange(self.callers)}", batch)


def requests(day: Day, mix: Mix, seed: int, until: float) -> Iterator[Request]:
    """The requests of a day in order, up to a moment: a Poisson process whose rate follows the day."""
    chance, at = random.Random(seed), 0.0
    most = day.highest_rate / mix.mean_seconds
    while True:
        at += chance.expovariate(most)
        if at >= until:
            return
        if chance.random() * day.highest_rate < day.rate(at):
            yield mix.request(at, chance)
