"""Settings of who may call."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class AccessSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="UPSCALED_", extra="ignore")

    api_keys_file: Path | None = Field(
        None,
        description="YAML file of callers and their keys, such as a mounted Kubernetes Secret; read again "
        "when it changes.",
    )
    wrong_keys_per_second: float = Field(
        20.0,
        gt=0,
        le=1e6,
        description="Calls without a valid key that one address gets an answer to per second, after a burst "
        "of as many as in five seconds; further answers are held back.",
    )
    max_concurrent_per_caller: int = Field(
        64, ge=1, description="Calls being worked on at once for a caller whose own limit is not set."
    )
