"""How many jobs."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class JobSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="UPSCALED_", extra="ignore")

    max_running_jobs: int = Field(
        4, ge=1, le=1000, description="Jobs worked on at once; their images share the devices with calls."
    )
    max_queued_jobs: int = Field(
        10_000,
        ge=0,
        le=1_000_000,
        description="Jobs that have not ended, of all callers. 0: the server takes no jobs.",
    )
    max_queued_jobs_per_caller: int = Field(
        1000, ge=1, le=1_000_000, description="The same for a caller whose own limit is not set."
    )
    max_job_restarts: int = Field(
        10,
        ge=1,
        le=1000,
        description="How often a job may be running when the server dies before it counts as the cause.",
    )
    janitor_seconds: float = Field(30.0, gt=0, description="Seconds between two looks for what has expired.")
