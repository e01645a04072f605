"""Which lane to look at next: urgent ones first, and of those that are alike the one that has had least.

Start-time fair queueing, without weights: a lane's next item starts, in virtual time, when its last one
finished, or now, whichever is later; the one that starts first is taken. So lanes that always have something
get equal shares of the cost, however many items they hold, and one that was empty has saved nothing up.

Each replica does so for itself. It knows nothing of what lies in a lane but what it heard: that something may
be there, and that nothing was.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from upscaled_server.state.nats.work.lane import Lane

_BATCH_FIRST_EVERY = 8

_LOOK_AGAIN_SECONDS = (0.01, 0.05, 0.25)
"""What was stored is seen a little later by the node that hands it out."""

_UNANSWERED_SECONDS = 0.5


@dataclass(slots=True)
class _State:
    finish: float = 0.0
    """When its last item finished, in virtual time."""
    look_at: float | None = None
    """From when on it is to be looked at; None: there is nothing."""
    looks: int = 0
    """How often it was in vain since something was put there."""


@dataclass(slots=True)
class _Class:
    now: float = 0.0
    """Virtual time: when the last item that was taken started."""
    lanes: dict[int, _State] = field(default_factory=dict)

    def of(self, lane: Lane) -> _State:
        return self.lanes.setdefault(lane.number, _State())

    def first(self, clock: float) -> int | None:
        waiting = (
            (max(self.now, state.finish), state.finish, number)
            for number, state in self.lanes.items()
            if state.look_at is not None and state.look_at <= clock
        )
        return min(waiting, default=(0.0, 0.0, None))[2]


class FairLanes:
    """Times are seconds of one clock of the caller's."""

    def __init__(self) -> None:
        self._classes = {True: _Class(), False: _Class()}
        self._taken = 0

    def stored(self, lane: Lane, clock: float) -> None:
        """Something was put there just now."""
        state = self._classes[lane.urgent].of(lane)
        state.look_at, state.looks = clock, 0

    def perhaps(self, lane: Lane, clock: float) -> None:
        """Something lies there, which others may have taken or be working on."""
        state = self._classes[lane.urgent].of(lane)
        if state.look_at is None:
            state.look_at, state.looks = clock, len(_LOOK_AGAIN_SECONDS)

    def nothing(self, lane: Lane, clock: float) -> None:
        """It was looked at, and had nothing to give."""
        state = self._classes[lane.urgent].of(lane)
        if state.looks < len(_LOOK_AGAIN_SECONDS):
            state.look_at = clock + _LOOK_AGAIN_SECONDS[state.looks]
            state.looks += 1
        else:
            state.look_at = None

    def unanswered(self, lane: Lane, clock: float) -> None:
        """Nobody can say what it has, such as while a new leader is elected; others may answer."""
        self._classes[lane.urgent].of(lane).look_at = clock + _UNANSWERED_SECONDS

    def taken(self, lane: Lane, cost: float) -> None:
        """An item of it was given to somebody."""
        those = self._classes[lane.urgent]
        state = those.of(lane)
        those.now = max(those.now, state.finish)
        state.finish = those.now + cost
        self._taken += 1

    def next(self, clock: float) -> Lane | None:
        """The lane to look at now."""
        batch_first = self._taken % _BATCH_FIRST_EVERY == _BATCH_FIRST_EVERY - 1
        for urgent in (False, True) if batch_first else (True, False):
            number = self._classes[urgent].first(clock)
            if number is not None:
                return Lane(urgent, number)
        return None

    def next_at(self) -> float | None:
        """When a lane is to be looked at again, if none is now and nobody says otherwise."""
        times = (state.look_at for each in self._classes.values() for state in each.lanes.values())
        return min((each for each in times if each is not None), default=None)
