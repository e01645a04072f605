"""A log line is one line, and holds no key whatever a caller put where."""

from __future__ import annotations

import logging

from upscaled_server.access.keys import generate
from upscaled_server.telemetry.logs import OneLineFormatter


def _formatted(message: str, *arguments: object, error: Exception | None = None) -> str:
    info = (type(error), error, error.__traceback__) if error else None
    record = logging.LogRecord("x", logging.INFO, "x.py", 1, message, arguments, info)
    return OneLineFormatter("%(message)s").format(record)


def test_of_a_key_only_the_public_id_is_written_down() -> None:
    key = generate()
    assert _formatted("no model named %r", key) == f"no model named '{key[:16]}_…'"
    assert key[17:] not in _formatted("x", error=ValueError(f"cannot use {key[:-2]}"))


def test_what_is_not_a_key_stays() -> None:
    assert _formatted("upk_abc and upk_1lbvjmz6t6tv") == "upk_abc and upk_1lbvjmz6t6tv"


def test_control_characters_begin_no_line() -> None:
    assert _formatted("a\nb\x1b[31m") == r"a\nb\x1b[31m"
