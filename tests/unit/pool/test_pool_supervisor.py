"""A worker's end that comes together with an answer of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import pytest

from upscaled_server.engine.catalogue import Catalogue
from upscaled_server.engine.device import Device as EngineDevice
from upscaled_server.errors import Unavailable
from upscaled_server.pool import supervisor
from upscaled_server.pool.devices import find_devices
from upscaled_server.pool.settings import PoolSettings
from upscaled_server.pool.supervisor import Supervisor

_PROVENANCE = {
    "model": "real-esrgan-animevideo-v3",
    "backend": "ncnn",
    "backend_version": "1",
    "precision": "fp32",
    "device": "a CPU",
    "weights": {"origin": "package", "path": "p", "sha256": "s", "size_bytes": 1, "verified": True},
}
_ANSWERS = {
    "start": {"device": asdict(EngineDevice("cpu", "a CPU", "ncnn", "fp32", 2, 1 << 30))},
    "load": {"provenance": _PROVENANCE, "bytes": 1},
    "warm": {},
}


class _Worker:
    """Stands in for `WorkerProcess`. It ends in the wakeup in which it answers `dies_with`, before whoever
    waits for the answer goes on."""

    pid, steps_answered = 1, 0

    def __init__(self, dies_with: str, on_lost: Callable[[], None]) -> None:
        self.lost = asyncio.Event()
        self.ended = False
        self._dies_with = dies_with
        self._on_lost = on_lost

    async def start(self) -> Any:
        return (await self.call("start")).result

    async def call(self, op: str, **_: object) -> Any:
        answer = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(self._answer, op, answer)
        return await answer

    async def end(self) -> None:
        self.ended = True

    def _answer(self, op: str, answer: asyncio.Future[Any]) -> None:
        answer.set_result(SimpleNamespace(result=_ANSWERS[op]))
        if op == self._dies_with:
            self.lost.set()
            self._on_lost()


@pytest.mark.parametrize("dies_with", ["start", "warm"])
async def test_a_worker_that_ends_with_an_answer_of_its_start_is_never_up(
    dies_with: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers: list[_Worker] = []

    def started(_name: str, _options: object, on_lost: Callable[[], None], _counts: object) -> _Worker:
        workers.append(_Worker(dies_with, on_lost))
        return workers[-1]

    monkeypatch.setattr(supervisor, "WorkerProcess", started)
    settings = PoolSettings(devices="cpu", warm_models="real-esrgan-animevideo-v3")
    (device,) = find_devices(settings)
    changes: list[bool] = []
    keeper = Supervisor(device, settings, "", {}, lambda each: changes.append(each.up), Catalogue())
    with pytest.raises(Unavailable, match="as soon as it had started"):
        await keeper.start()
    assert not keeper.up
    assert not any(changes)
    assert [each.ended for each in workers] == [True]
