"""A log line is one line, and holds no secret whatever a caller put where."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upscaled_server.access.keys import generate
from upscaled_server.telemetry import log_lines, tracing
from upscaled_server.telemetry.log_lines import JsonFormatter, TextFormatter

TRACE = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"


def record(message: str, *arguments: object, error: Exception | None = None) -> logging.LogRecord:
    info = (type(error), error, error.__traceback__) if error else None
    return logging.LogRecord("upscaled_server.x", logging.WARNING, "x.py", 1, message, arguments, info)


def as_text(message: str, *arguments: object, error: Exception | None = None) -> str:
    return TextFormatter().format(record(message, *arguments, error=error))


def as_json(message: str, *arguments: object, error: Exception | None = None) -> str:
    return JsonFormatter().format(record(message, *arguments, error=error))


BOTH = pytest.mark.parametrize("formatted", [as_text, as_json])


def test_a_line_of_json_says_when_how_grave_where_and_what() -> None:
    line = JsonFormatter().format(made := record("%d requests fail", 3))
    made.created = 1.5
    assert json.loads(JsonFormatter().format(made)) == {
        "time": "1970-01-01T00:00:01.500Z",
        "level": "warning",
        "logger": "upscaled_server.x",
        "event": "3 requests fail",
    }
    assert line.isascii()


def test_text_for_people_begins_with_when_how_grave_and_where() -> None:
    assert as_text("3 requests fail").endswith(" WARNING upscaled_server.x: 3 requests fail")


def test_lines_hold_what_is_bound_and_the_trace_and_nothing_that_is_empty() -> None:
    with log_lines.bound_to(request_id="r", job_id="j", caller=""), tracing.within(tracing.remote(TRACE)):
        said = json.loads(as_json("x"))
        assert as_text("x").endswith(f"x [trace_id={'ab' * 16} request_id=r job_id=j]")
    assert (said["trace_id"], said["request_id"], said["job_id"]) == ("ab" * 16, "r", "j")
    assert "caller" not in said
    assert json.loads(as_json("x")).keys() == {"time", "level", "logger", "event"}


@BOTH
def test_of_a_key_only_the_public_id_is_written_down(formatted: Callable[..., str]) -> None:
    key = generate()
    text = formatted("no model named %r", key)
    assert key[:16] in text
    assert key[17:] not in text
    assert key[17:-2] not in formatted("x", error=ValueError(f"cannot use {key[:-2]}"))
    with log_lines.bound_to(request_id=key):
        assert key[17:] not in formatted("x")


@BOTH
@pytest.mark.parametrize(
    "said",
    [
        "fetching https://example.com/a.png?X-Amz-Signature=SECRET41 failed",
        "fetching https://ann:SECRET41@example.com/a.png failed",
        "GET /v1/outputs/01X?expires=1&signature=SECRET41",
        "authorization: Bearer SECRET41SECRET41",
        "a token eyJhbGciOiJIUzI1NiJ9.SECRET41.c2ln is not valid",
        "the secret whsec_SECRET41== of a receiver",
        "s3://bucket/key?token=SECRET41",
    ],
)
def test_no_query_password_or_token_is_written_down(formatted: Callable[..., str], said: str) -> None:
    assert "SECRET41" not in formatted("%s", said)
    assert "SECRET41" not in formatted("x", error=ValueError(said))
    assert said.split()[0].partition("?")[0].partition("//")[0] in formatted("%s", said)


def test_what_is_no_secret_stays() -> None:
    assert as_text("upk_abc and upk_1lbvjmz6t6tv").endswith("upk_abc and upk_1lbvjmz6t6tv")
    assert as_text("https://example.com/a.png is there").endswith("https://example.com/a.png is there")
    assert as_text("is it so? a=b").endswith("is it so? a=b")


FORGED = 'x\n{"level":"error","event":"FORGED-41"}\r\nFORGED-41\x1b[31m\x7f\x85\u2028FORGED-41\ud800'


@BOTH
def test_nobody_forges_a_line(formatted: Callable[..., str]) -> None:
    with log_lines.bound_to(request_id=FORGED):
        text = formatted("%s", FORGED, error=ValueError(FORGED))
    assert not any(line.startswith(("FORGED", "{")) for line in text.splitlines()[1:])
    assert not any(0x7F <= ord(each) < 0xA0 or (ord(each) < 0x20 and each != "\n") for each in text)
    text.encode()


def test_not_even_who_decodes_the_json_is_shown_a_forged_line() -> None:
    assert len(as_json("%s", FORGED, error=ValueError(FORGED)).splitlines()) == 1
    said = json.loads(as_json("%s", FORGED))
    assert said["event"].splitlines() == [said["event"]]
    assert r"\nFORGED-41" in said["event"]


@BOTH
def test_a_line_has_a_bound(formatted: Callable[..., str]) -> None:
    assert len(formatted("%s", "x" * 1_000_000)) < 10_000


@given(st.text())
def test_whatever_is_said_is_one_json_object_on_one_line(text: str) -> None:
    line = as_json("%s", text)
    assert len(line.splitlines()) == 1
    assert isinstance(json.loads(line)["event"], str)


def test_a_record_of_a_child_process_comes_through_as_it_was() -> None:
    try:
        raise ValueError("inner")
    except ValueError as error:
        line = as_json("100%% of %s", "it", error=error)
    got: Any = log_lines.read_line(line, {"worker": "cpu"})
    said = json.loads(JsonFormatter().format(got))
    assert said["event"] == "100% of it"
    assert said["level"] == "warning"
    assert said["worker"] == "cpu"
    assert said["exception"] == json.loads(line)["exception"]
    assert "ValueError: inner" in said["exception"]


@pytest.mark.parametrize(
    "line", ["", "{", "{}", "x", "[1]", '{"level": 1}', '{"level":"loud","logger":"a","event":"b"}']
)
def test_other_lines_of_a_child_process_are_no_records(line: str) -> None:
    assert log_lines.read_line(line, {}) is None
