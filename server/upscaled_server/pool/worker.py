"""The worker process: `python -m upscaled_server.pool.worker`, started by the pool, one per device.

An event loop answers the server; networks run in threads beside it (`inference.py`), so that a long step
delays nobody's `feed`, `open`, `close` or `ping`. The worker keeps nothing that matters: it may be killed at
any moment, and it kills itself when the server is gone.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import importlib
import logging
import os
import signal
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upscaled_server.engine import counters
from upscaled_server.engine.custom.spec import CustomModel
from upscaled_server.engine.provenance import Provenance
from upscaled_server.engine.variant import Variant
from upscaled_server.errors import DeviceFailed
from upscaled_server.pool import report
from upscaled_server.pool.faults import FaultyEngine
from upscaled_server.pool.gathering import Gathering
from upscaled_server.pool.inference import Inference
from upscaled_server.pool.open_run import COPY_ELSEWHERE_BYTES, OpenRun
from upscaled_server.pool.pixels import Shelf, unpack
from upscaled_server.pool.protocol import (
    EXIT_DEVICE_FAILED,
    EXIT_SERVER_GONE,
    RunClosed,
    is_expected,
    pack_error,
)
from upscaled_server.pool.transport import Channel, Message
from upscaled_server.telemetry import log_lines
from upscaled_server.tiling.plan import RunPlan

log = logging.getLogger("upscaled_server.pool")

_PR_SET_PDEATHSIG = 1
# Models load beside each other: one that is being downloaded must not hold up one that is on the disk.
_MODEL_THREADS = 4
WARM_PIXELS = 32


class Worker:
    """Answers the server's requests with an engine. Lives on the event loop of the worker process."""

    def __init__(self, sock: socket.socket, finished: asyncio.Event) -> None:
        self._finished = finished
        self._engine: Any = None
        self._runs: dict[int, OpenRun] = {}
        self._shelf = Shelf()
        self._inference = Inference()
        self._gathering = Gathering(
            self._inference, self._runs, lambda runs: self._engine.step_together(runs)
        )
        self._errands = ThreadPoolExecutor(1, "errands")
        self._models = ThreadPoolExecutor(_MODEL_THREADS, "models")
        self._tasks: set[asyncio.Task[None]] = set()
        self._vitals = report.Vitals()
        self._channel = Channel(sock, self._on_message, _server_gone)

    def _on_message(self, message: Message, fd: int | None) -> None:
        if "free" in message:
            self._shelf.take_back(message["free"])
            return
        if message["op"] == "exit":
            self._finished.set()
            return
        if message["op"] == "close":
            # Now, not in its turn: steps of this run that have not begun never will.
            self._closing(message["run"])
        task = asyncio.get_running_loop().create_task(self._answer(message, fd))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, request: Message, fd: int | None) -> None:
        number = request["id"]
        try:
            rows = None
            if "pixels" in request:
                rows = unpack(request["pixels"], fd, self._freed)
            handle = getattr(self, f"_on_{request['op']}")
            result, out = await (handle(request) if rows is None else handle(request, rows))
            del rows
            if out is None:
                self._channel.send({"id": number, "result": result, **_report(result)})
            else:
                await self._send_rows(number, result, out)
        except DeviceFailed as error:
            # The next worker begins with a device that may be well, and computes this again.
            log.error("%s", error.message)
            os._exit(EXIT_DEVICE_FAILED)
        except Exception as error:  # the server is told, and this worker goes on
            if not is_expected(error):
                log.error("%s failed", request["op"], exc_info=error)
            if isinstance(error, MemoryError):
                counters.count("out_of_memory")
            self._channel.send({"id": number, "error": pack_error(error), **report.events()})

    async def _send_rows(self, number: int, result: Message, rows: NDArray[Any]) -> None:
        if rows.nbytes < COPY_ELSEWHERE_BYTES or self._shelf.holds(rows):
            parcel = self._shelf.pack(rows)
        else:
            loop = asyncio.get_running_loop()
            parcel = await loop.run_in_executor(self._errands, self._shelf.pack, rows)
        message = {"id": number, "result": result, "pixels": parcel.described, **_report(result)}
        self._channel.send(message, parcel.fd)

    def _freed(self, buffer: int) -> None:
        self._channel.send_soon({"free": buffer})

    async def _on_hello(self, request: Message) -> tuple[Message, None]:
        module, _, name = request["engine"].partition(":")
        factory = getattr(importlib.import_module(module), name)
        self._engine = await self._in_models(factory, request["config"])
        if request["faults"]:
            self._engine = FaultyEngine(self._engine, request["faults"])
        return {"device": asdict(self._engine.device)}, None

    async def _on_ping(self, _: Message) -> tuple[Message, None]:
        vitals = await self._vitals.tell(self._engine)
        self._shelf.trim()
        return {"runs": len(self._runs), "buffers_away": self._shelf.away, "report": vitals}, None

    async def _on_load(self, request: Message) -> tuple[Message, None]:
        if request["custom"] is not None:
            self._engine.learn(CustomModel.from_dict(request["custom"]))
        provenance, size, seconds = await self._in_models(self._load, Variant(**request["variant"]))
        told = {"report": {"model": provenance.model, "load_seconds": seconds}} if size else {}
        return {"provenance": asdict(provenance), "bytes": size, **told}, None

    def _load(self, variant: Variant) -> tuple[Provenance, int, float]:
        """The model's provenance, by how much memory has grown, at least by the size of its weights, and how
        long it took; no bytes for a model that was there.

        What other threads take meanwhile counts as well: too much is safe.
        """
        known = self._engine.loaded
        before, began = report.resident_bytes(), time.perf_counter()
        provenance: Provenance = self._engine.load(variant)
        seconds = time.perf_counter() - began
        if provenance.model in known:
            return provenance, 0, seconds
        grown = report.resident_bytes() - before
        return provenance, max(1, grown, provenance.weights.size_bytes), seconds

    async def _on_warm(self, request: Message) -> tuple[Message, None]:
        await self._in_models(self._warm, Variant(**request["variant"]))
        return {}, None

    def _warm(self, variant: Variant) -> None:
        """The first image on a model takes longer than all others."""
        run = self._engine.open_run(variant, self._engine.plan(variant, WARM_PIXELS, WARM_PIXELS), 8, 3)
        try:
            run.feed(np.zeros((WARM_PIXELS, WARM_PIXELS, 3), np.uint8))
            while not run.done:
                run.step()
        finally:
            run.close()

    async def _on_unload(self, request: Message) -> tuple[Message, None]:
        return {"unloaded": await self._in_models(self._engine.unload, request["model"])}, None

    async def _on_open(self, request: Message) -> tuple[Message, None]:
        entry = OpenRun()
        self._runs[request["run"]] = entry
        async with entry.lock:  # free, so taken without a pause: requests that follow wait for it
            try:
                plan, variant = RunPlan.from_dict(request["plan"]), Variant(**request["variant"])
                entry.run = await asyncio.get_running_loop().run_in_executor(
                    self._errands,
                    self._engine.open_run,
                    variant,
                    plan,
                    request["out_bits"],
                    request["planes"],
                    self._shelf.empty,
                )
            except BaseException:  # a cancellation too
                self._runs.pop(request["run"], None)
                raise
            return entry.status(), None

    async def _on_feed(self, request: Message, rows: NDArray[Any]) -> tuple[Message, None]:
        return await self._entry(request).feed(rows, self._errands), None

    async def _on_step(self, request: Message) -> tuple[Message, NDArray[Any]]:
        entry = self._entry(request)
        if len(request["together"]) > 1:
            return await self._step_together(request, entry)
        rows, status, seconds = await entry.step(self._inference, self._errands)
        return _stepped(status, seconds, 1), rows

    async def _step_together(self, request: Message, entry: OpenRun) -> tuple[Message, NDArray[Any]]:
        async with entry.lock:
            entry.check_open()
            await entry.wait_computed()
            key = tuple(request["together"])
            rows, seconds, images = await self._gathering.step(key, request["run"], entry)
            pixels = entry.pixels_of_step()
            return _stepped({**entry.status(), "pixels": pixels}, seconds, images), rows

    async def _on_close(self, request: Message) -> tuple[Message, None]:
        entry = self._runs.get(request["run"])
        if entry is not None:
            try:
                await entry.close()
            finally:
                self._runs.pop(request["run"], None)
        return {}, None

    def _closing(self, run: int) -> None:
        self._gathering.leave(run)
        entry = self._runs.get(run)
        if entry is not None:
            entry.close_soon()

    def _entry(self, request: Message) -> OpenRun:
        try:
            return self._runs[request["run"]]
        except KeyError:
            raise RunClosed("the run is closed") from None

    async def _in_models(self, function: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._models, function, *arguments)


