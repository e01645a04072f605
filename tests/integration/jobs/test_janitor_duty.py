"""Of several servers that share a store one deletes what has expired."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from jobs_bench import ANNA, Bench, open_bench
from tests.reached_store import Reached

from upscaled_server.jobs.janitor import Janitor
from upscaled_server.state.duty import Elected

SECONDS = 2.0


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def _janitor(bench: Bench) -> tuple[Reached, Janitor]:
    reached = Reached(bench.book.store)
    duty = Elected(reached, "janitor", seconds=SECONDS)
    return reached, Janitor(bench.jobs.janitor._ending, every_seconds=0.02, duty=duty)


async def test_one_server_deletes_and_another_goes_on_where_it_was_killed(tmp_path: Path) -> None:
    async with open_bench(tmp_path, start=False) as bench:
        made = [_janitor(bench) for _ in range(3)]
        tasks = [asyncio.create_task(janitor.work()) for _, janitor in made]
        await _until(lambda: any(janitor.counts.rounds > 2 for _, janitor in made))
        (first,) = [each for each in made if each[1].counts.rounds]
        for _ in range(3):
            await bench.files.create_input(ANNA, retention_seconds=0.01)
        await _until(lambda: first[1].counts.deleted["in"] == 3)

        first[0].become("away")
        await _until(lambda: any(janitor.counts.rounds for _, janitor in made if janitor is not first[1]))
        rounds = first[1].counts.rounds
        await bench.files.create_input(ANNA, retention_seconds=0.01)
        await _until(lambda: sum(janitor.counts.deleted["in"] for _, janitor in made) == 4)
        assert first[1].counts.rounds == rounds
        assert first[1].counts.deleted["in"] == 3
        assert await bench.book.store.range("expiry") == []

        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
