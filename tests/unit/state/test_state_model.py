"""Whatever two connections do in turn, either store is a dictionary with versions."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from tests.both_stores import OpenStore, nats_opener, sqlite_opener
from tests.nats_servers import NatsServer

from upscaled_server.state.store import Entry, KeyExists, Store, VersionChanged

_PARTS = st.sampled_from(["a", "b", "A", "0", "-", "=", "_", "a-b"])
_KEYS = st.lists(_PARTS, min_size=1, max_size=3).map("/".join)
_VALUES = st.binary(max_size=8)
_WHO = st.sampled_from([0, 1])


class StoreMachine(RuleBasedStateMachine):
    """Two stores over one state, and what it must be."""

    def open_state(self) -> OpenStore:
        raise NotImplementedError

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.stack = AsyncExitStack()
        opener = self.open_state()
        self.stores: list[Store] = [self.run(self.stack.enter_async_context(opener())) for _ in range(2)]
        self.model: dict[str, Entry] = {}
        self.versions: dict[str, int] = {}
        """The last one that was ever given to a key."""

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.run(self.stack.aclose())
            self.loop.close()

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    def written(self, key: str, value: bytes, version: int) -> None:
        assert version > self.versions.get(key, 0)
        self.versions[key] = version
        self.model[key] = Entry(key, value, version)

    @rule(who=_WHO, key=_KEYS, value=_VALUES)
    def create(self, who: int, key: str, value: bytes) -> None:
        if key in self.model:
            with pytest.raises(KeyExists):
                self.run(self.stores[who].create(key, value))
        else:
            self.written(key, value, self.run(self.stores[who].create(key, value)))

    @rule(who=_WHO, key=_KEYS, value=_VALUES, stale=st.integers(0, 2))
    def update(self, who: int, key: str, value: bytes, stale: int) -> None:
        version = max(0, self.versions.get(key, 1) - stale)
        if key in self.model and not stale:
            self.written(key, value, self.run(self.stores[who].update(key, value, version)))
        else:
            with pytest.raises(VersionChanged):
                self.run(self.stores[who].update(key, value, version))

    @rule(who=_WHO, key=_KEYS, stale=st.integers(0, 2))
    def delete(self, who: int, key: str, stale: int) -> None:
        version = max(0, self.versions.get(key, 1) - stale)
        if key in self.model and not stale:
            self.run(self.stores[who].delete(key, version))
            del self.model[key]
        else:
            with pytest.raises(VersionChanged):
                self.run(self.stores[who].delete(key, version))

    @rule(key=_KEYS, values=st.lists(_VALUES, min_size=2, max_size=6))
    def change_at_once(self, key: str, values: list[bytes]) -> None:
        """From both connections, on one version."""
        version = self.versions.get(key, 1)
        changes = [self.stores[turn % 2].update(key, value, version) for turn, value in enumerate(values)]

        async def at_once() -> list[Any]:
            return await asyncio.gather(*changes, return_exceptions=True)

        outcomes = self.run(at_once())
        won = [(value, each) for value, each in zip(values, outcomes, strict=True) if isinstance(each, int)]
        assert all(isinstance(each, int | VersionChanged) for each in outcomes)
        assert len(won) == (key in self.model)
        for value, each in won:
            self.written(key, value, each)

    @rule(who=_WHO, key=_KEYS)
    def get(self, who: int, key: str) -> None:
        assert self.run(self.stores[who].get(key)) == self.model.get(key)

    @rule(who=_WHO, prefix=_KEYS, after=st.just("") | _KEYS, limit=st.integers(1, 4), reverse=st.booleans())
    def range(self, who: int, prefix: str, after: str, limit: int, reverse: bool) -> None:
        expected = sorted(key for key in self.model if key.startswith(f"{prefix}/"))
        if reverse:
            expected = [key for key in reversed(expected) if not after or key < after]
        else:
            expected = [key for key in expected if key > after]
        found = self.run(self.stores[who].range(prefix, after=after, limit=limit, reverse=reverse))
        assert found == [self.model[key] for key in expected[:limit]]

    @invariant()
    def both_list_everything(self) -> None:
        if hasattr(self, "stores"):
            under = sorted(key for key in self.model if key.startswith("a/"))
            for store in self.stores:
                assert [entry.key for entry in self.run(store.range("a"))] == under


def test_sqlite_is_a_dictionary_with_versions() -> None:
    with tempfile.TemporaryDirectory() as folder:
        numbers = iter(range(1_000_000))

        class Machine(StoreMachine):
            def open_state(self) -> OpenStore:
                return sqlite_opener(Path(folder) / f"{next(numbers)}.db")

        _run(Machine, examples=30)


def test_nats_is_a_dictionary_with_versions(nats_server: NatsServer) -> None:
    class Machine(StoreMachine):
        def open_state(self) -> OpenStore:
            return nats_opener(nats_server)

    _run(Machine, examples=30)


def _run(machine: type[StoreMachine], *, examples: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
