"""Whoever leaves a call early frees the server at once, however they leave."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from fake_server import FakeServer

import upscaled
from upscaled import AsyncClient, Client


@pytest.fixture
def hanging(server: FakeServer) -> FakeServer:
    server.hang_after_events = 2
    return server


def wait_for_call(server: FakeServer, method: str = "UpscaleStream") -> None:
    deadline = threading.Event()
    for _ in range(500):
        if server.called(method):
            return
        deadline.wait(0.01)
    pytest.fail(f"{method} was never called")


def test_a_break_cancels_the_call(hanging: FakeServer) -> None:
    with Client(hanging.target) as client:
        for _event in client.upscale_stream(b"image"):
            break
        assert hanging.calls[-1].cancelled.wait(5)
        assert client.server_info().version  # the client lives on


def test_the_end_of_a_with_cancels_the_call(hanging: FakeServer) -> None:
    with Client(hanging.target) as client:
        with client.upscale_stream(b"image") as stream:
            next(stream)
        assert hanging.calls[-1].cancelled.wait(5)
        with pytest.raises(StopIteration):
            next(stream)


def test_closing_the_client_cancels_the_call(hanging: FakeServer) -> None:
    client = Client(hanging.target)
    stream = client.upscale_stream(b"image")
    next(stream)
    client.close()
    assert hanging.calls[-1].cancelled.wait(5)
    with pytest.raises(upscaled.ClientClosedError):
        next(stream)


def test_closing_the_client_ends_calls_in_other_threads(hanging: FakeServer) -> None:
    client = Client(hanging.target)
    failures: list[BaseException] = []

    def call() -> None:
        try:
            client.upscale(b"image")
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    wait_for_call(hanging)
    client.close()
    thread.join(10)
    assert [type(error) for error in failures] == [upscaled.ClientClosedError]


def test_leaving_and_closing_disturbs_no_other_client(
    hanging: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    over = threading.Event()

    def call() -> None:
        with Client(hanging.target) as other:
            while not over.is_set():
                other.server_info()

    thread = threading.Thread(target=call)
    thread.start()
    try:
        for _ in range(40):
            with Client(hanging.target) as client, client.upscale_stream(b"image") as events:
                next(events)
    finally:
        over.set()
        thread.join(10)
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


def test_a_forgotten_client_is_closed(hanging: FakeServer) -> None:
    stream = Client(hanging.target).upscale_stream(b"image")
    next(stream)
    del stream
    gc.collect()
    assert hanging.calls[-1].cancelled.wait(5)


async def test_an_asynchronous_break_cancels_the_call(hanging: FakeServer) -> None:
    async with AsyncClient(hanging.target) as client:
        async for _event in client.upscale_stream(b"image"):
            break
        assert await asyncio.to_thread(hanging.calls[-1].cancelled.wait, 5)


async def test_cancelling_the_task_cancels_the_call(hanging: FakeServer, tmp_path: Path) -> None:
    async with AsyncClient(hanging.target) as client:
        task = asyncio.create_task(client.upscale(b"image", output=tmp_path / "out.png"))
        await asyncio.to_thread(wait_for_call, hanging)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(hanging.calls[-1].cancelled.wait, 5)
    assert list(tmp_path.iterdir()) == []


async def test_a_timeout_of_asyncio_stays_one(hanging: FakeServer) -> None:
    async with AsyncClient(hanging.target) as client:
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(0.5):
                await client.upscale(b"image")
    assert not isinstance(caught.value, upscaled.UpscaledError)


async def test_closing_during_a_call_is_an_error_of_its_own(hanging: FakeServer) -> None:
    client = AsyncClient(hanging.target)
    task = asyncio.create_task(client.upscale(b"image"))
    await asyncio.to_thread(wait_for_call, hanging)
    await client.aclose()
    with pytest.raises(upscaled.ClientClosedError):
        await task


async def test_many_tasks_share_one_client(server: FakeServer) -> None:
    async with AsyncClient(server.target) as client:
        results = await asyncio.gather(*(client.upscale(b"image %d" % i) for i in range(8)))
    assert all(result.data == server.file for result in results)


def test_many_threads_share_one_client(server: FakeServer) -> None:
    sizes: list[int] = []
    with Client(server.target) as client:
        threads = [
            threading.Thread(target=lambda: sizes.append(len(client.upscale(b"image").data)))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sizes == [len(server.file)] * 8


def test_another_event_loop_is_refused(server: FakeServer) -> None:
    client = AsyncClient(server.target)

    async def use() -> None:
        await client.server_info()

    with asyncio.Runner() as first:
        first.run(use())
        with asyncio.Runner() as second, pytest.raises(upscaled.ClientClosedError, match="event loop"):
            second.run(use())
        first.run(client.aclose())


def test_a_blocking_call_inside_a_progress_callback_is_refused(server: FakeServer) -> None:
    with Client(server.target) as client, pytest.raises(upscaled.ClientClosedError, match="wait forever"):
        client.upscale(b"image", on_progress=lambda _event: client.server_info() and None)


def test_ctrl_c_cancels_the_call_and_removes_the_partial_file(hanging: FakeServer, tmp_path: Path) -> None:
    hanging.hang_after_events = 3  # one chunk is written by then
    code = (
        "import sys\nfrom upscaled import Client\n"
        "with Client(sys.argv[1]) as client: client.upscale(b'image', output=sys.argv[2])\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, hanging.target, os.fspath(tmp_path / "out.png")], stderr=subprocess.PIPE
    )
    try:
        wait_for_call(hanging)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    assert b"KeyboardInterrupt" in stderr
    assert hanging.calls[-1].cancelled.wait(5)
    assert list(tmp_path.iterdir()) == []


def test_a_process_ends_without_closing_its_client(server: FakeServer) -> None:
    code = "import sys\nfrom upscaled import Client\nprint(Client(sys.argv[1]).server_info().version)\n"
    done = subprocess.run(
        [sys.executable, "-c", code, server.target], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "1.2.3\n"
    assert done.stderr == ""


def test_a_slow_reader_does_not_gather_the_file(server: FakeServer) -> None:
    """The events wait in the transport's window, not in this process."""
    server.file = bytes(64 << 20)
    with Client(server.target) as client, client.upscale_stream(b"image") as stream:
        next(stream)
        assert not server.calls[-1].cancelled.wait(0.5)
    assert server.calls[-1].cancelled.wait(5)  # it was still writing
