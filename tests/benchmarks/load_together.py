"""What is lost, or gained, when many small images come at once instead of one after another."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from tests.benchmarks.contest.ledger import Ledger
from tests.benchmarks.load_traffic import Outcome, Picture, ask, percentile, small_pictures, warm
from tests.benchmarks.processes import measured_server
from upscaled import AsyncClient


async def all_at_once(count: int = 64, rounds: int = 3) -> dict[str, Any]:
    """As many small images one after another and all together, in turns; medians. Processor seconds say what
    a machine that is busy with other things does not hide.
    """
    pictures, outcome = small_pictures(count, longest=256), Outcome()
    in_turn, together = _Form("one_after_another"), _Form("at_once")
    with measured_server() as server:
        async with AsyncClient(server.address) as client:
            await warm(client)
            for _ in range(rounds):
                with in_turn.measured(server.pid):
                    for picture in pictures:
                        await ask(client, picture, outcome)
                with together.measured(server.pid):
                    await _ask_at_once(client, pictures, outcome)
    return {
        "images": count,
        **in_turn.summary(),
        **together.summary(),
        "throughput_ratio": in_turn.seconds / together.seconds,
        "processor_ratio": in_turn.processor_seconds / together.processor_seconds,
        "refused": outcome.refused,
        "errors": outcome.errors,
    }


async def _ask_at_once(client: AsyncClient, pictures: list[Picture], outcome: Outcome) -> None:
    await asyncio.gather(*(ask(client, picture, outcome) for picture in pictures))


class _Form:
    """One way of sending them, and what its rounds took."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._took: list[float] = []
        self._spent: list[dict[str, float]] = []

    def measured(self, server: int) -> _Round:
        return _Round(server, self._took, self._spent)

    @property
    def seconds(self) -> float:
        return percentile(self._took, 0.5)

    @property
    def processor_seconds(self) -> float:
        return percentile([sum(each.values()) for each in self._spent], 0.5)

    def summary(self) -> dict[str, Any]:
        by_process = {who: percentile([each[who] for each in self._spent], 0.5) for who in self._spent[0]}
        return {
            f"{self._name}_seconds": self.seconds,
            f"{self._name}_seconds_of_rounds": self._took,
            f"{self._name}_processor_seconds": by_process,
        }


class _Round(Ledger):
    def __init__(self, server: int, took: list[float], spent: list[dict[str, float]]) -> None:
        super().__init__(server)
        self._took, self._spent = took, spent

    def __enter__(self) -> _Round:
        super().__enter__()
        self._began = time.monotonic()
        return self

    def __exit__(self, *error: object) -> None:
        self._took.append(time.monotonic() - self._began)
        super().__exit__(*error)
        self._spent.append(self.seconds)
