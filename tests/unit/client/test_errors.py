"""The table of errors is complete, and errors carry what the server said."""

from __future__ import annotations

import pickle

import grpc
import pytest

import upscaled
from upscaled import _errors, _statuses


def subclasses(kind: type[_errors.UpscaledError]) -> set[type[_errors.UpscaledError]]:
    return {kind}.union(*(subclasses(child) for child in kind.__subclasses__()))


def test_every_status_but_ok_has_an_error() -> None:
    assert set(_errors.ERROR_BY_STATUS) == set(grpc.StatusCode) - {grpc.StatusCode.OK}


def test_every_error_is_exported_and_drawn_in_the_tree() -> None:
    for kind in subclasses(_errors.UpscaledError):
        assert getattr(upscaled, kind.__name__) is kind
        assert kind.__name__ in (_errors.__doc__ or "")


def test_every_error_has_a_status_of_its_own_kind() -> None:
    for kind in subclasses(_errors.UpscaledError) - {_errors.UpscaledError}:
        mapped = _errors.ERROR_BY_STATUS[kind.default_code]
        assert issubclass(kind, mapped) or issubclass(mapped, kind)


def test_the_message_names_the_fields_and_the_next_move() -> None:
    error = upscaled.InvalidRequestError(
        "the request is malformed",
        field_violations=(upscaled.FieldViolation("options.scale", "must be above 0 (limit: 0; got: -1)"),),
    )
    assert str(error) == (
        "the request is malformed. options.scale: must be above 0 (limit: 0; got: -1). "
        "Correct the request; sending it again unchanged cannot help."
    )


def test_a_field_that_the_message_already_names_is_not_repeated() -> None:
    error = upscaled.InvalidRequestError(
        "options.scale: must be above 0 (limit: 0; got: -1)",
        field_violations=(upscaled.FieldViolation("options.scale", "must be above 0"),),
    )
    assert str(error).count("above 0") == 1


def test_an_error_survives_the_way_to_another_process() -> None:
    error = upscaled.OverloadedError(
        "full", retry_after=2.5, metadata={"limit": 3}, request_id="r", reason="OVERLOADED"
    )
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is upscaled.OverloadedError
    assert (copy.message, copy.retry_after, dict(copy.metadata)) == ("full", 2.5, {"limit": 3})
    assert (copy.request_id, copy.reason, copy.code) == (
        "r",
        "OVERLOADED",
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    )
    assert copy.retryable


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("50000000", 50_000_000),
        ("-3", -3),
        ("0.25", 0.25),
        ("1e-05", 1e-05),
        ("nan", "nan"),
        ("007", "007"),
        ("", ""),
    ],
)
def test_numbers_arrive_as_numbers_and_text_as_text(text: str, number: object) -> None:
    assert _statuses.as_number(text) == number


def test_errors_are_what_python_calls_such_things() -> None:
    assert issubclass(upscaled.InvalidRequestError, ValueError)
    assert issubclass(upscaled.DeadlineExceededError, TimeoutError)
    assert issubclass(upscaled.ConnectError, ConnectionError)
