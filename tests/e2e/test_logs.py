"""What a server writes to stderr, whatever is done to it; and levels that are changed while it runs."""

from __future__ import annotations

import io
import json
import os
import pty
import signal
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from PIL import Image

from tests.e2e.conftest import running_server
from tests.e2e.keyed import FAST, KeyedServer, command, keyed_server
from upscaled import Client, UpscaledError, trace_parent
from upscaled.v1 import admin_pb2, admin_pb2_grpc, blobs_pb2, blobs_pb2_grpc, jobs_pb2, jobs_pb2_grpc

FORGED = 'x\r\n{"level":"error","event":"FORGED-41"}\nFORGED-41\x1b[2J\x7f\u2028FORGED-41'
TRACE_ID = "ab" * 16


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((24, 16), 40).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


def entries(log: Path) -> list[dict[str, Any]]:
    """Every line is an object."""
    return [json.loads(line) for line in log.read_bytes().split(b"\n") if line]


def open_to(keyed: KeyedServer, key: str) -> Client:
    return Client(keyed.address, api_key=key)


@pytest.fixture
def keyed(tmp_path: Path) -> Any:
    with keyed_server(tmp_path) as running:
        yield running


def test_lines_name_the_trace_the_request_the_job_and_the_caller(keyed: KeyedServer) -> None:
    key = keyed.make_key("anna")
    parent = f"00-{TRACE_ID}-{'cd' * 8}-01"
    with open_to(keyed, key) as client, trace_parent(parent):
        with suppress(UpscaledError):
            client.upscale(picture(), model="nonesuch", request_id="order-4711")
        job = client.jobs.create(url="http://nonesuch.invalid/a.png?signature=SECRET41", model=FAST)
        with suppress(UpscaledError):
            job.wait()
    keyed.server.stop()
    said = entries(keyed.log)
    (refused,) = (each for each in said if "model named 'nonesuch'" in each["event"])
    assert refused["trace_id"] == TRACE_ID
    assert refused["request_id"] == "order-4711"
    assert refused["caller"] == "anna"
    assert refused["level"] == "info"
    assert refused["logger"] == "upscaled_server.api.errors_interceptor"
    about_job = [each for each in said if each.get("job_id") == job.id]
    assert about_job
    assert all(each["trace_id"] == TRACE_ID and each["caller"] == "anna" for each in about_job)
    assert "SECRET41" not in keyed.log.read_text()


def test_nobody_begins_a_line_or_writes_a_control_byte(keyed: KeyedServer) -> None:
    key = keyed.make_key("anna")
    metadata = (("authorization", f"Bearer {key}"),)
    with grpc.insecure_channel(keyed.address) as channel, open_to(keyed, key) as client:
        jobs, blobs = jobs_pb2_grpc.JobsStub(channel), blobs_pb2_grpc.BlobsStub(channel)
        for call in (
            lambda: client.upscale(picture(), model=FORGED),
            lambda: client.upscale(picture(), model=FAST, request_id=FORGED),
            lambda: client.upscale(FORGED.encode(), model=FAST),
            lambda: client.upscale(url=f"http://127.0.0.1:9/{FORGED}", model=FAST),
            lambda: client.upscale(picture(), model=FAST, labels={FORGED: FORGED}),
            lambda: jobs.GetJob(jobs_pb2.GetJobRequest(job_id=FORGED), metadata=metadata, timeout=10),
            lambda: blobs.CreateInput(
                blobs_pb2.CreateInputRequest(request_id=FORGED), metadata=metadata, timeout=10
            ),
            lambda: keyed.admin.CreateCaller(
                admin_pb2.CreateCallerRequest(caller=admin_pb2.Caller(name=FORGED)), timeout=10
            ),
            lambda: keyed.admin.SetLogLevel(
                admin_pb2.SetLogLevelRequest(logger=FORGED, level=admin_pb2.LOG_LEVEL_INFO), timeout=10
            ),
        ):
            with suppress(UpscaledError, grpc.RpcError):
                call()
    keyed.server.stop()
    raw = keyed.log.read_bytes()
    assert b"FORGED-41" in raw
    assert all(line.startswith(b'{"time": "2') for line in raw.split(b"\n") if line)
    assert not any(byte < 0x20 and byte != 0x0A for byte in raw)
    assert raw.isascii()
    assert b"\x7f" not in raw


def test_strangers_at_a_port_with_tls_leave_no_lines_of_another_form(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(tmp_path / "key")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "certificate")
    log = tmp_path / "log"
    with running_server(
        log,
        UPSCALED_TLS_CERT_FILE=str(tmp_path / "certificate"),
        UPSCALED_TLS_KEY_FILE=str(tmp_path / "key"),
    ) as server:
        host, _, port = server.address.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=10) as stranger:
            stranger.sendall(b"GET /FORGED-41 HTTP/1.1\r\n\r\n")
            while stranger.recv(4096):
                pass
    assert entries(log)


