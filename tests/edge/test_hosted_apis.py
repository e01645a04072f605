"""Every block of docs/hosted-apis.md does what it says, through Envoy."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import REPO
from tests.e2e.conftest import running_server
from tests.edge.conftest import Edge, running_edge
from tests.ports import free_address
from upscaled import webhooks
from upscaled_server.access import keys

PAGE = (REPO / "docs" / "hosted-apis.md").read_text()
SECTIONS = PAGE.split("\n## ")[1:]


@dataclass
class Shop:
    """The user's own web server: serves the photograph, receives callbacks."""

    photo: bytes
    port: int = 0
    received: list[tuple[bytes, dict[str, str]]] = field(default_factory=list)
    arrived: threading.Event = field(default_factory=threading.Event)


@pytest.fixture(scope="module")
def shop(picture: Path) -> Iterator[Shop]:
    shop = Shop(picture.read_bytes())

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", str(len(shop.photo)))
            self.end_headers()
            self.wfile.write(shop.photo)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            shop.received.append((body, {name.lower(): value for name, value in self.headers.items()}))
            self.send_response(204)
            self.end_headers()
            shop.arrived.set()

        def log_message(self, *_: object) -> None:
            """Nothing on stderr."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    shop.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield shop
    server.shutdown()
    server.server_close()
    thread.join(10)


@dataclass(frozen=True)
class Service:
    edge: Edge
    key: str
    shop: Shop


@pytest.fixture(scope="module")
def service(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A server with keys, prices, and the hosted limits; the shop's server is allowed to it."""
    folder = tmp_path_factory.mktemp("hosted")
    key = keys.generate()
    (folder / "keys.yaml").write_text(f"shop:\n  keys: [{key}]\n  monthly_credits: 1000\n")
    inside = f"127.0.0.1:{shop.port}"
    address = free_address()
    with (
        running_server(
            UPSCALED_API_KEYS_FILE=str(folder / "keys.yaml"),
            UPSCALED_PUBLIC_URL=f"http://{address}",
            UPSCALED_PRICES="default=1+0.5",
            UPSCALED_LIMITS="hosted",
            UPSCALED_FETCH_ALLOW=inside,
            UPSCALED_CALLBACK_ALLOW=inside,
            UPSCALED_CALLBACK_HTTP="true",
        ) as server,
        running_edge(server, address) as edge,
    ):
        yield Service(edge, key, shop)


def run(language: str, code: str, service: Service, folder: Path) -> str:
    """What a block prints. It must end well."""
    code = code.replace("https://shop.example", f"http://127.0.0.1:{service.shop.port}")
    environ = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    environ |= {"EDGE": service.edge.url, "KEY": service.key}
    if language == "sh":
        command = ["bash", "-euo", "pipefail", "-c", code]
    elif language == "python":
        before = f"ADDRESS, KEY = {service.edge.address!r}, {service.key!r}\n"
        command = [sys.executable, "-c", before + code]
    else:
        (folder / "block.mjs").write_text("const { EDGE, KEY } = process.env;\n" + code)
        command = ["node", "block.mjs"]
    done = subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, f"{code}\n--- stdout\n{done.stdout}\n--- stderr\n{done.stderr}"
    return done.stdout


def blocks_of(title: str) -> list[tuple[str, str]]:
    (section,) = [each for each in SECTIONS if each.startswith(title)]
    return re.findall(r"```(sh|python|ts)\n(.*?)```", section, re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, picture: Path) -> Path:
    for program in ("curl", "jq", "node"):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}")
    shutil.copy(picture, tmp_path / "photo.png")
    return tmp_path


def test_every_service_is_shown_in_three_languages() -> None:
    assert len(SECTIONS) == 4
    for section in SECTIONS:
        assert {language for language, _ in re.findall(r"```(\w+)\n(.*?)```", section, re.DOTALL)} == {
            "sh",
            "python",
            "ts",
        }


@pytest.mark.parametrize("number", range(4))
def test_an_image_is_queued_and_its_result_fetched_by_id(number: int, service: Service, folder: Path) -> None:
    run(*blocks_of("Queue an image")[number], service, folder)
    assert Image.open(folder / "photo_x4.png").size == (384, 256)


@pytest.mark.parametrize("number", range(3))
def test_a_url_or_an_earlier_output_is_enough(number: int, service: Service, folder: Path) -> None:
    language, code = blocks_of("An image URL")[number]
    said = run(language, code, service, folder)
    assert f"{service.edge.url}/v1/outputs/" in said
    assert "real-esrgan-x4-plus" in said
    if language == "sh":
        shown, _ = json.JSONDecoder().raw_decode(said)
        assert set(shown) == {"outputs", "remaining_credits", "settings"}
        assert 0 < shown["remaining_credits"] < 1000


@pytest.mark.parametrize("number", range(3))
def test_a_stored_image_is_called_back_about_or_answered_with_the_same_body(
    number: int, service: Service, folder: Path
) -> None:
    shop = service.shop
    shop.received.clear()
    shop.arrived.clear()
    said = run(*blocks_of("A stored image")[number], service, folder)
    assert "a lighthouse at dusk" in said
    assert ".jpg" in said
    assert shop.arrived.wait(30), "no callback came"
    body, headers = shop.received[0]
    secrets = json.loads(
        subprocess.run(
            [
                *("curl", "--noproxy", "*", "-sS", "-H", f"authorization: Bearer {service.key}"),
                f"{service.edge.url}/v1/webhook-secrets",
            ],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )["secrets"]
    job = webhooks.verify(body, headers, secrets)
    assert job["state"] == "JOB_STATE_SUCCEEDED"
    assert job["labels"] == {"prompt": "a lighthouse at dusk", "ratio": "square"}
    (output,) = job["result"]["outputs"]
    assert output["file_name"].endswith(".jpg")
    assert output["url"].startswith(service.edge.url)


@pytest.mark.parametrize("number", range(3))
def test_base64_and_files_go_in_and_out_at_any_size(number: int, service: Service, folder: Path) -> None:
    run(*blocks_of("Six models")[number], service, folder)
    assert Image.open(folder / "photo_x2.png").size == (192, 128)
    assert Image.open(folder / "photo_300.png").size == (300, 200)
