"""The ways to reach a server: addresses, encryption, proof of who calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from fake_server import FakeServer

from upscaled import TLS, Client, ConnectError, UnavailableError

CERTIFICATES = Path(__file__).parent / "certificates"
PEM = CERTIFICATES / "server.pem"
KEY = CERTIFICATES / "server.key"


@pytest.fixture
def start() -> Iterator[Callable[..., FakeServer]]:
    running: list[FakeServer] = []

    def start(address: str = "127.0.0.1:0", *, tls: bool = False, mutual: bool = False) -> FakeServer:
        fake = FakeServer()
        running.append(fake)
        credentials = None
        if tls:
            roots = PEM.read_bytes() if mutual else None
            pair = [(KEY.read_bytes(), PEM.read_bytes())]
            credentials = grpc.ssl_server_credentials(pair, roots, require_client_auth=mutual)
        fake.start(address, credentials)
        return fake

    yield start
    for fake in running:
        fake.stop()


@pytest.mark.parametrize(
    "tls", [PEM, str(PEM), TLS(ca=PEM), TLS(ca=PEM.read_bytes(), server_name="localhost")]
)
def test_an_encrypted_server_is_verified_and_reached(start: Callable[..., FakeServer], tls: object) -> None:
    server = start(tls=True)
    with Client(server.target, tls=tls, api_key="k") as client:  # type: ignore[arg-type]
        assert client.server_info().version == "1.2.3"
    assert server.calls[0].metadata["authorization"] == "Bearer k"


def test_a_server_that_cannot_be_verified_is_not_called(start: Callable[..., FakeServer]) -> None:
    server = start(tls=True)
    with Client(server.target, tls=True, retries=0) as client, pytest.raises(ConnectError):
        client.server_info()
    assert not server.calls


def test_a_client_proves_itself(start: Callable[..., FakeServer]) -> None:
    server = start(tls=True, mutual=True)
    with Client(server.target, tls=TLS(ca=PEM, cert=PEM, key=KEY)) as client:
        assert client.server_info().version == "1.2.3"
    with Client(server.target, tls=PEM, retries=0) as client, pytest.raises(UnavailableError):
        client.server_info()
    assert len(server.calls) == 1


def test_a_socket_file_is_an_address(start: Callable[..., FakeServer], tmp_path: Path) -> None:
    server = start(f"unix:{tmp_path}/s")
    with Client(server.target) as client:
        assert client.server_info().version == "1.2.3"
    with (
        Client(f"unix:{tmp_path}/none", retries=0) as client,
        pytest.raises(ConnectError, match="No such file"),
    ):
        client.server_info()


def test_a_name_is_resolved(start: Callable[..., FakeServer], monkeypatch: pytest.MonkeyPatch) -> None:
    server = start()
    monkeypatch.setenv("no_proxy", "localhost")
    with Client(f"dns:///localhost:{server.target.rpartition(':')[2]}") as client:
        assert client.server_info().version == "1.2.3"
    with Client("dns:///nowhere.invalid:1", retries=0) as client, pytest.raises(ConnectError):
        client.server_info(timeout=20)


def test_the_environment_names_server_and_key(
    start: Callable[..., FakeServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start()
    monkeypatch.setenv("UPSCALED_SERVER", server.target)
    monkeypatch.setenv("UPSCALED_API_KEY", "from-the-environment")
    with Client() as client:
        client.server_info()
    with Client(api_key=None) as client:
        client.server_info()
    assert [call.metadata.get("authorization") for call in server.calls] == [
        "Bearer from-the-environment",
        None,
    ]