def test_a_worker_that_crashes_leaves_lines_of_the_same_kind(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with running_server(log) as server, Client(server.address) as client:
        client.upscale(picture(), model=FAST)
        (up,) = (each for each in entries(log) if "is up after" in each["event"])
        os.kill(int(up["event"].split("pid ")[1].split(")")[0]), signal.SIGABRT)  # faulthandler prints much
        client.upscale(picture(), model=FAST)
    said = entries(log)
    assert any("Fatal Python error" in each["event"] for each in said)
    assert any("SIGABRT" in each["event"] and each["level"] == "error" for each in said)


def test_a_level_is_set_while_the_server_runs_and_audited(keyed: KeyedServer) -> None:
    """The server begins at the level debug."""

    def lines_of_a_refusal() -> int:
        before = len(entries(keyed.log))
        with suppress(UpscaledError), Client(keyed.address, api_key="upk_nobody") as client:
            client.server_info()
        return sum("UNAUTHENTICATED" in each["event"] for each in entries(keyed.log)[before:])

    def set_level(logger: str, level: admin_pb2.LogLevel.ValueType) -> admin_pb2.SetLogLevelResponse:
        return keyed.admin.SetLogLevel(admin_pb2.SetLogLevelRequest(logger=logger, level=level), timeout=10)

    keyed.make_key("anna")
    assert lines_of_a_refusal() == 1
    answer = set_level("", admin_pb2.LOG_LEVEL_ERROR)
    assert (answer.level, answer.previous_level) == (admin_pb2.LOG_LEVEL_ERROR, admin_pb2.LOG_LEVEL_DEBUG)
    assert lines_of_a_refusal() == 0
    set_level("upscaled_server.api", admin_pb2.LOG_LEVEL_DEBUG)
    assert lines_of_a_refusal() == 1
    answer = set_level("upscaled_server.api", admin_pb2.LOG_LEVEL_UNSPECIFIED)
    assert answer.level == admin_pb2.LOG_LEVEL_ERROR
    assert lines_of_a_refusal() == 0
    audited = [each["event"] for each in entries(keyed.log) if each["logger"] == "upscaled_server.audit"]
    assert [each for each in audited if each.startswith("SetLogLevel by admin.sock")] == [
        "SetLogLevel by admin.sock: logger=all level=error",
        "SetLogLevel by admin.sock: logger=upscaled_server.api level=debug",
        "SetLogLevel by admin.sock: logger=upscaled_server.api level=error",
    ]


def test_a_level_is_set_by_command(keyed: KeyedServer) -> None:
    done = command("logs", "level", "warning", "--data-dir", str(keyed.folder))
    assert done.stdout == "everything: warning, was debug\n", done.stderr
    done = command(
        *("logs", "level", "debug", "--logger", "upscaled_server.pool", "--data-dir", str(keyed.folder))
    )
    assert done.stdout == "upscaled_server.pool: debug, was warning\n", done.stderr
    done = command("logs", "level", "debug", "--logger", "nobody", "--data-dir", str(keyed.folder))
    assert done.returncode == 1
    assert "no logger named 'nobody'" in done.stderr


@pytest.mark.parametrize(
    ("logger", "level", "code"),
    [
        ("upscaled_server.audit", admin_pb2.LOG_LEVEL_ERROR, grpc.StatusCode.INVALID_ARGUMENT),
        ("", admin_pb2.LOG_LEVEL_UNSPECIFIED, grpc.StatusCode.INVALID_ARGUMENT),
        ("upscaled_server.pool", 77, grpc.StatusCode.INVALID_ARGUMENT),
        ("x" * 201, admin_pb2.LOG_LEVEL_INFO, grpc.StatusCode.INVALID_ARGUMENT),
        ("upscaled_server.nonesuch", admin_pb2.LOG_LEVEL_INFO, grpc.StatusCode.NOT_FOUND),
        ("asyncio", admin_pb2.LOG_LEVEL_DEBUG, grpc.StatusCode.NOT_FOUND),
    ],
)
def test_what_cannot_be_set_is_refused(
    shared_keyed: KeyedServer, logger: str, level: Any, code: grpc.StatusCode
) -> None:
    request = admin_pb2.SetLogLevelRequest(logger=logger, level=level)
    with pytest.raises(grpc.RpcError) as caught:
        shared_keyed.admin.SetLogLevel(request, timeout=10)
    assert caught.value.code() is code  # type: ignore[attr-defined]


def test_levels_are_for_administrators_alone(shared_keyed: KeyedServer) -> None:
    key = shared_keyed.make_key("ben")
    with grpc.insecure_channel(shared_keyed.address) as channel, pytest.raises(grpc.RpcError) as caught:
        admin_pb2_grpc.AdminStub(channel).SetLogLevel(
            admin_pb2.SetLogLevelRequest(level=admin_pb2.LOG_LEVEL_DEBUG),
            metadata=(("authorization", f"Bearer {key}"),),
            timeout=10,
        )
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def shared_keyed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with keyed_server(tmp_path_factory.mktemp("logs")) as running:
        yield running


def test_on_a_terminal_people_get_text() -> None:
    ours, theirs = pty.openpty()
    terminal = Path(os.ttyname(theirs))
    with running_server(terminal):
        said = os.read(ours, 65536).decode()
    os.close(theirs)
    os.close(ours)
    assert "INFO upscaled_server" in said
    assert "{" not in said


@pytest.mark.parametrize(("format", "begins"), [("json", '{"time": "'), ("text", "2")])
def test_the_setting_decides_where_it_is_given(tmp_path: Path, format: str, begins: str) -> None:
    log = tmp_path / "log"
    with running_server(log, UPSCALED_LOG_FORMAT=format):
        pass
    assert all(line.startswith(begins) for line in log.read_text().splitlines())
