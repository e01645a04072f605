"""What one request may ask for."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

MEBIBYTE = 1 << 20

# The limits of the hosted upscaling services that this one can stand in for.
_HOSTED = {
    "max_input_side": 2048,
    "max_output_side": 8192,
    "max_input_pixels": 2048 * 2048,
    "max_output_pixels": 8192 * 8192,
}


class LimitSettings(BaseSettings):
    """Limits of one request. `UPSCALED_LIMITS=hosted` sets those of the hosted APIs; single values still
    win."""

    model_config = SettingsConfigDict(env_prefix="UPSCALED_", extra="ignore")

    limits: Literal["default", "hosted"] = Field(
        "default",
        description="Profile of limits; `hosted` sets those of the hosted APIs, 2048x2048 in and 8192x8192 "
        "out. Single values still win.",
    )
    max_input_pixels: int = Field(50_000_000, ge=1, description="Pixels of the decoded input.")
    max_output_pixels: int = Field(400_000_000, ge=1, description="Pixels of the output.")
    max_input_bytes: int = Field(64 * MEBIBYTE, ge=1, description="Bytes of the encoded input.")
    max_inline_bytes: int = Field(
        32 * MEBIBYTE, ge=1, description="Bytes of an encoded file inside a unary answer."
    )
    max_scale: float = Field(64.0, gt=0, description="Largest scale, per side.")
    max_passes: int = Field(4, ge=1, le=8, description="Largest number of passes of the model.")
    max_input_side: int = Field(65_535, ge=1, description="Largest side of the input in pixels.")
    max_output_side: int = Field(262_144, ge=1, description="Largest side of the output in pixels.")
    max_call_seconds: float = Field(
        4 * 3600.0, gt=0, description="Seconds after which a call ends even if its caller set no deadline."
    )
    reader_idle_seconds: float = Field(
        30.0, gt=0, description="Seconds after which a caller that reads nothing of its answer is given up."
    )
    max_uploading_bytes: int = Field(
        512 * MEBIBYTE, ge=MEBIBYTE, description="Bytes of all encoded images being received in chunks."
    )
    max_calls: int = Field(
        160, ge=1, description="Images being received, made or waited for at once; more are refused."
    )
    upload_idle_seconds: float = Field(
        30.0, gt=0, description="Seconds without a byte after which an upload is given up."
    )

    max_message_seconds: float = Field(
        300.0,
        gt=0,
        description="Seconds within which the message of a call with a single one must have arrived; larger "
        "images over slower lines come in streams.",
    )

    @model_validator(mode="after")
    def _apply_profile(self) -> Self:
        if self.limits == "hosted":
            for name, value in _HOSTED.items():
                if name not in self.model_fields_set:
                    object.__setattr__(self, name, value)
        return self

    @property
    def max_message_bytes(self) -> int:
        """A gRPC message holds the largest input or inline answer, and 1 MiB of everything else."""
        return max(self.max_input_bytes, self.max_inline_bytes) + MEBIBYTE
