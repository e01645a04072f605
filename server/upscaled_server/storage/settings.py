"""Where files are kept, and how much of them."""

from __future__ import annotations

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

GIBIBYTE = 1 << 30
SCHEMES = ("file", "s3", "gs", "az")


class StorageSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="UPSCALED_", extra="ignore")

    blobs_url: str = Field(
        "",
        description="Where inputs and outputs are kept: file:///FOLDER, s3://BUCKET/PREFIX, "
        "gs://BUCKET/PREFIX or az://CONTAINER/PREFIX; default: the folder blobs in UPSCALED_DATA_DIR. "
        "Credentials come from the "
        "variables of the store's own tools, such as AWS_ACCESS_KEY_ID.",
    )
    max_stored_bytes: int = Field(
        20 * GIBIBYTE,
        ge=0,
        description="Bytes of all files that are kept; more are refused. 0: none are kept.",
    )
    min_free_bytes: int = Field(
        GIBIBYTE,
        ge=0,
        description="Bytes that stay free on the disk of a local folder; files are refused below.",
    )

    @field_validator("blobs_url")
    @classmethod
    def _known_scheme(cls, url: str) -> str:
        scheme, found, place = url.partition("://")
        if url and not (found and scheme in SCHEMES and place.strip("/")):
            # What came is shown beside this; credentials do not belong in a URL.
            raise ValueError("file:///FOLDER, s3://BUCKET, gs://BUCKET or az://CONTAINER is expected")
        return url
