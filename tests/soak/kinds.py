"""Which requests the mixed soak is made of: half good, half bad or odd."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from tests.soak import bad_requests as bad
from tests.soak import good_requests as good
from tests.soak.caller import Caller


@dataclass(frozen=True, slots=True)
class Kind:
    """`ask` answers with a word for what came, and raises where that must not come. `weight`: of a hundred
    requests. `timed`: whether how long it takes says how fast the server is."""

    ask: Callable[[Caller, random.Random], str]
    weight: int
    timed: bool = False

    @property
    def name(self) -> str:
        return self.ask.__name__


KINDS = (
    Kind(good.enlarge, 15, timed=True),
    Kind(good.stream, 5, timed=True),
    Kind(good.stream_tiles, 3, timed=True),
    Kind(good.job, 7),
    Kind(good.cancelled_job, 2),
    Kind(good.upload, 3),
    Kind(good.cut_upload, 3),
    Kind(good.stored, 4),
    Kind(good.leave, 4),
    Kind(good.slow_reader, 2),
    Kind(good.look, 2),
    Kind(bad.hostile_file, 28),
    Kind(bad.wrong_key, 5),
    Kind(bad.wrong_option, 4),
    Kind(bad.wrong_name, 3),
    Kind(bad.address_inside, 3),
    Kind(bad.no_protobuf, 2),
    Kind(bad.wrong_order, 2),
    Kind(bad.short_deadline, 3),
)


def chosen(number: int, seed: int) -> tuple[Kind, random.Random]:
    """Request `number` of every run with this seed, and the chance that it takes its choices by."""
    chance = random.Random(f"{seed}:{number}")
    return chance.choices(KINDS, [each.weight for each in KINDS])[0], chance