def _stepped(status: Message, seconds: float, images: int) -> Message:
    told = {"seconds": seconds, "pixels": status["pixels"], "images": images}
    return {**status, "seconds": seconds, "report": told}


def _report(result: Message) -> Message:
    """What goes beside a result, taken out of it."""
    told = {**result.pop("report", {}), **report.events().get("report", {})}
    return {"report": told} if told else {}


def _server_gone() -> None:
    # At once, in the middle of whatever the other threads compute: nobody is left to want it.
    os._exit(EXIT_SERVER_GONE)


def _bind_to_server(parent: int) -> None:
    """Die with the server, be the first to die when memory is short, and leave signals to the server."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked
        os._exit(EXIT_SERVER_GONE)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")


async def _serve(fd: int) -> None:
    finished = asyncio.Event()
    # A name, since the channel holds the socket but nothing else holds the worker.
    worker = Worker(socket.socket(fileno=fd), finished)
    await finished.wait()
    del worker


def main() -> None:
    parser = argparse.ArgumentParser(
        description="A worker of the upscaled server; started by it, not by hand."
    )
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--nice", type=int, default=0)
    arguments = parser.parse_args()
    _bind_to_server(arguments.parent)
    log_lines.to_parent()
    if arguments.nice:
        os.nice(arguments.nice)
    asyncio.run(_serve(arguments.fd))
    # Without waiting for threads that compute what nobody wants any more.
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
