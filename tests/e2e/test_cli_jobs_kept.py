"""What the commands say of jobs that outlive the server, call back, and are paid for."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.conftest import REPO
from tests.e2e.keyed import FAST, command, keyed_server, picture
from tests.ports import free_port
from upscaled import Client, webhooks


@contextmanager
def serving(port: int, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A server on a port that stays the same over a restart."""
    process = subprocess.Popen(
        [sys.executable, "-m", "upscaled", "serve", "--listen", f"127.0.0.1:{port}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=REPO,
        env={**os.environ, "UPSCALED_DATA_DIR": str(folder)},
    )
    try:
        assert process.stdout is not None
        assert "listening on" in process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.wait(60)
        if process.stdout:
            process.stdout.close()


def test_who_waits_hears_the_end_over_a_killed_and_restarted_server(tmp_path: Path) -> None:
    port = free_port()
    data = tmp_path / "data"
    data.mkdir()
    results: list[Any] = []
    with Client(f"127.0.0.1:{port}") as client:
        with serving(port, data) as first:
            jobs = [client.jobs.create(picture(300, 300), model=FAST, request_id=f"r{n}") for n in range(4)]
            waiting = threading.Thread(target=lambda: results.extend(job.wait(120) for job in jobs))
            waiting.start()
            next(iter(jobs[0].watch()))
            first.kill()
            first.wait(60)
        with serving(port, data):
            waiting.join(150)
            assert [result.width for result in results] == [1200] * 4
            paths = [job.download(tmp_path / f"{job.id}.png") for job in jobs]
    assert len({path.read_bytes() for path in paths}) == 1


class _Outside(BaseHTTPRequestHandler):
    """Serves one image, and takes callbacks."""

    image = b""
    posts: ClassVar[list[tuple[dict[str, str], bytes]]]
    came: ClassVar[threading.Event]
    address: ClassVar[str]

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.image)))
        self.end_headers()
        self.wfile.write(self.image)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.posts.append((dict(self.headers.items()), body))
        self.send_response(204)
        self.end_headers()
        self.came.set()

    def log_message(self, *_arguments: object) -> None:
        return


@pytest.fixture
def outside() -> Iterator[type[_Outside]]:
    class Outside(_Outside):
        image = picture(24, 20)
        posts: ClassVar[list[tuple[dict[str, str], bytes]]] = []
        came = threading.Event()
        address = ""

    with ThreadingHTTPServer(("127.0.0.1", 0), Outside) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        Outside.address = f"127.0.0.1:{server.server_port}"
        yield Outside
        server.shutdown()
        thread.join()


def test_a_url_a_callback_and_the_bill(tmp_path: Path, outside: Any) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    settings = {
        "UPSCALED_FETCH_ALLOW": outside.address,
        "UPSCALED_CALLBACK_ALLOW": outside.address,
        "UPSCALED_CALLBACK_HTTP": "true",
        "UPSCALED_PRICES": "default=0.5+10",
    }
    with keyed_server(folder, **settings) as keyed:
        key = keyed.make_key("anna", monthly_credits=20)
        at = {"UPSCALED_SERVER": keyed.address, "UPSCALED_API_KEY": key, "NO_COLOR": "1"}
        done = command(
            *("jobs", "submit", f"http://{outside.address}/a.jpg?token=secret", "-m", FAST, "--wait"),
            *("--callback", f"http://{outside.address}/done", "--label", "order=4711"),
            **at,
        )
        assert done.returncode == 0, done.stderr
        assert outside.came.wait(30)
        headers, body = outside.posts[0]
        secrets = command("webhooks", "secrets", **at).stdout.split()
        told = webhooks.verify(body, headers, secrets)
        assert (told["id"], told["state"]) == (done.stdout.strip(), "JOB_STATE_SUCCEEDED")
        assert told["labels"] == {"order": "4711"}
        assert b"secret" not in body
        shown = command("jobs", "get", told["id"], **at).stdout
        assert f"input:      http://{outside.address}/a.jpg" in shown
        assert "token" not in shown
        # 96x80 pixels: 0.5 and 10 for a megapixel.
        assert "credits:    0.5768, 19.4232 left" in shown
        assert "delivered" in shown
        (row,) = csv.DictReader(command("usage", "--csv", **at).stdout.splitlines())
        assert (row["caller"], row["model"], row["requests"], row["credits"]) == ("anna", FAST, "1", "0.5768")
        assert "19.4232 of 20 credits left this month" in command("usage", **at).stdout
        stranger = keyed.make_key("bert")
        other = command("jobs", "get", told["id"], **{**at, "UPSCALED_API_KEY": stranger})
        assert other.returncode == 1
