"""Log lines on stderr, one event a line whatever a caller put into it."""

from __future__ import annotations

import logging
import re
import sys
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")


class LogSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="UPSCALED_", extra="ignore")

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Lowest level that is logged."
    )


class OneLineFormatter(logging.Formatter):
    """Escapes control characters in messages, so that no input can begin a line of its own. Tracebacks
    keep their lines, indented."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the standard library's name
        record.message = _CONTROL.sub(lambda match: ascii(match[0])[1:-1], record.message)
        return super().formatMessage(record)

    def formatException(self, ei: object) -> str:  # noqa: N802 - the standard library's name
        text = super().formatException(ei)  # type: ignore[arg-type]
        return "\n".join(
            "    " + _CONTROL.sub(lambda match: ascii(match[0])[1:-1], line) for line in text.split("\n")
        )


def configure(settings: LogSettings) -> None:
    """Send the records of this process to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLineFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
