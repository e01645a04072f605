"""Calls that a proxy gives up because the server behind it was gone in the middle of the answer."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.errors
import h2.events
import pytest

from upscaled import Client, Retries, UnavailableError

_SOON = 0.01


@dataclass
class Resetting:
    """Begins an answer to every call and resets its stream, as Envoy does."""

    address: str = ""
    calls: list[str] = field(default_factory=list)

    def serve(self, sock: socket.socket) -> None:
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        connection.initiate_connection()
        with contextlib.suppress(OSError):
            sock.sendall(connection.data_to_send())
            while data := sock.recv(65536):
                for event in connection.receive_data(data):
                    if isinstance(event, h2.events.RequestReceived):
                        self.calls.append(dict(event.headers)[b":path"].decode())
                        connection.send_headers(
                            event.stream_id, [(":status", "200"), ("content-type", "application/grpc")]
                        )
                        connection.reset_stream(event.stream_id, h2.errors.ErrorCodes.INTERNAL_ERROR)
                sock.sendall(connection.data_to_send())


@pytest.fixture
def resetting() -> Iterator[Resetting]:
    server = Resetting()
    listener = socket.create_server(("127.0.0.1", 0))
    server.address = f"127.0.0.1:{listener.getsockname()[1]}"

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=server.serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield server
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def test_a_call_that_was_broken_off_is_made_again(resetting: Resetting) -> None:
    retries = Retries(max_retries=2, initial_seconds=_SOON, max_seconds=_SOON)
    with (
        Client(resetting.address, retries=retries, timeout=30) as client,
        pytest.raises(UnavailableError, match="broke in the middle of the call") as failed,
    ):
        client.server_info()
    assert failed.value.retryable
    assert len(resetting.calls) == 3


def test_a_stream_of_events_that_was_broken_off_is_taken_up_again(resetting: Resetting) -> None:
    retries = Retries(max_retries=2, initial_seconds=_SOON, max_seconds=_SOON)
    with (
        Client(resetting.address, retries=retries, timeout=30) as client,
        pytest.raises(UnavailableError, match="broke in the middle"),
    ):
        list(client.upscale_stream(b"\x89PNG", model="real-esrgan-animevideo-v3"))
    assert resetting.calls.count("/upscaled.v1.Upscaler/UpscaleStream") == 3
