"""One body of tests for the answers, over the blocking client and the asynchronous one."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from fake_server import Failure, FakeServer

import upscaled
from upscaled import Client


def test_a_small_image_is_one_unary_call(client: Any, server: FakeServer, png: Callable[..., bytes]) -> None:
    result = client.upscale(png(), model="m", scale=4, labels={"a": "b"}, request_id="r-1")
    assert result.data == server.file
    assert (result.width, result.height, result.content_type, result.file_name) == (
        16,
        12,
        "image/png",
        "out.png",
    )
    assert result.settings.model == "m"
    assert (result.settings.format, result.settings.labels) == ("png", {"a": "b"})
    assert result.timings.total_seconds == 1.5
    assert dict(result.timings.stages) == {"infer": 1.0}
    assert (result.credits.charged, result.credits.remaining) == (0.5, 9.5)
    assert result.provenance.backend == "ncnn"
    assert result.warnings == ("only the first frame was used",)
    assert result.request_id == "r-1"
    assert [call.method for call in server.calls] == ["GetServerInfo", "Upscale"]
    assert server.calls[1].image == png()


def test_the_limits_are_asked_for_once(client: Any, server: FakeServer, png: Callable[..., bytes]) -> None:
    client.upscale(png())
    client.upscale(png())
    assert len(server.called("GetServerInfo")) == 1


def test_every_call_carries_key_and_user_agent(client: Any, server: FakeServer) -> None:
    client.upscale(b"not to be told from its head")
    client.models.list()
    for call in server.calls:
        assert call.metadata["authorization"] == "Bearer k1"
        assert call.metadata["user-agent"].startswith(f"upscaled-python/{upscaled.__version__}")


def test_a_large_image_goes_up_in_chunks(client: Any, server: FakeServer, tmp_path: Path) -> None:
    image = os.urandom(5 * 1024 * 1024 + 17)
    (tmp_path / "photo.jpg").write_bytes(image)
    for source in (
        image,
        memoryview(image),
        tmp_path / "photo.jpg",
        str(tmp_path / "photo.jpg"),
        io.BytesIO(image),
    ):
        assert client.upscale(source).data == server.file
        call = server.calls[-1]
        assert call.method == "UpscaleStream"
        assert call.image == image
        assert call.request.size_bytes == len(image)


def test_a_predicted_large_answer_is_streamed(
    client: Any, server: FakeServer, png: Callable[..., bytes]
) -> None:
    assert client.upscale(png(2000, 2000)).data == server.file
    assert [call.method for call in server.calls] == ["GetServerInfo", "UpscaleStream"]


def test_an_answer_that_turns_out_too_large_is_done_again_as_a_stream(
    client: Any, server: FakeServer, png: Callable[..., bytes]
) -> None:
    server.fail("Upscale", Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, reason="INLINE_TOO_LARGE"))
    assert client.upscale(png()).data == server.file
    assert [call.method for call in server.calls] == ["GetServerInfo", "Upscale", "UpscaleStream"]
    assert server.calls[1].request.request_id == server.calls[2].request.request_id != ""


def test_a_server_without_limits_is_still_served(client: Any, server: FakeServer) -> None:
    server.fail("GetServerInfo", Failure(grpc.StatusCode.UNIMPLEMENTED))
    assert client.upscale(b"whatever").data == server.file


def test_the_server_fetches_what_it_is_told_to(client: Any, server: FakeServer) -> None:
    client.upscale(url="https://example.com/a.png")
    assert server.calls[-1].request.source.url == "https://example.com/a.png"
    for source in ("https://example.com/a.png", upscaled.Url("https://example.com/a.png")):
        client.upscale(source)
        assert server.calls[-1].request.source.url == "https://example.com/a.png"
    client.upscale(output_id="out-9", delivery="url")
    assert server.calls[-1].method == "Upscale"
    assert server.calls[-1].request.source.output_id == "out-9"


def test_a_result_is_the_source_of_another_call(client: Any, server: FakeServer) -> None:
    inline = client.upscale(b"image")
    client.upscale(inline)
    assert server.calls[-1].image == server.file  # the server did not keep it, so it is sent
    server.stored = True
    stored = client.upscale(b"image", delivery="url")
    client.upscale(stored, delivery="url")
    assert server.calls[-1].request.source.output_id == "out-1"
    client.upscale(stored.output, delivery="url")
    assert server.calls[-1].request.source.output_id == "out-1"


def test_sources_that_do_not_add_up_are_refused_before_anything_is_sent(
    client: Any, server: FakeServer, tmp_path: Path
) -> None:
    (tmp_path / "text").write_text("x")
    with (tmp_path / "text").open() as text:
        cases: list[tuple[Any, dict[str, Any], str]] = [
            (None, {}, "got none"),
            (b"x", {"url": "https://x"}, "got source, url"),
            (tmp_path / "none.png", {}, "No such file"),
            (tmp_path, {}, "Is a directory"),
            (text, {}, "mode 'rb'"),
            (object(), {}, "got object"),
        ]
        for source, keywords, words in cases:
            with pytest.raises(upscaled.SourceError, match=words):
                client.upscale(source, **keywords)
            with pytest.raises(upscaled.SourceError, match=words):
                list(client.upscale_stream(source, **keywords))
    assert not server.calls


def test_a_file_object_is_read_from_where_it_stands_and_left_open(client: Any, server: FakeServer) -> None:
    file = io.BytesIO(b"skipped" + b"image" * 300_000)
    file.seek(7)
    client.upscale(file)
    assert server.calls[-1].image == b"image" * 300_000
    assert not file.closed


def test_what_cannot_be_rewound_is_read_once_and_sent_as_often_as_needed(server: FakeServer) -> None:
    read_end, write_end = os.pipe()
    image = os.urandom(3 * 1024 * 1024)

    def feed() -> None:
        with os.fdopen(write_end, "wb") as pipe:
            pipe.write(image)

    feeder = threading.Thread(target=feed)
    feeder.start()
    server.fail("UpscaleStream", Failure(grpc.StatusCode.UNAVAILABLE), times=2)
    with os.fdopen(read_end, "rb") as pipe, Client(server.target) as client:
        assert client.upscale(pipe).data == server.file
    feeder.join()
    assert [call.image == image for call in server.called("UpscaleStream")] == [True] * 3


def test_an_endless_source_ends_at_the_limit(client: Any, server: FakeServer) -> None:
    server.limits.max_input_bytes = 4 * 1024 * 1024
    with pytest.raises(upscaled.LimitExceededError, match="/dev/zero") as caught:
        client.upscale("/dev/zero")
    assert caught.value.metadata["limit"] == 4 * 1024 * 1024
    assert [call.method for call in server.calls] == ["GetServerInfo"]


def test_the_events_come_in_order(client: Any, server: FakeServer) -> None:
    server.tiles = 2
    events = list(client.upscale_stream(b"image", tiles=upscaled.Tiles(size=64, encoding="jpeg"), width=2048))
    kinds = [type(event) for event in events]
    assert kinds == [
        upscaled.Plan,
        upscaled.Progress,
        *[upscaled.Tile] * 2,
        *[upscaled.Chunk] * 3,
        upscaled.Done,
    ]
    assert events[1].stage == "infer"
    assert events[2].encoding == "jpeg"
    assert b"".join(event.data for event in events[4:7]) == server.file
    assert events[-1].result.sha256 == events[-1].result.output.sha256
    with pytest.raises(upscaled.NoDataError):
        _ = events[-1].result.data
    assert server.calls[-1].request.options.tiles.size == 64


def test_only_tiles_are_sent_if_the_file_is_left_out(client: Any, server: FakeServer) -> None:
    server.tiles = 1
    events = list(client.upscale_stream(b"image", tiles=True, omit_file=True))
    assert [type(event).__name__ for event in events] == ["Plan", "Progress", "Tile", "Done"]
    assert events[-1].result.outputs == ()
    assert events[-1].result.width == 16  # as planned


def test_a_check_answers_with_the_plan_alone(
    client: Any, server: FakeServer, png: Callable[..., bytes]
) -> None:
    for source in (png(), png(padding=3_000_000)):
        result = client.upscale(source, validate_only=True)
        assert result.plan.output_width == result.width == 16
        with pytest.raises(upscaled.NoDataError, match="no output"):
            _ = result.data
    assert [call.method for call in server.calls] == ["GetServerInfo", "Upscale", "UpscaleStream"]


def test_a_stored_result_says_where_it_is(client: Any, server: FakeServer, tmp_path: Path) -> None:
    server.stored = True
    for source in (b"small", b"large" * 400_000):
        result = client.upscale(source, delivery="url")
        assert (result.id, result.url) == ("out-1", "http://example/out-1")
        with pytest.raises(upscaled.NoDataError, match="http://example/out-1"):
            result.save(tmp_path / "x.png")
    with pytest.raises(upscaled.InvalidOptionError, match="output"):
        client.upscale(b"x", delivery="url", output=tmp_path / "x.png")
    assert list(tmp_path.iterdir()) == []


def test_a_result_is_saved_whole(client: Any, server: FakeServer, tmp_path: Path) -> None:
    result = client.upscale(b"image")
    assert result.save(tmp_path / "out.png").read_bytes() == server.file
    assert [path.name for path in tmp_path.iterdir()] == ["out.png"]
    with pytest.raises(FileNotFoundError):
        result.save(tmp_path / "none" / "out.png")


def test_an_output_file_appears_whole(client: Any, server: FakeServer, tmp_path: Path) -> None:
    seen: list[Any] = []
    (tmp_path / "out.png").write_bytes(b"old")
    result = client.upscale(b"image", output=tmp_path / "out.png", on_progress=seen.append)
    assert result.path == tmp_path / "out.png"
    assert (tmp_path / "out.png").read_bytes() == server.file
    assert [type(event) for event in seen] == [upscaled.Plan, upscaled.Progress]
    with pytest.raises(upscaled.NoDataError, match=r"out\.png"):
        _ = result.data
    result.save(tmp_path / "copy.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.png", "out.png"]


def test_what_a_progress_callback_raises_ends_the_call(
    client: Any, server: FakeServer, tmp_path: Path
) -> None:
    server.hang_after_events = 3

    def refuse(_event: object) -> None:
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        client.upscale(b"image", output=tmp_path / "out.png", on_progress=refuse)
    assert server.calls[-1].cancelled.wait(5)
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_cannot_be_written_fails_before_the_work(
    client: Any, server: FakeServer, tmp_path: Path
) -> None:
    with pytest.raises(IsADirectoryError):
        client.upscale(b"x", output=tmp_path)
    with pytest.raises(FileNotFoundError):
        client.upscale(b"x", output=tmp_path / "none" / "out.png")
    assert not server.called("UpscaleStream")


@pytest.mark.parametrize("fault", ["without_done", "wrong_digest", "wrong_size", "gap"])
def test_a_file_that_is_not_proven_is_never_handed_out(
    client: Any, server: FakeServer, tmp_path: Path, fault: str
) -> None:
    setattr(server, fault, True)
    with pytest.raises(upscaled.BrokenStreamError) as caught:
        client.upscale(b"image", output=tmp_path / "out.png")
    assert caught.value.code is grpc.StatusCode.DATA_LOSS
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(upscaled.BrokenStreamError):
        client.upscale(b"image")
    events = []
    with pytest.raises(upscaled.BrokenStreamError):
        events.extend(client.upscale_stream(b"image"))
    assert not any(isinstance(event, upscaled.Done) for event in events)


def test_the_catalogue_and_the_server_answer(client: Any, server: FakeServer) -> None:
    assert [model.name for model in client.models.list()] == [
        "real-esrgan-x4-plus",
        "real-esrgan-animevideo-v3",
    ]
    assert client.models.get("RealESRGAN_x4plus").name == "real-esrgan-x4-plus"
    with pytest.raises(upscaled.NotFoundError, match="no model named 'x'"):
        client.models.get("x")
    info = client.server_info()
    assert (info.version, info.limits.max_inline_bytes, info.unimplemented) == ("1.2.3", 32 << 20, ("Jobs",))
    for call in server.calls:
        assert call.time_remaining is not None  # a look-up ends even if nobody set a timeout
        assert call.time_remaining < 31


def test_a_large_result_goes_to_a_file_in_bounded_memory(server: FakeServer, tmp_path: Path) -> None:
    server.file = bytes(256 << 20)
    (tmp_path / "in.jpg").write_bytes(bytes(48 << 20))
    code = (
        "import re, sys\nfrom upscaled import Client\n"
        "with Client(sys.argv[1]) as client: client.upscale(sys.argv[2], output=sys.argv[3])\n"
        # Not ru_maxrss, which begins with what the parent had.
        "print(int(re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read())[1]) // 1024)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, server.target, tmp_path / "in.jpg", tmp_path / "out.png"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert (tmp_path / "out.png").stat().st_size == 256 << 20
    assert int(done.stdout) < 150  # MiB, most of them Python and grpc; the two files are 304
