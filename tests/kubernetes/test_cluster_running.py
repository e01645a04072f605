"""Two servers with exactly the settings of the cluster's overlay, but for where NATS and the bucket are."""

from __future__ import annotations

import copy
import io
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from PIL import Image

from tests.integration.state.nats_credentials import make_credentials
from tests.kubernetes.installation import Installation
from tests.kubernetes.rendering import Choice, Object
from tests.kubernetes.running import Pod, ask, running_pod
from tests.nats_servers import nats_server
from tests.s3_server import s3_server
from upscaled import Client, Retries

FAST = "real-esrgan-animevideo-v3"


@pytest.fixture
def replicas(installations: dict[Choice, list[Object]], tmp_path: Path) -> Iterator[list[Pod]]:
    made = make_credentials()
    creds = tmp_path / "upscaled.creds"
    creds.write_text(made.creds)
    with ExitStack() as stack:
        nats = stack.enter_context(nats_server(tmp_path / "nats", config=made.config))
        s3 = stack.enter_context(s3_server(tmp_path))
        moved = {
            "UPSCALED_CLUSTER_URL": nats.url,
            "UPSCALED_CLUSTER_REPLICAS": "1",
            "UPSCALED_BLOBS_URL": f"s3://{s3.new_bucket()}",
            # Weights of packages, the quickest to warm.
            "UPSCALED_WARM_MODELS": FAST,
            **s3.environment,
        }
        found = []
        for name in ("first", "second"):
            installation = Installation(copy.deepcopy(installations[Choice("cluster")]))
            assert moved.keys() - s3.environment.keys() <= installation.environ.keys()
            installation.environ |= moved
            folder = tmp_path / name
            folder.mkdir()
            files = {"/etc/upscaled/nats/upscaled.creds": creds}
            found.append(stack.enter_context(running_pod(installation, folder, files)))
        yield found


def test_a_job_of_one_is_followed_and_its_file_read_at_the_other(replicas: list[Pod]) -> None:
    first, second = replicas
    image = io.BytesIO()
    Image.effect_noise((64, 48), 80).convert("RGB").save(image, "PNG")
    retries = Retries(max_retries=10)
    with (
        Client(first.server.address, api_key=first.key, timeout=60, retries=retries) as here,
        Client(second.server.address, api_key=second.key, timeout=60, retries=retries) as there,
    ):
        job = here.jobs.create(image.getvalue(), model=FAST)
        result = there.jobs.get(job.id).wait(60)
        assert (result.width, result.height) == (256, 192)
        assert Image.open(io.BytesIO(there.outputs.read(result))).size == (256, 192)
    page = ask(second.metrics, "/metrics").text
    assert '\nupscaled_jobs{state="queued"} 0.0' in page, "what KEDA asks for"
