"""Health says when it makes sense to send images: once the models that are to be warm are."""

from __future__ import annotations

import shutil
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.e2e.conftest import running_server
from upscaled import Client

_MODEL = "real-esrgan-x4-v3"
_FILE = "realesr-general-x4v3"
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def test_health_is_serving_only_once_the_models_to_warm_are_warm(
    shared_models: Path, sample: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    settings = {
        "UPSCALED_WARM_MODELS": _MODEL,
        "UPSCALED_MODEL_DIR": str(folder),
        "UPSCALED_MODEL_CACHE": str(tmp_path / "cache"),
        "UPSCALED_MODEL_DOWNLOAD": "false",
    }
    with running_server(**settings) as server, grpc.insecure_channel(server.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service="upscaled.v1.Upscaler")
        assert health.Check(health_pb2.HealthCheckRequest()).status == _NOT_SERVING
        assert health.Check(health_pb2.HealthCheckRequest(service="liveness")).status == _SERVING
        watch = health.Watch(request, timeout=60)
        assert next(watch).status == _NOT_SERVING
        with Client(server.address, timeout=60) as client:  # who asks all the same is served
            assert client.upscale(sample, model="real-esrgan-animevideo-v3").width == 1280

        for suffix in (".bin", ".param"):
            shutil.copy(shared_models / f"{_FILE}{suffix}", folder / f"{_FILE}.part")
            (folder / f"{_FILE}.part").rename(folder / f"{_FILE}{suffix}")
        assert next(watch).status == _SERVING
        assert health.Check(health_pb2.HealthCheckRequest()).status == _SERVING
        watch.cancel()
