"""Log lines on stderr, one event a line whatever a caller put into it."""

from __future__ import annotations

import logging
import re
import sys
from typing import Any, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

# Keys, whole or in part: wherever a caller puts one by mistake, only its public id is written down.
_KEY = re.compile(r"(upk_[a-z0-9]{12}_)[A-Za-z0-9]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")


class LogSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="UPSCALED_", extra="ignore")

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Lowest level that is logged."
    )


class OneLineFormatter(logging.Formatter):
    """Escapes control characters in messages, so that no input can begin a line of its own, and leaves out
    the secret part of keys. Tracebacks keep their lines, indented."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the standard library's name
        record.message = _cleaned(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the standard library's name
        text = super().formatException(ei)
        return "\n".join("    " + _cleaned(line) for line in text.split("\n"))


def _cleaned(line: str) -> str:
    return _CONTROL.sub(lambda match: ascii(match[0])[1:-1], _KEY.sub(r"\1…", line))


def configure(settings: LogSettings) -> None:
    """Send the records of this process to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLineFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
