"""The server starts with exactly the settings of the manifests, and what they say of it is so."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc
from PIL import Image

from tests.e2e.conftest import running_server
from tests.kubernetes.installation import Installation
from tests.kubernetes.rendering import Choice, Object, named
from tests.kubernetes.running import Pod, ask, run_job, running_pod
from upscaled import Client, FailedPreconditionError, InvalidRequestError, QuotaExceededError

FAST = "real-esrgan-animevideo-v3"
_SERVING = health_pb2.HealthCheckResponse.SERVING


@pytest.fixture(scope="module")
def pod(installations: dict[Choice, list[Object]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    """The plain CPU installation."""
    installation = Installation(copy.deepcopy(installations[Choice("cpu")]))
    with running_pod(installation, tmp_path_factory.mktemp("pod")) as running:
        yield running


def _probe(pod: Pod, name: str) -> bool:
    """Ask what the kubelet would."""
    probe = pod.installation.server[name]
    if "httpGet" in probe:
        assert probe["httpGet"]["port"] == "metrics"
        return ask(pod.metrics, probe["httpGet"]["path"]).is_success
    with grpc.insecure_channel(pod.server.address) as channel:
        request = health_pb2.HealthCheckRequest(service=probe["grpc"].get("service", ""))
        answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=probe["timeoutSeconds"])
        return bool(answer.status == _SERVING)


@pytest.mark.parametrize("name", ["startupProbe", "livenessProbe", "readinessProbe"])
def test_the_probes_are_answered_without_a_key(pod: Pod, name: str) -> None:
    assert _probe(pod, name)


def test_the_smoke_test_passes(pod: Pod, extras: dict[str, list[Object]], tmp_path: Path) -> None:
    done = run_job(extras["smoke-test"], tmp_path, pod.server.address, pod.key)
    assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path / "tmp" / "sample_x4.png").size == (192, 128)
    assert json.loads(done.stdout)["output"].endswith("/sample_x4.png")


def test_the_smoke_test_fails_with_a_key_that_is_not_known(
    pod: Pod, extras: dict[str, list[Object]], tmp_path: Path
) -> None:
    done = run_job(extras["smoke-test"], tmp_path, pod.server.address, f"upk_{'a' * 12}_{'b' * 43}")
    assert done.returncode != 0
    assert "key" in done.stderr


def test_what_the_autoscaler_watches_is_what_the_server_tells_of(pod: Pod, scaled: list[Object]) -> None:
    queue, _busy = named(scaled, "HorizontalPodAutoscaler", "upscaled")["spec"]["metrics"]
    page = ask(pod.metrics, "/metrics").text
    # The adapter's rule makes `upscaled_device_busy` of the second one.
    for name in (queue["pods"]["metric"]["name"], "upscaled_device_busy_seconds_total"):
        assert f"\n{name}{{" in page, name


def test_no_url_is_fetched_and_nobody_is_called_back(pod: Pod, sample: bytes) -> None:
    with Client(pod.server.address, api_key=pod.key, timeout=60, retries=0) as client:
        with pytest.raises(InvalidRequestError, match="scheme that is not allowed"):
            client.upscale(url="http://example.com/photo.jpg")
        with pytest.raises(InvalidRequestError, match="port that is not allowed"):
            client.jobs.create(sample, model=FAST, callback_url="https://example.com/done")


def test_a_second_server_on_the_folder_refuses_to_start(pod: Pod, tmp_path: Path) -> None:
    log = tmp_path / "second.log"
    with (
        pytest.raises(RuntimeError, match="did not start"),
        running_server(log, **(dict(pod.environ) | {"UPSCALED_METRICS_LISTEN": ""})),
    ):
        pass
    assert "in use by another server" in log.read_text()


@pytest.fixture(scope="module")
def sample() -> bytes:
    """A PNG of 64x48 pixels."""
    out = io.BytesIO()
    Image.effect_noise((64, 48), 80).convert("RGB").save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def replica(scaled: list[Object], tmp_path: Path) -> Iterator[Pod]:
    """One of many that keep nothing."""
    with running_pod(Installation(scaled), tmp_path) as running:
        yield running


def test_a_replica_that_keeps_nothing_answers_calls_and_refuses_the_rest(replica: Pod, sample: bytes) -> None:
    with Client(replica.server.address, api_key=replica.key, timeout=60, retries=0) as client:
        assert client.upscale(sample, model=FAST).width == 256
        events = list(client.upscale_stream(sample, model=FAST))
        assert events
        with pytest.raises(FailedPreconditionError, match="takes no jobs"):
            client.jobs.create(sample, model=FAST)
        with pytest.raises(QuotaExceededError):
            client.inputs.upload(sample)
        with pytest.raises(QuotaExceededError):
            client.upscale(sample, model=FAST, delivery="url")


def test_a_server_for_a_card_does_not_start_where_there_is_none(
    installations: dict[Choice, list[Object]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    installation = Installation(copy.deepcopy(installations[Choice("gpu")]))
    with pytest.raises(RuntimeError, match="did not start"), running_pod(installation, tmp_path):
        pass
    assert "names cuda:0, which does not exist here" in (tmp_path / "server.log").read_text()


def test_over_tls_the_probes_are_answered_and_the_smoke_test_passes(
    installations: dict[Choice, list[Object]], extras: dict[str, list[Object]], tmp_path: Path
) -> None:
    authority = trustme.CA()
    made = authority.issue_cert("127.0.0.1", "localhost")
    cert, key, ca = (tmp_path / name for name in ("tls.crt", "tls.key", "ca.crt"))
    made.cert_chain_pems[0].write_to_path(str(cert))
    made.private_key_pem.write_to_path(str(key))
    authority.cert_pem.write_to_path(str(ca))
    installation = Installation(copy.deepcopy(installations[Choice("cpu", ("tls",))]))
    mounted = {"/etc/upscaled/tls/tls.crt": cert, "/etc/upscaled/tls/tls.key": key}
    (tmp_path / "pod").mkdir()
    with running_pod(installation, tmp_path / "pod", mounted) as running:
        assert all(_probe(running, name) for name in ("startupProbe", "livenessProbe", "readinessProbe"))
        done = run_job(extras["smoke-test-tls"], tmp_path, running.server.address, running.key, ca_crt=ca)
        assert done.returncode == 0, done.stderr
        (tmp_path / "plain").mkdir()
        plain = run_job(extras["smoke-test"], tmp_path / "plain", running.server.address, running.key)
        assert plain.returncode != 0
