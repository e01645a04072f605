"""What decoding may use, as settings."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from upscaled_server.media.codec import CodecSettings, DecodeLimits

_MEBIBYTE = 1 << 20
_CODEC = CodecSettings()
_DECODE = DecodeLimits()


class DecodeSettings(BaseSettings):
    """Bounds of one decode, and of all decodes together."""

    model_config = SettingsConfigDict(env_prefix="UPSCALED_", extra="ignore")

    decode_memory_bytes: int = Field(
        _DECODE.memory_bytes, ge=64 * _MEBIBYTE, description="Address space that one decode may use."
    )
    decode_cpu_seconds: int = Field(_DECODE.cpu_seconds, ge=1, description="Processor time of one decode.")
    decode_wall_seconds: float = Field(
        _DECODE.wall_seconds, gt=0, description="Seconds that the server waits for a decoder, summed."
    )
    decode_parallel: int = Field(
        default_factory=lambda: _CODEC.parallel_decodes,
        ge=1,
        description="Images decoded at a time. Default: as many as the machine has cores, 2 at least.",
    )
    decode_total_bytes: int = Field(
        _CODEC.decoded_bytes,
        ge=64 * _MEBIBYTE,
        description="Memory of all decoders together; more wait. One image that needs more has it alone.",
    )

    def codec(self) -> CodecSettings:
        return CodecSettings(parallel_decodes=self.decode_parallel, decoded_bytes=self.decode_total_bytes)

    def limits(self, max_pixels: int) -> DecodeLimits:
        return DecodeLimits(
            max_pixels=max_pixels,
            memory_bytes=self.decode_memory_bytes,
            cpu_seconds=self.decode_cpu_seconds,
            wall_seconds=self.decode_wall_seconds,
        )
