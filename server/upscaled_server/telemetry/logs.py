"""Where log records go and which of them, from the settings and while the server runs."""

from __future__ import annotations

import logging
import sys
from typing import Final, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from upscaled_server.telemetry import log_lines, stray_lines

AUDIT: Final = "upscaled_server.audit"
"""Who changed what. It is always logged, whatever the level of the others."""

LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


class LogSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="UPSCALED_", extra="ignore")

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Lowest level that is logged; `upscaled logs level` changes it later."
    )
    log_format: Literal["auto", "json", "text"] = Field(
        "auto", description="JSON objects or text, one a line; auto: text on a terminal, else JSON."
    )


def configure(settings: LogSettings) -> None:
    """Send the records of this process to stderr."""
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())
    log_lines.to_stderr(
        as_json=as_json,
        level=LEVELS[settings.log_level],
        # One JSON object a line is a promise of the whole stream.
        stream=stray_lines.gather() if as_json else sys.stderr,
    )
    logging.captureWarnings(True)
    logging.getLogger(AUDIT).setLevel(logging.INFO)


def is_known(logger: str) -> bool:
    """Whether a part of the server logs under this name, or under names that begin with it; the empty name
    is that of all. A name that nobody uses would be kept for ever."""
    known = logging.getLogger().manager.loggerDict
    return not logger or (logger in known and logger.split(".")[0] == "upscaled_server")


def set_level(logger: str, level: int | None) -> int:
    """Log from this level on; None: as the loggers above it do. Gives the level that holds now."""
    target = logging.getLogger(logger or None)
    target.setLevel(logging.NOTSET if level is None else level)
    return target.getEffectiveLevel()


def level_of(logger: str) -> int:
    """The lowest level that is logged."""
    return logging.getLogger(logger or None).getEffectiveLevel()
