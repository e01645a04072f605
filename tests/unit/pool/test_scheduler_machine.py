"""Whatever happens in whatever order: no bound is passed, nothing is lost, nothing idles."""

from __future__ import annotations

import itertools

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from upscaled_server.pool.scheduler.policy import Grant, Policy, Scheduler, Unit

_DEVICES = tuple(f"device {number}" for number in range(8))
_POLICY = Policy(ahead=2, batch_size=3, batch_delay_seconds=0.5, aging_seconds=4.0)


class SchedulerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.scheduler = Scheduler(_DEVICES, _POLICY)
        self.now = 0.0
        self.waiting: list[Unit] = []
        self.granted: list[Grant] = []
        self.behind: dict[int, Unit] = {}
        self.runs = itertools.count(1)

    @rule(
        device=st.sampled_from(_DEVICES[:3]),
        caller=st.sampled_from("abc"),
        weight=st.sampled_from([0.5, 1.0, 8.0]),
        batch=st.booleans(),
        cost=st.floats(0.01, 2.0),
        slack=st.sampled_from([0.0, 1.0, float("inf")]),
        key=st.sampled_from([None, "x", "y"]),
        suspect=st.sampled_from([False, False, True]),
    )
    def submit(
        self,
        device: str,
        caller: str,
        weight: float,
        batch: bool,
        cost: float,
        slack: float,
        key: str | None,
        suspect: bool,
    ) -> None:
        unit = Unit(
            run=next(self.runs),
            device=device,
            caller=caller,
            weight=weight,
            batch=batch,
            cost=cost,
            latest_start=self.now + slack,
            batch_key=key,
            suspect=suspect,
        )
        self.scheduler.submit(unit, self.now)
        self.waiting.append(unit)

    @rule(seconds=st.floats(0.0, 5.0))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        unit = self.waiting.pop(data.draw(st.integers(0, len(self.waiting) - 1)))
        assert self.scheduler.cancel(unit)

    @precondition(lambda self: self.granted)
    @rule(data=st.data(), seconds=st.one_of(st.none(), st.floats(0.01, 3.0)))
    def finish(self, data: st.DataObject, seconds: float | None) -> None:
        grant = self.granted.pop(data.draw(st.integers(0, len(self.granted) - 1)))
        for unit in grant.units:
            assert not self.scheduler.cancel(unit)
            self.scheduler.finished(unit, seconds)
            self._goes_on(unit)

    @precondition(lambda self: self.granted)
    @rule(data=st.data())
    def follow(self, data: st.DataObject) -> None:
        grant = data.draw(st.sampled_from(self.granted))
        first = grant.units[0]
        if first.run in self.behind or len(grant.units) > 1:
            return
        unit = Unit(run=first.run, device=first.device, caller=first.caller, batch=first.batch)
        follows = self.scheduler.follow(unit, self.now)
        assert follows == (not first.batch and not self._waiting_on(first.device))
        if follows:
            assert unit.grant is not None
            self.behind[unit.run] = unit

    def _goes_on(self, unit: Unit) -> None:
        """The step behind it, if there is one, is the run's turn now."""
        behind = self.behind.pop(unit.run, None)
        if behind is not None and behind.grant is not None:
            assert not behind.grant.behind
            self.granted.append(behind.grant)

    @rule()
    def grant(self) -> None:
        for device in _DEVICES:
            while (grant := self.scheduler.grant(device, self.now)) is not None:
                assert {unit.device for unit in grant.units} == {device}
                assert len(grant.units) <= _POLICY.batch_size
                keys = {unit.batch_key for unit in grant.units}
                assert len(keys) == 1
                assert len(grant.units) == 1 or None not in keys
                if any(unit.suspect for unit in grant.units):
                    assert len(grant.units) == 1
                    assert not self._on(device)
                for unit in grant.units:
                    self.waiting.remove(unit)
                self.granted.append(grant)
            assert self._on(device) or not self._waiting_on(device)

    @invariant()
    def bounds_hold(self) -> None:
        for device in _DEVICES:
            behind = sum(unit.device == device for unit in self.behind.values())
            assert self.scheduler.granted(device) == len(self._on(device)) + behind
            assert behind <= len(self._on(device)) <= _POLICY.ahead
            assert self.scheduler.waiting(device) == len(self._waiting_on(device))

    def _on(self, device: str) -> list[Grant]:
        return [grant for grant in self.granted if grant.units[0].device == device]

    def _waiting_on(self, device: str) -> list[Unit]:
        return [unit for unit in self.waiting if unit.device == device]

    def teardown(self) -> None:
        """Whatever waits has its turn once everything else has ended."""
        while self.waiting or self.granted:
            finished, self.granted = self.granted, []
            for grant in finished:
                for unit in grant.units:
                    self.scheduler.finished(unit, 0.1)
                    self._goes_on(unit)
            before = len(self.waiting)
            self.grant()
            assert len(self.waiting) < before or not before or self.granted


SchedulerMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
TestScheduler = SchedulerMachine.TestCase
