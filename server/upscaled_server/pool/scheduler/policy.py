"""Units of work on devices: which go next, and which of them together."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from upscaled_server.pool.scheduler.entry import Entry
from upscaled_server.pool.scheduler.queue import FairQueue
from upscaled_server.pool.scheduler.shares import Shares
from upscaled_server.telemetry.tracing import NOTHING, Span


@dataclass(slots=True, eq=False, kw_only=True)
class Unit(Entry):
    """A bounded piece of work on the device where its `run` lives: a small image, or one step of a large one.

    Units of equal `batch_key` (None: no other's) may be computed together. A `suspect` is computed while
    nothing else is on the device, since it was there when a worker died. `span` is that of the run.
    """

    device: str
    run: int = 0
    batch_key: Hashable = None
    suspect: bool = False
    span: Span = NOTHING
    grant: Grant | None = field(default=None, init=False, repr=False)


@dataclass(slots=True, eq=False)
class Grant:
    """Units that a device computes together. `behind`: they follow those of another grant of their run."""

    units: tuple[Unit, ...]
    left: int
    behind: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """`ahead`: grants of interactive work that a device has at a time, so that it goes on while the result of
    the last is on its way; those that `Scheduler.follow` gave do not count. Of batch work it has one, so that
    nobody waits for two units.

    A batch of fewer than `batch_size` units waits for more for up to `batch_delay_seconds`, as long as the
    device is at work.
    """

    ahead: int = 2
    batch_size: int = 8
    batch_delay_seconds: float = 0.005
    aging_seconds: float = 30.0


@dataclass(slots=True)
class _Device:
    queue: FairQueue[Unit]
    granted: set[Grant] = field(default_factory=set)
    by_key: dict[Hashable, dict[Unit, None]] = field(default_factory=dict)
    batch_due: float | None = None


class Scheduler:
    """Units are submitted, granted and finished, or cancelled while they wait. Callers' shares are of all
    devices together.
    """

    def __init__(self, devices: tuple[str, ...], policy: Policy) -> None:
        self._policy = policy
        self.shares = Shares()
        self._devices = {device: _Device(FairQueue(self.shares, policy.aging_seconds)) for device in devices}

    def waiting(self, device: str) -> int:
        return len(self._devices[device].queue)

    def granted(self, device: str) -> int:
        """Grants that have not been finished."""
        return len(self._devices[device].granted)

    def wake_at(self, device: str) -> float | None:
        """When to ask for a grant again although nothing happened: a batch has waited long enough."""
        return self._devices[device].batch_due

    def submit(self, unit: Unit, now: float) -> None:
        """The unit waits from now on."""
        device = self._devices[unit.device]
        device.queue.push(unit, now)
        if unit.batch_key is not None:
            device.by_key.setdefault(unit.batch_key, {})[unit] = None

    def cancel(self, unit: Unit) -> bool:
        """The unit no longer waits; false if it did not, because it was granted."""
        device = self._devices[unit.device]
        if not device.queue.remove(unit):
            return False
        self._drop_key(device, unit)
        return True

    def grant(self, device: str, now: float) -> Grant | None:
        """What the device is given next; None if nothing may be given now. Ask until there is nothing."""
        there = self._devices[device]
        there.batch_due = None
        busy = bool(there.granted)
        in_line = sum(not each.behind for each in there.granted)
        if in_line >= self._policy.ahead or any(
            unit.suspect for each in there.granted for unit in each.units
        ):
            return None
        unit = there.queue.pop(now, interactive_only=busy)
        if unit is None:
            return None
        units = self._together(there, unit)
        due = unit.queued_at + self._policy.batch_delay_seconds
        incomplete = unit.batch_key is not None and len(units) < self._policy.batch_size and now < due
        if busy and (unit.suspect or incomplete):
            there.queue.put_back(unit)
            if not unit.suspect:
                there.batch_due = due
            return None
        for each in units[1:]:
            there.queue.remove(each)
            each.floor = unit.floor if each.caller == unit.caller else self.shares.now
        grant = Grant(units, len(units))
        for each in units:
            self._drop_key(there, each)
            there.queue.charge(each)
            each.grant = grant
        there.granted.add(grant)
        return grant

    def follow(self, unit: Unit, now: float) -> bool:
        """Grant a unit at once, behind the one of its run that the device has, alone in its grant, so that
        the device goes on without asking; false where that must wait for its turn: somebody else waits, or it
        is batch work, or may be computed together with others.
        """
        there = self._devices[unit.device]
        if len(there.queue) or unit.batch or unit.suspect or unit.batch_key is not None:
            return False
        there.queue.push(unit, now)
        there.queue.pop(now)
        there.queue.charge(unit)
        grant = unit.grant = Grant((unit,), 1, behind=True)
        there.granted.add(grant)
        return True

    def finished(self, unit: Unit, seconds: float | None) -> None:
        """A granted unit has ended; `seconds` of the device are its own, None if it failed before its time
        was known.
        """
        grant, unit.grant = unit.grant, None
        if grant is None:
            return
        if seconds is not None:
            self.shares.correct(unit, seconds)
        grant.left -= 1
        if not grant.left:
            granted = self._devices[unit.device].granted
            granted.discard(grant)
            for each in granted:
                if each.behind and each.units[0].run == unit.run:
                    each.behind = False  # it is its turn now

    def _together(self, device: _Device, unit: Unit) -> tuple[Unit, ...]:
        if unit.batch_key is None or unit.suspect:
            return (unit,)
        units = [unit]
        for each in device.by_key[unit.batch_key]:
            if len(units) >= self._policy.batch_size:
                break
            if each is not unit and not each.suspect:
                units.append(each)
        return tuple(units)

    @staticmethod
    def _drop_key(device: _Device, unit: Unit) -> None:
        units = device.by_key.get(unit.batch_key)
        if units is not None:
            units.pop(unit, None)
            if not units:
                del device.by_key[unit.batch_key]
