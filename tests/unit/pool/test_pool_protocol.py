"""Errors across the process border."""

from __future__ import annotations

import inspect
import json

import pytest

from upscaled_server import errors
from upscaled_server.errors import DomainError, InvalidField, LimitExceeded, NotFound, OutOfMemory, Overloaded
from upscaled_server.pool.protocol import pack_error, unpack_error

_PLAIN = [
    kind
    for kind in vars(errors).values()
    if inspect.isclass(kind) and issubclass(kind, DomainError) and kind.__init__ is DomainError.__init__
]


def _across(error: BaseException) -> DomainError:
    return unpack_error(json.loads(json.dumps(pack_error(error))))


@pytest.mark.parametrize(
    "error",
    [
        *(kind("what happened", bytes=5, name="x") for kind in _PLAIN),
        InvalidField("options.scale", "must be positive", limit=8, actual=-1),
        LimitExceeded("source", "is too large", limit=50, actual=60, unit="megapixels"),
        NotFound("model", "nonesuch", hint="there are six"),
        Overloaded("the queue is full", retry_after_seconds=2.5, queued=7),
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_kind_of_error_arrives_as_itself(error: DomainError) -> None:
    arrived = _across(error)

    assert type(arrived) is type(error)
    assert str(arrived) == str(error)
    assert vars(arrived) == vars(error)
    assert arrived.args == error.args


def test_an_error_that_is_not_ours_arrives_without_its_text() -> None:
    arrived = _across(ValueError("/etc/secret"))

    assert type(arrived) is errors.ProcessingFailed
    assert "secret" not in str(arrived)


def test_a_lack_of_memory_in_numpy_is_a_lack_of_memory() -> None:
    assert type(_across(MemoryError())) is OutOfMemory


def test_a_subclass_that_the_other_side_does_not_know_arrives_as_the_nearest_it_knows() -> None:
    class Special(OutOfMemory):
        pass

    assert type(_across(Special("too small"))) is OutOfMemory


def test_a_message_without_end_is_cut() -> None:
    assert len(json.dumps(pack_error(NotFound("model", "x", hint="y" * 1_000_000)))) < 5000
