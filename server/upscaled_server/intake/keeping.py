"""How long files are kept, and how many."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from upscaled_server.errors import InvalidField

_DAY = 24 * 3600.0


class KeepingSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="UPSCALED_", extra="ignore")

    default_retention_seconds: float = Field(
        _DAY, ge=1, description="Seconds that inputs, outputs and jobs are kept if nothing else is asked for."
    )
    max_retention_seconds: float = Field(
        7 * _DAY, ge=1, description="Seconds that inputs, outputs and jobs can be kept at most."
    )
    max_files_per_caller: int = Field(
        200_000, ge=1, description="Inputs and outputs of one caller, however small; more are refused."
    )

    @model_validator(mode="after")
    def _default_within_maximum(self) -> Self:
        if self.default_retention_seconds > self.max_retention_seconds:
            raise ValueError(
                "UPSCALED_DEFAULT_RETENTION_SECONDS must not be above UPSCALED_MAX_RETENTION_SECONDS"
            )
        return self

    def retention(self, field: str, seconds: float | None) -> float:
        """How long to keep what was asked to be kept for `seconds`; None stands for the default.

        Raises `InvalidField`, naming `field`.
        """
        if seconds is None:
            return self.default_retention_seconds
        if not 0 < seconds <= self.max_retention_seconds:
            raise InvalidField(
                field,
                "is out of range",
                limit=f"above 0, at most {self.max_retention_seconds:g} s",
                actual=f"{seconds:g} s",
            )
        return seconds
