"""Between `Admin.SetLogLevel` and the levels of the log."""

from __future__ import annotations

import logging

from upscaled.v1 import admin_pb2
from upscaled_server.errors import InvalidField, NotFound
from upscaled_server.telemetry import logs

MAX_NAME = 200

_LEVELS = {
    admin_pb2.LOG_LEVEL_DEBUG: logging.DEBUG,
    admin_pb2.LOG_LEVEL_INFO: logging.INFO,
    admin_pb2.LOG_LEVEL_WARNING: logging.WARNING,
    admin_pb2.LOG_LEVEL_ERROR: logging.ERROR,
}
_MESSAGES = {level: value for value, level in _LEVELS.items()}


def to_setting(message: admin_pb2.SetLogLevelRequest) -> tuple[str, int | None]:
    """The logger and its new level, None for that of the loggers above. Raises `InvalidField`, `NotFound`."""
    name = message.logger
    if len(name) > MAX_NAME:
        raise InvalidField("logger", "is too long", limit=f"{MAX_NAME} characters", actual=len(name))
    if name == logs.AUDIT:
        raise InvalidField("logger", "is always written", limit="another logger", actual=name)
    if not logs.is_known(name):
        raise NotFound("logger", ascii(name)[1:-1], hint="lines of the log name theirs")
    if message.level == admin_pb2.LOG_LEVEL_UNSPECIFIED and name:
        return name, None
    if message.level not in _LEVELS:
        raise InvalidField(
            "level",
            "is no level",
            limit=", ".join(map(admin_pb2.LogLevel.Name, _LEVELS)),
            actual=message.level,
        )
    return name, _LEVELS[message.level]


def to_message(level: int) -> admin_pb2.LogLevel.ValueType:
    return _MESSAGES.get(level, admin_pb2.LOG_LEVEL_UNSPECIFIED)
