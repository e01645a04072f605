"""`upscaled jobs …`, `upscaled usage` and `upscaled webhooks …`, run as a person runs them."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import pty
import signal
import subprocess
import sys
import threading
from pathlib import Path

import grpc
import pytest
from fake_server import Failure, FakeServer
from google.rpc import status_pb2
from running import run

pytest.importorskip("typer", reason="needs the extra cli")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"an image")
    return path


def submitted(server: FakeServer, *arguments: str | os.PathLike[str]) -> str:
    done = run("jobs", "submit", *arguments, server=server)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_files_folders_and_urls_are_submitted_and_their_ids_printed(
    server: FakeServer, photo: Path, tmp_path: Path
) -> None:
    (tmp_path / "album").mkdir()
    (tmp_path / "album" / "a.png").write_bytes(b"another")
    done = run("jobs", "submit", photo, tmp_path / "album", "https://example.com/c.png", server=server)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == list(server.jobs.kept)
    assert "photo.jpg: succeeded as job 01J" in done.stderr
    sources = [call.request.source for call in server.called("CreateJob")]
    assert [source.image for source in sources] == [b"an image", b"another", b""]
    assert sources[2].url == "https://example.com/c.png"


def test_the_options_of_upscale_and_those_of_jobs_reach_the_server(server: FakeServer, photo: Path) -> None:
    submitted(
        server,
        *(photo, "-m", "real-esrgan-x4-v3", "-s", "2", "-f", "webp", "-q", "80"),
        *("--label", "album=7", "--label", "who=a=b", "--callback", "https://example.com/done"),
        *("--retention", "2d", "--request-id", "mine"),
    )
    request = server.called("CreateJob")[0].request
    assert (request.options.model, request.options.scale, request.options.quality) == (
        "real-esrgan-x4-v3",
        2,
        80,
    )
    assert dict(request.options.labels) == {"album": "7", "who": "a=b"}
    assert (request.callback_url, request.request_id) == ("https://example.com/done", "mine")
    assert request.retention.seconds == 2 * 86400


def test_waiting_ends_with_how_it_went(server: FakeServer, photo: Path) -> None:
    done = run("jobs", "submit", photo, "--wait", server=server)
    assert done.returncode == 0
    assert "photo.jpg: succeeded, 16x12, 2.8 MB, 10 s, real-esrgan-x4-plus" in done.stderr
    server.jobs.error = status_pb2.Status(code=3, message="not an image")
    failed = run("jobs", "submit", photo, "--wait", server=server)
    assert failed.returncode == 1
    assert "photo.jpg: failed: not an image." in failed.stderr
    assert failed.stdout.strip() in server.jobs.kept


def test_one_image_that_is_refused_does_not_stop_the_others(server: FakeServer, photo: Path) -> None:
    other = photo.with_name("other.jpg")
    other.write_bytes(b"image")
    server.fail("CreateJob", Failure(grpc.StatusCode.INVALID_ARGUMENT, "not an image"))
    done = run("jobs", "submit", photo, other, server=server)
    assert done.returncode == 1
    assert "photo.jpg: not an image." in done.stderr
    assert len(done.stdout.split()) == 1
    server.fail("CreateJob", Failure(grpc.StatusCode.UNAUTHENTICATED, "who are you"))
    assert len(run("jobs", "submit", photo, other, server=server).stderr.splitlines()) == 1


def test_jobs_are_listed_as_a_table_and_as_json(server: FakeServer, photo: Path) -> None:
    first, second = (submitted(server, photo, "--label", f"n={n}") for n in (1, 2))
    done = run("jobs", "list", server=server)
    heading, *rows = done.stdout.splitlines()
    assert heading.split() == ["job", "state", "created", "took", "model", "pixels", "labels"]
    assert [row.split()[0] for row in rows] == [second, first]
    assert "4x3 to 16x12" in rows[0]
    assert "n=2" in rows[0]
    only = run("jobs", "list", "--label", "n=1", "--json", server=server)
    (line,) = only.stdout.splitlines()
    assert json.loads(line)["id"] == first
    limited = run("jobs", "list", "--limit", "1", server=server)
    assert len(limited.stdout.splitlines()) == 2
    assert "--limit shows more" in limited.stderr
    none = run("jobs", "list", "--state", "failed", server=server)
    assert (none.returncode, none.stdout, none.stderr) == (0, "", "no jobs\n")


def test_a_job_is_shown_in_words_and_as_the_contract_has_it(server: FakeServer, photo: Path) -> None:
    job = submitted(server, photo, "--callback", "https://example.com/done")
    text = run("jobs", "get", job, server=server).stdout
    for words in (
        f"job:        {job}",
        "state:      succeeded",
        "callback:   pending, https://example.com/done",
        f"url:        http://example/{job}",
        "credits:    0.5, 9.5 left",
    ):
        assert words in text
    shown = json.loads(run("jobs", "get", job, "--json", server=server).stdout)
    assert shown["result"]["outputs"][0]["file_name"] == "out.png"
    missing = run("jobs", "get", "01JNONE", job, server=server)
    assert missing.returncode == 1
    assert "01JNONE: no job 01JNONE." in missing.stderr
    assert job in missing.stdout


def test_results_are_fetched_under_their_names(server: FakeServer, photo: Path, tmp_path: Path) -> None:
    job = submitted(server, photo)
    server.files.cuts.append(100_000)
    done = run("jobs", "download", job, "-o", tmp_path / "big.png", server=server)
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'big.png'}\n")
    assert (tmp_path / "big.png").read_bytes() == server.file
    assert server.called("DownloadOutput")[1].request.offset == 100_000
    again = run("jobs", "download", job, "-o", tmp_path / "big.png", server=server)
    assert again.returncode == 1
    assert "--overwrite replaces it" in again.stderr
    folder = run("jobs", "download", job, "-o", tmp_path, server=server)
    assert folder.stdout == f"{tmp_path / 'out.png'}\n"


def test_what_is_not_done_is_waited_for_only_if_told(server: FakeServer, photo: Path, tmp_path: Path) -> None:
    server.jobs.at_once = False
    job = submitted(server, photo)
    early = run("jobs", "download", job, "-o", tmp_path / "out.png", server=server)
    assert early.returncode == 1
    assert "queued, so there is nothing to fetch; --wait waits for it" in early.stderr
    timer = threading.Timer(0.5, lambda: server._loop.call_soon_threadsafe(server.jobs.run, job))
    timer.start()
    done = run("jobs", "download", job, "-o", tmp_path / "out.png", "--wait", server=server)
    timer.join()
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.png").read_bytes() == server.file


def test_jobs_are_cancelled_and_deleted(server: FakeServer, photo: Path) -> None:
    server.jobs.at_once = False
    job = submitted(server, photo)
    refused = run("jobs", "delete", job, server=server)
    assert refused.returncode == 1
    assert "cancel it first" in refused.stderr
    assert f"{job}: cancelled" in run("jobs", "cancel", job, server=server).stderr
    watched = run("jobs", "watch", job, server=server)
    assert watched.returncode == 1
    assert f"{job}: cancelled" in watched.stderr
    assert run("jobs", "delete", job, server=server).returncode == 0
    assert not server.jobs.kept


def test_an_interrupted_watch_leaves_the_job_alone(server: FakeServer, photo: Path) -> None:
    server.jobs.at_once = False
    job = submitted(server, photo)
    process = subprocess.Popen(
        [sys.executable, "-m", "upscaled", "jobs", "watch", job],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "UPSCALED_SERVER": server.target},
    )
    try:
        for _ in range(1000):
            if server.called("WatchJob"):
                break
            threading.Event().wait(0.01)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert f"`upscaled jobs watch {job}` follows it again" in stderr
    assert "Traceback" not in stderr
    assert not server.called("CancelJob")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["submit", "none.png"], "no such file"),
        (["submit", "photo.jpg", "--label", "album"], "KEY=VALUE"),
        (["submit", "photo.jpg", "-s", "2", "--width", "64"], "exclude each other"),
        (["submit", "photo.jpg", "photo.jpg", "--request-id", "x"], "for one image"),
        (["submit", "photo.jpg", "--retention", "long"], "7d is expected"),
        (["list", "--state", "done"], "one of queued"),
        (["list", "--since", "once"], "2026-11-01"),
        (["get"], "Missing argument"),
    ],
)
def test_wrong_usage_is_code_2_and_calls_nobody(
    server: FakeServer, photo: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    monkeypatch.chdir(photo.parent)
    done = run("jobs", *arguments, server=server)
    assert done.returncode == 2
    assert words in done.stderr
    assert not server.calls


def test_no_server_is_started_for_jobs_that_would_die_with_it(photo: Path) -> None:
    done = run("jobs", "submit", photo, UPSCALED_SERVER="127.0.0.1:1")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "upscaled serve --listen" in done.stderr


def test_usage_is_a_table_csv_or_json(server: FakeServer) -> None:
    table = run("usage", "--since", "2026-11-01", "--until", "2026-11-08", server=server).stdout
    assert "anna, 2026-11-01 00:00:00Z to 2026-11-08 00:00:00Z" in table
    assert "87.5 of 100 credits left this month" in table
    assert table.splitlines()[-3].split() == ["total", "7", "3.50", "12.5000"]
    (row,) = csv.DictReader(run("usage", "--since", "2026-11-01", "--csv", server=server).stdout.splitlines())
    assert (row["model"], row["requests"], row["credits"]) == ("real-esrgan-x4-plus", "7", "12.5")
    assert row["start"] == "2026-11-01 00:00:00Z"
    found = json.loads(run("usage", "--json", server=server).stdout)
    assert found["models"][0]["output_megapixels"] == 3.5
    assert run("usage", "--json", "--csv", server=server).returncode == 2


def test_webhook_secrets_are_printed_one_a_line(server: FakeServer) -> None:
    assert run("webhooks", "secrets", server=server).stdout == "whsec_bmV3\nwhsec_b2xk\n"


def test_on_a_narrow_terminal_the_ids_stay_whole(server: FakeServer, photo: Path) -> None:
    job = submitted(server, photo, "--label", "a=a-rather-long-value-of-a-label")
    terminal, end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "upscaled", "jobs", "list"],
        stdout=end,
        env={**os.environ, "UPSCALED_SERVER": server.target, "TERM": "xterm", "COLUMNS": "80"},
    )
    os.close(end)
    seen = b""
    try:
        with contextlib.suppress(OSError):  # how a terminal says that nobody writes any more
            while piece := os.read(terminal, 4096):
                seen += piece
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()
        os.close(terminal)
    assert job.encode() in seen
    piped = run("jobs", "list", server=server).stdout
    assert all(line == line.rstrip() for line in piped.splitlines())
    assert piped.endswith("a=a-rather-long-value-of-a-label\n")
