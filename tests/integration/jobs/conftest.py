"""Jobs of a server by itself, and of one of a cluster, so that the same test bodies run over both."""

from __future__ import annotations

from functools import partial

import jobs_bench
import pytest
from jobs_bench import OpenBench
from tests.nats_servers import NatsServer, settings_for

from upscaled_server.state.nats.settings import ClusterSettings


@pytest.fixture
def cluster(nats_server: NatsServer) -> ClusterSettings:
    """A cluster of the test's own."""
    return settings_for([nats_server])


@pytest.fixture(params=["alone", "cluster"])
def open_bench(request: pytest.FixtureRequest) -> OpenBench:
    """Opens one life of a service after another, of a server by itself or of the only one of a cluster."""
    if request.param == "alone":
        return jobs_bench.open_bench
    return partial(jobs_bench.open_bench, cluster=request.getfixturevalue("cluster"))
