"""What every test shares: where optional real data is, and nothing that starts by itself."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import hypothesis
import pytest

from tests import both_stores, nats_servers, s3_server
from tests.both_stores import OpenStore
from tests.nats_servers import NatsServer
from tests.s3_server import S3Server
from upscaled_server.state.store import Store

REPO = Path(__file__).resolve().parents[1]

# How long an example takes says how busy the machine is, not whether the code is right.
hypothesis.settings.register_profile("upscaled", deadline=None)
hypothesis.settings.load_profile("upscaled")

# Without a card Triton's kernels are interpreted. Triton looks at this when it is first imported, which torch
# may do.
if not any(Path("/dev").glob("nvidia[0-9]*")):
    os.environ.setdefault("TRITON_INTERPRET", "1")

# Commands are interrupted in tests; started in the background of a script, all of them would ignore that.
signal.signal(signal.SIGINT, signal.default_int_handler)


# What tests of a cluster ask for, and what forms of a test that have one are called.
_CLUSTER_FIXTURES = {"cluster", "each_nats_server", "nats_server", "s3", "s3_bucket"}
_CLUSTER_FORM = re.compile(r"\b(nats|s3|cluster)\b")
_CLUSTER_MODULES = re.compile(
    r"integration/state/test_(nats|work|news)|test_cluster_running|test_\w+_shared\.py"
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs NATS or an object store: such tests have a target of their own."""
    for item in items:
        form = item.callspec.id if isinstance(item, pytest.Function) and hasattr(item, "callspec") else ""
        if (
            _CLUSTER_FIXTURES & set(getattr(item, "fixturenames", ()))
            or _CLUSTER_FORM.search(form)
            or _CLUSTER_MODULES.search(item.path.as_posix())
        ):
            item.add_marker("cluster")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real images, models and the corpus of hostile files, which a plain clone does not
    have."""
    folder = REPO.parent / "shared"
    if not (folder / "images").is_dir():
        pytest.skip(
            "needs ../shared, the maintainers' folder of real images, which a plain clone does not have"
        )
    return folder


@pytest.fixture(scope="session")
def shared_images(shared: Path) -> Path:
    return shared / "images"


@pytest.fixture(scope="session")
def shared_models(shared: Path) -> Path:
    return shared / "models"


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """One for all tests that leave it running; each has a bucket of its own."""
    with nats_servers.nats_server(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One for all tests."""
    with s3_server.s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3_bucket(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket of the test's own, which this process may use."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return s3.new_bucket()


@pytest.fixture(scope="session", params=["newest", "oldest"])
def each_nats_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[NatsServer]:
    """One of each version that is installed."""
    found = nats_servers.programs()
    if request.param == "oldest" and len(found) < 2:
        pytest.skip("no second nats-server is installed (Debian: apt-get install nats-server)")
    program = found[min(found)] if request.param == "oldest" else nats_servers.newest_program()
    with nats_servers.nats_server(tmp_path_factory.mktemp("nats"), program=program) as server:
        yield server


@pytest.fixture(params=both_stores.STORES)
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> OpenStore:
    """Opens one state of the test's own, as often as it wants, in either store."""
    if request.param == "sqlite":
        return both_stores.sqlite_opener(tmp_path / "state.db")
    return both_stores.nats_opener(request.getfixturevalue("nats_server"))


@pytest.fixture
async def store(open_store: OpenStore) -> AsyncIterator[Store]:
    """Either store: what is tested over one holds over the other."""
    async with open_store() as store:
        yield store
