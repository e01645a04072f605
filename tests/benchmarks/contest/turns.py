"""Who runs when in a round."""

from __future__ import annotations

from collections.abc import Sequence

CLOSE = ("engine", "end_to_end")
"""Their ratio is near one, so that a few samples of a shared machine do not tell it: they run several times
in a round, beside each other, before, between and after the others."""

CLOSE_TURNS = 3
CLOSE_SECONDS = 10.0
"""Where one of them needs longer for an image, once is enough."""


def turns(names: Sequence[str], seconds: dict[str, float], number: int) -> list[str]:
    """The order of round `number`, from 0. `seconds` is what each needed in the warm-up.

    Every other round goes backwards, which takes away what there is to gain from coming after somebody.
    """
    close = [name for name in names if name in CLOSE]
    others = [name for name in names if name not in CLOSE]
    if all(seconds[name] <= CLOSE_SECONDS for name in close):
        parts = [others[part :: CLOSE_TURNS - 1] for part in range(CLOSE_TURNS - 1)]
    else:
        parts = [others]
    order = [name for part in parts for name in [*close, *part]]
    if len(parts) > 1:
        order += close
    return order if number % 2 == 0 else order[::-1]
