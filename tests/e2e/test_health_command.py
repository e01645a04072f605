"""`upscaled health`, which containers ask with: it needs no port, no key and no certificate."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import grpc
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.e2e.conftest import RunningServer, running_server

UPSCALER = "upscaled.v1.Upscaler"


def _health(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "upscaled", "health", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environ},
        check=False,
    )


@pytest.mark.parametrize("service", ["", "liveness", UPSCALER])
def test_over_the_network_it_says_serving_and_ends_with_0(server: RunningServer, service: str) -> None:
    done = _health("--server", server.address, "--service", service)
    assert (done.returncode, done.stdout) == (0, "SERVING\n")


def test_a_service_that_is_not_there_is_a_failure(server: RunningServer) -> None:
    done = _health("--server", server.address, "--service", "nosuch")
    assert done.returncode == 1
    assert "no service 'nosuch'" in done.stderr


def test_without_a_server_it_is_a_failure(tmp_path: Path) -> None:
    done = _health("--data-dir", str(tmp_path))
    assert done.returncode == 1
    assert "admin.sock: UNAVAILABLE" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_that_does_not_answer_is_a_failure_within_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        done = _health("--server", f"127.0.0.1:{silent.getsockname()[1]}", "--timeout", "0.5")
    assert done.returncode == 1
    assert "DEADLINE_EXCEEDED" in done.stderr or "UNAVAILABLE" in done.stderr


def test_two_ways_at_once_are_wrong_usage(tmp_path: Path) -> None:
    assert _health("--server", "127.0.0.1:1", "--data-dir", str(tmp_path)).returncode == 2


def test_in_the_data_folder_it_asks_a_server_whose_port_wants_client_certificates(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("upscaled.test")
    authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    certificate.private_key_pem.write_to_path(tmp_path / "tls.key")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "tls.crt")
    files = {
        "UPSCALED_TLS_CERT_FILE": str(tmp_path / "tls.crt"),
        "UPSCALED_TLS_KEY_FILE": str(tmp_path / "tls.key"),
        "UPSCALED_TLS_CLIENT_CA_FILE": str(tmp_path / "ca.crt"),
    }
    data = {"UPSCALED_DATA_DIR": str(tmp_path / "data")}
    with running_server(**files, **data) as running:
        done = _health(**data)
        assert (done.returncode, done.stdout) == (0, "SERVING\n")
        refused = _health("--server", running.address, "--ca", str(tmp_path / "ca.crt"))
        assert refused.returncode == 1
    assert _health(**data).returncode == 1


def test_in_the_data_folder_a_server_whose_models_are_not_warm_is_not_serving(tmp_path: Path) -> None:
    settings = {
        "UPSCALED_DATA_DIR": str(tmp_path / "data"),
        "UPSCALED_WARM_MODELS": "real-esrgan-x4-v3",
        "UPSCALED_MODEL_CACHE": str(tmp_path / "cache"),
        "UPSCALED_MODEL_DOWNLOAD": "false",
    }
    with running_server(**settings):
        waiting = _health("--data-dir", settings["UPSCALED_DATA_DIR"])
        assert (waiting.returncode, waiting.stdout) == (1, "NOT_SERVING\n")
        alive = _health("--data-dir", settings["UPSCALED_DATA_DIR"], "--service", "liveness")
        assert (alive.returncode, alive.stdout) == (0, "SERVING\n")


def test_while_a_server_comes_up_its_data_folder_never_says_serving(tmp_path: Path) -> None:
    data = tmp_path / "data"
    settings = {
        "UPSCALED_DATA_DIR": str(data),
        "UPSCALED_WARM_MODELS": "real-esrgan-x4-v3",
        "UPSCALED_MODEL_CACHE": str(tmp_path / "cache"),
        "UPSCALED_MODEL_DOWNLOAD": "false",
    }
    told = []
    # The socket is there for a second or so before the server has come up.
    at_once = [(f"grpc.{which}_reconnect_backoff_ms", 20) for which in ("initial", "min", "max")]
    with ThreadPoolExecutor(1) as threads, ExitStack() as stack:
        starting = threads.submit(stack.enter_context, running_server(**settings))
        with grpc.insecure_channel(f"unix:{data}/admin.sock", options=at_once) as channel:
            check = health_pb2_grpc.HealthStub(channel).Check
            while not starting.done():
                with suppress(grpc.RpcError):
                    told.append(check(health_pb2.HealthCheckRequest(), timeout=5).status)
        starting.result()
    assert set(told) == {health_pb2.HealthCheckResponse.NOT_SERVING}
