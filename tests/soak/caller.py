"""One of those who call at once in the mixed soak: connections of its own, and what every answer must be."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc

from tests.e2e.keyed import bearer
from upscaled import Client, UpscaledError

DEADLINE_SECONDS = 300.0


class Wrong(Exception):
    """An answer that is not what it must be."""


@dataclass(slots=True)
class Known:
    """The first digest of everything that was computed: whoever asks again gets the same bytes."""

    digests: dict[str, str] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def check(self, name: str, data: bytes) -> None:
        digest = hashlib.sha256(data).hexdigest()
        with self.lock:
            first = self.digests.setdefault(name, digest)
        if digest != first:
            raise Wrong(f"{name}: other bytes than the first time")


@dataclass(slots=True)
class Caller:
    """`channel` is for what the SDK would not say. `callbacks`: the URL of the receiver; `told`: ids of the
    jobs that it has to hear of."""

    address: str
    key: str
    callbacks: str
    known: Known
    client: Client
    channel: grpc.Channel
    told: list[str] = field(default_factory=list)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return bearer(self.key)


@contextmanager
def calling(address: str, key: str, callbacks: str, known: Known) -> Iterator[Caller]:
    """Connects; the SDK makes no second attempt, so that nothing is hidden."""
    with (
        Client(address, api_key=key, retries=0, timeout=DEADLINE_SECONDS) as client,
        grpc.insecure_channel(address) as channel,
    ):
        yield Caller(address, key, callbacks, known, client, channel)


@contextmanager
def expecting(*codes: grpc.StatusCode) -> Iterator[Answer]:
    """Takes an error with one of these statuses as an answer; any other is raised, and so is none at all
    unless OK is among them."""
    answer = Answer()
    try:
        yield answer
    except UpscaledError as error:
        answer.code = error.code
        if error.code not in codes:
            raise
    except grpc.RpcError as error:
        answer.code = error.code()
        if answer.code not in codes:
            raise
    else:
        if grpc.StatusCode.OK not in codes:
            raise Wrong(f"was taken, where {' or '.join(code.name for code in codes)} was due")


@dataclass(slots=True)
class Answer:
    """The status that came."""

    code: grpc.StatusCode | None = grpc.StatusCode.OK

    @property
    def name(self) -> str:
        return self.code.name if self.code is not None else "none"
