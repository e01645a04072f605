"""The contract as HTTP and JSON through Envoy."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import subprocess
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.conftest import REPO
from tests.edge.conftest import MODEL, Edge
from upscaled import Client
from upscaled.v1 import server_pb2


def body_of(picture: Path, **options: object) -> dict[str, object]:
    image = base64.b64encode(picture.read_bytes()).decode()
    return {"source": {"image": image}, "options": {"model": MODEL, **options}}


def test_the_same_picture_comes_by_http_and_by_grpc_through_the_same_port(
    edge: Edge, http: httpx.Client, picture: Path
) -> None:
    answer = http.post("/v1/upscale", json=body_of(picture, scale=2))
    assert answer.status_code == 200, answer.text
    (output,) = answer.json()["outputs"]
    data = base64.b64decode(output["data"])
    assert (output["width"], output["height"]) == (192, 128)
    assert Image.open(io.BytesIO(data)).size == (192, 128)
    with Client(edge.address) as client:
        assert client.upscale(picture, model=MODEL, scale=2).data == data


def test_events_come_as_one_json_object_a_line(http: httpx.Client, picture: Path) -> None:
    body = body_of(picture, scale=4, tiles={"enabled": True, "size": 128, "encoding": "TILE_ENCODING_PNG"})
    events = []
    with http.stream("POST", "/v1/upscale:tiles", json=body) as answer:
        assert answer.status_code == 200
        events = [json.loads(line) for line in answer.iter_lines() if line]
    kinds = [next(iter(event)) for event in events]
    assert kinds[0] == "plan"
    assert kinds[-1] == "done"
    assert set(kinds) == {"plan", "progress", "tile", "chunk", "done"}
    plan = events[0]["plan"]
    assert kinds.count("tile") == plan["tile_count"] == 6
    canvas = Image.new("RGB", (plan["output_width"], plan["output_height"]))
    for event in events:
        if tile := event.get("tile"):
            canvas.paste(
                Image.open(io.BytesIO(base64.b64decode(tile["data"]))), (tile.get("x", 0), tile.get("y", 0))
            )
    data = b"".join(base64.b64decode(event["chunk"]["data"]) for event in events if "chunk" in event)
    (output,) = events[-1]["done"]["outputs"]
    assert hashlib.sha256(data).digest() == base64.b64decode(output["sha256"])
    assert canvas.tobytes() == Image.open(io.BytesIO(data)).convert("RGB").tobytes()


def test_curl_sends_a_file_and_gets_a_file(edge: Edge, picture: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.jpg"
    done = subprocess.run(
        [
            *("curl", "--noproxy", "*", "--silent", "--show-error", "--fail-with-body", "--max-time", "60"),
            *("--data-binary", f"@{picture}", "--header", "content-type: application/octet-stream"),
            *("--dump-header", str(tmp_path / "headers"), "--output", str(target)),
            f"{edge.url}/v1/upscale:file?options.model={MODEL}&options.scale=2&options.format=FORMAT_JPEG",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr + target.read_text(errors="replace")
    image = Image.open(target)
    assert (image.format, image.size) == ("JPEG", (192, 128))
    headers = httpx.Headers(
        [
            tuple(line.split(": ", 1))
            for line in (tmp_path / "headers").read_text().splitlines()
            if ": " in line
        ]
    )
    assert headers["content-type"] == "image/jpeg"
    assert headers["x-upscaled-sha256"] == hashlib.sha256(target.read_bytes()).hexdigest()
    assert int(headers["x-upscaled-size-bytes"]) == target.stat().st_size
    assert "attachment" in headers["content-disposition"]


def test_a_large_file_goes_in_and_out_in_pieces(http: httpx.Client) -> None:
    """5 MB of noise in, more out: above the size at which Envoy cuts a body."""
    noise = Image.effect_noise((1600, 1100), 90).convert("RGB")
    buffer = io.BytesIO()
    noise.save(buffer, "BMP")
    answer = http.post(
        f"/v1/upscale:file?options.model={MODEL}&options.scale=1.0",
        content=buffer.getvalue(),
        headers={"content-type": "application/octet-stream"},
    )
    assert answer.status_code == 200, answer.text[:500]
    assert int(answer.headers["x-upscaled-size-bytes"]) == len(answer.content)
    assert hashlib.sha256(answer.content).hexdigest() == answer.headers["x-upscaled-sha256"]
    assert Image.open(io.BytesIO(answer.content)).size == (1600, 1100)


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/v1/upscale", {"source": {"image": "AAAA"}}, 400, "NOT_AN_IMAGE"),
        ("/v1/upscale", {}, 400, "source"),
        ("/v1/upscale", {"source": {"image": "AAAA"}, "options": {"scale": -1}}, 400, "options.scale"),
        ("/v1/upscale", {"source": {"image": "AAAA"}, "options": {"model": "nothing"}}, 404, "nothing"),
        ("/v1/upscale:tiles", {"source": {"image": "AAAA"}}, 400, "NOT_AN_IMAGE"),
    ],
)
def test_an_error_is_json_with_code_message_and_details(
    http: httpx.Client, path: str, body: object, status: int, said: str
) -> None:
    answer = http.post(path, json=body)
    assert answer.status_code == status
    error = answer.json()
    assert set(error) == {"code", "message", "details"}
    assert said in json.dumps(error)
    (info,) = [each for each in error["details"] if each["@type"].endswith("google.rpc.ErrorInfo")]
    assert info["domain"] == "upscaled.v1"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/models?nothing=1", 400),
        ("POST", "/v1/upscale", 400),
        ("GET", "/etc/passwd", 404),
        ("GET", "/v1/models/..%2f..%2fetc%2fpasswd", 404),
    ],
)
def test_what_is_not_in_the_contract_is_refused(
    http: httpx.Client, method: str, path: str, status: int
) -> None:
    content = b"{" if method == "POST" else None
    answer = http.request(method, path, content=content, headers={"content-type": "application/json"})
    assert answer.status_code == status


def test_a_caller_that_leaves_stops_the_work(edge: Edge, http: httpx.Client, tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    Image.effect_noise((1600, 1200), 50).convert("RGB").save(large)
    with http.stream("POST", "/v1/upscale:tiles", json=body_of(large)) as answer:
        for line in answer.iter_lines():
            if line and json.loads(line).get("progress", {}).get("stage") == "STAGE_INFER":
                break
    with Client(edge.address, timeout=20) as client:
        buffer = io.BytesIO()
        Image.new("RGB", (16, 16)).save(buffer, "PNG")
        assert client.upscale(buffer.getvalue(), model=MODEL).width == 64


def test_a_page_of_another_origin_may_call_with_a_key_of_its_own(http: httpx.Client) -> None:
    answer = http.options(
        "/v1/upscale:tiles",
        headers={
            "origin": "https://shop.example",
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization,content-type",
        },
    )
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "https://shop.example"
    assert "authorization" in answer.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in answer.headers


def test_the_description_and_the_edge_know_the_same_paths(http: httpx.Client) -> None:
    from openapi_spec_validator import validate

    description = json.loads((REPO / "docs" / "openapi.json").read_text())
    validate(description)
    for path, operations in description["paths"].items():
        for verb, operation in operations.items():
            if operation["operationId"] == "Upscaler_UpscaleTiles":
                continue  # its errors are the stream's
            content = b"{}" if "requestBody" in operation else None
            answer = http.request(verb, path.replace("{", "").replace("}", ""), content=content)
            # What Envoy itself refuses has no body of an error of the server.
            if answer.status_code != 200:
                assert set(answer.json()) <= {"code", "message", "details"}, path


def test_a_browser_speaks_grpc_web(http: httpx.Client) -> None:
    """Frames as in gRPC, the trailers as the last one (0x80)."""
    answer = http.post(
        "/upscaled.v1.Server/GetServerInfo",
        content=bytes(5),
        headers={"content-type": "application/grpc-web+proto", "x-grpc-web": "1"},
    )
    assert answer.headers["content-type"] == "application/grpc-web+proto"
    length = int.from_bytes(answer.content[1:5], "big")
    info = server_pb2.ServerInfo.FromString(answer.content[5 : 5 + length])
    trailers = answer.content[5 + length :]
    assert info.version
    assert trailers[0] == 0x80
    assert b"grpc-status:0" in trailers


EXAMPLES = json.loads((REPO / "docs" / "openapi-examples.json").read_text())


@pytest.mark.parametrize(
    ("operation", "name"), [(operation, name) for operation, each in EXAMPLES.items() for name in each]
)
def test_an_example_of_the_description_is_answered(http: httpx.Client, operation: str, name: str) -> None:
    description = json.loads((REPO / "docs" / "openapi.json").read_text())
    (path, verb) = next(
        (path, verb)
        for path, operations in description["paths"].items()
        for verb, each in operations.items()
        if each["operationId"] == operation
    )
    answer = http.request(verb, path, json=EXAMPLES[operation][name]["body"])
    assert answer.status_code == 200, answer.text[:500]
