"""What is asked of the pool: by whom, with which right, and how much of a device it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, TypedDict

PriorityClass: TypeAlias = Literal["interactive", "batch"]


class ClaimOptions(TypedDict, total=False):
    """The fields of `Claim` as keyword arguments."""

    caller: str
    weight: float
    priority: PriorityClass
    deadline: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Who asks, with which right. `deadline` is a moment of `time.monotonic()`; it is planned with, not
    enforced.
    """

    caller: str = ""
    weight: float = 1.0
    priority: PriorityClass = "interactive"
    deadline: float | None = None

    @property
    def batch(self) -> bool:
        return self.priority == "batch"


AT_A_STRETCH_SECONDS = 1.0
"""Images that take no more than this give way to earlier ones of their caller, instead of taking turns with
them: all of these are done sooner, or at the same time, and fewer compete for the caches.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What the runs of one image take of a device: bytes, and device seconds in all and for one step.
    `pixels` of input are what they are for.

    `measured`: whether the seconds rest on measurements. `only_on`: the device they must be on, None for any.
    """

    state_bytes: int
    working_bytes: int
    seconds: float
    step_seconds: float
    measured: bool = False
    only_on: str | None = None
    pixels: int = 0

    @property
    def at_a_stretch(self) -> bool:
        return self.seconds <= AT_A_STRETCH_SECONDS

    @property
    def turn_seconds(self) -> float:
        """For how long it has the device before others of its caller have a turn."""
        return self.seconds if self.at_a_stretch else self.step_seconds
