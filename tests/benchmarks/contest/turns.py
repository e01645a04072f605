"""Who runs when in a round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

CLOSE = ("engine", "engine_in_worker", "end_to_end")
"""Their ratios are near one, so that a few samples of a shared machine do not tell them: they run several
times in a round, beside each other, before, between and after the others."""

CLOSE_TURNS = 3

ENOUGH = 36
"""Runs of each of them in a case, where there is time: with so many their medians hardly change any more."""

LONG_SECONDS = 30.0
"""Who needs longer for an image runs in the first round only, or, of those whose ratio is near one, once in
each: so long a run is an average over the machine's minutes by itself."""


def turns(names: Sequence[str], seconds: Mapping[str, float], number: int) -> list[str]:
    """The order of round `number`, from 0. `seconds` is what each needed in the warm-up.

    Every other round goes backwards, which takes away what there is to gain from coming after somebody.
    """
    close = [name for name in names if name in CLOSE]
    others = [name for name in names if name not in CLOSE and (number == 0 or seconds[name] <= LONG_SECONDS)]
    if any(seconds[name] > LONG_SECONDS for name in close):
        order = close + others
    else:
        between = CLOSE_TURNS - 1
        order = [name for part in range(between) for name in [*close, *others[part::between]]] + close
    return order if number % 2 == 0 else order[::-1]
