"""Downloads from a real HTTP server on this machine that misbehaves on request."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.integration.engine.file_server import BODY, FileServer, Handler, serving

from upscaled_server.engine.catalogue import MODELS
from upscaled_server.engine.weights.download import Downloader, DownloadLimits
from upscaled_server.engine.weights.store import StoreOptions, WeightStore
from upscaled_server.errors import WeightsRejected, WeightsUnavailable

DIGEST = hashlib.sha256(BODY).hexdigest()
LIMITS = DownloadLimits(
    idle_seconds=1,
    slow_seconds=0.5,
    slowest_bytes_per_second=10_000,
    attempts=3,
    pause_seconds=0.01,
    total_seconds=20,
)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving() as server:
        yield server


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "weights.pth"


def _fetch(server: FileServer, target: Path, **changes: object) -> Path:
    arguments = {"size_bytes": len(BODY), "sha256": DIGEST} | changes
    return Downloader(LIMITS).fetch(server.url + "/v1/weights.pth", target, **arguments)  # type: ignore[arg-type]


def _leftovers(target: Path) -> set[str]:
    return {path.name for path in target.parent.iterdir()} - {target.name, target.name + ".lock"}


def test_a_file_is_fetched_with_progress(server: FileServer, target: Path) -> None:
    seen: list[tuple[int, int]] = []
    assert _fetch(server, target, progress=lambda done, total: seen.append((done, total))) == target
    assert target.read_bytes() == BODY
    assert seen[-1] == (len(BODY), len(BODY))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert not _leftovers(target)


def test_a_file_that_is_there_is_not_fetched_again(server: FileServer, target: Path) -> None:
    _fetch(server, target)
    _fetch(server, target)
    assert len(server.asked) == 1


def test_a_cut_download_is_resumed_where_it_ended(server: FileServer, target: Path) -> None:
    server.answer = lambda handler: handler.send_part(BODY, cut=100_000 if len(server.asked) < 4 else None)
    _fetch(server, target)
    assert target.read_bytes() == BODY
    assert server.asked == [None, "bytes=100000-", "bytes=200000-", "bytes=300000-"]


def test_a_part_of_an_earlier_call_is_continued(server: FileServer, target: Path) -> None:
    server.answer = lambda handler: handler.send_part(BODY, cut=0 if len(server.asked) > 1 else 150_000)
    with pytest.raises(WeightsUnavailable):
        _fetch(server, target)
    assert not target.exists()
    server.asked.clear()
    server.answer = lambda handler: handler.send_part(BODY)
    _fetch(server, target)
    assert server.asked == ["bytes=150000-"]


def test_a_server_that_ignores_ranges_starts_over(server: FileServer, target: Path) -> None:
    def answer(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(BODY)))
        handler.end_headers()
        handler.wfile.write(BODY if len(server.asked) > 1 else BODY[:1000])

    server.answer = answer
    _fetch(server, target)
    assert target.read_bytes() == BODY


def test_a_range_that_is_refused_starts_over(server: FileServer, target: Path) -> None:
    target.parent.mkdir()
    target.with_name(target.name + ".part").write_bytes(BODY[:1000])

    def answer(handler: Handler) -> None:
        if handler.offset():
            handler.send_status(416)
        else:
            handler.send_part(BODY)

    server.answer = answer
    _fetch(server, target)
    assert server.asked == ["bytes=1000-", None]


def test_a_part_of_another_file_is_thrown_away(server: FileServer, target: Path) -> None:
    target.parent.mkdir()
    target.with_name(target.name + ".part").write_bytes(b"x" * 5000)
    _fetch(server, target)
    assert target.read_bytes() == BODY
    assert server.asked == ["bytes=5000-", None]


def test_a_part_that_is_too_long_is_thrown_away(server: FileServer, target: Path) -> None:
    target.parent.mkdir()
    target.with_name(target.name + ".part").write_bytes(BODY + b"more")
    _fetch(server, target)
    assert target.read_bytes() == BODY


def test_another_file_is_refused_and_never_gets_its_name(server: FileServer, target: Path) -> None:
    server.answer = lambda handler: handler.send_part(BODY[:-1] + b"!")
    with pytest.raises(WeightsRejected, match="SHA-256") as caught:
        _fetch(server, target)
    assert caught.value.numbers["sha256"] != DIGEST
    assert not target.exists()
    assert not _leftovers(target)


def test_a_file_of_another_length_is_refused_by_its_head(server: FileServer, target: Path) -> None:
    server.answer = lambda handler: handler.send_part(BODY + b"!")
    with pytest.raises(WeightsRejected, match="bytes instead of"):
        _fetch(server, target)


def test_an_endless_body_is_cut(server: FileServer, target: Path) -> None:
    def answer(handler: Handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(BODY)

    server.answer = answer
    with pytest.raises(WeightsRejected, match="more than"):
        _fetch(server, target)
    assert target.with_name(target.name + ".part").stat().st_size <= len(BODY)


def test_a_dripping_body_is_given_up(server: FileServer, target: Path) -> None:
    stop = threading.Event()

    def answer(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(BODY)))
        handler.end_headers()
        while not stop.wait(0.05):
            handler.wfile.write(b"x")

    server.answer = answer
    quick = replace(LIMITS, total_seconds=3)
    with pytest.raises(WeightsUnavailable):
        Downloader(quick).fetch(server.url, target, size_bytes=len(BODY), sha256=DIGEST)
    stop.set()
    assert not target.exists()


def test_a_silent_server_is_given_up(server: FileServer, target: Path) -> None:
    stop = threading.Event()

    def answer(_: Handler) -> None:
        stop.wait(10)

    server.answer = answer
    with pytest.raises(WeightsUnavailable, match="timed out"):
        Downloader(replace(LIMITS, idle_seconds=0.1)).fetch(
            server.url, target, size_bytes=len(BODY), sha256=DIGEST
        )
    stop.set()


@pytest.mark.parametrize(("status", "requests"), [(404, 1), (403, 1), (503, 3), (429, 3)])
def test_a_refusal_is_reported_and_retried_only_if_that_can_help(
    server: FileServer, target: Path, status: int, requests: int
) -> None:
    server.answer = lambda handler: handler.send_status(status)
    with pytest.raises(WeightsUnavailable, match=str(status)):
        _fetch(server, target)
    assert len(server.asked) == requests


def test_nobody_listening_is_reported(target: Path, server: FileServer) -> None:
    url = server.url
    server.shutdown()
    server.server_close()
    with pytest.raises(WeightsUnavailable, match="could not be fetched"):
        Downloader(LIMITS).fetch(url, target, size_bytes=1, sha256=DIGEST)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/x", "weights.pth"])
def test_only_http_is_spoken(target: Path, url: str) -> None:
    with pytest.raises(WeightsUnavailable, match="HTTP"):
        Downloader(LIMITS).fetch(url, target, size_bytes=1, sha256=DIGEST)


def test_a_redirect_to_a_file_is_not_followed(server: FileServer, target: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(BODY)

    def answer(handler: Handler) -> None:
        handler.send_response(302)
        handler.send_header("Location", secret.as_uri())
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    server.answer = answer
    with pytest.raises(WeightsUnavailable):
        _fetch(server, target)
    assert not target.exists()


def test_two_at_once_fetch_once(server: FileServer, target: Path) -> None:
    def answer(handler: Handler) -> None:
        time.sleep(0.2)
        handler.send_part(BODY)

    server.answer = answer
    failures: list[BaseException] = []

    def fetch() -> None:
        try:
            _fetch(server, target)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=fetch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(server.asked) == 1
    assert target.read_bytes() == BODY


def test_a_folder_that_cannot_be_written_is_reported(server: FileServer, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    with pytest.raises(WeightsUnavailable, match="cannot be written"):
        _fetch(server, blocked / "weights.pth")


def test_the_store_fetches_from_the_mirror_and_says_so_when_it_cannot(
    server: FileServer, tmp_path: Path
) -> None:
    spec = next(spec for spec in MODELS if spec.name == "real-esrgan-x4-v3")
    spec = replace(spec, official=replace(spec.official, size_bytes=len(BODY), sha256=DIGEST))
    options = StoreOptions(cache=tmp_path, mirror=server.url + "/mirror/")
    path = WeightStore(options, Downloader(LIMITS)).pull(spec)
    assert path == tmp_path / "realesr-general-x4v3.pth"
    assert path.read_bytes() == BODY
    elsewhere = WeightStore(options, Downloader(LIMITS)).pull(spec, to=tmp_path / "elsewhere")
    assert elsewhere.parent.name == "elsewhere"
    server.answer = lambda handler: handler.send_status(404)
    path.unlink()
    with pytest.raises(WeightsUnavailable, match=r"404.*upscaled models pull"):
        WeightStore(options, Downloader(LIMITS)).load(spec)
