"""Settings of what is fetched for callers."""

from __future__ import annotations

import re
from typing import Annotated, Any

import httpx
from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from upscaled_server.intake.fetch.allowed import FORM, Opening

_BUCKET = re.compile(r"(?:s3|gs)://[A-Za-z0-9._-]+(?:/[\x21-\x7e]*)?")


class FetchSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="UPSCALED_", extra="ignore")

    fetch_schemes: Annotated[frozenset[str], NoDecode] = Field(
        frozenset({"http", "https"}),
        description="Schemes of URLs that images are fetched from, separated by commas: http, https. Empty: "
        "none.",
    )
    fetch_ports: Annotated[frozenset[int], NoDecode] = Field(
        frozenset({80, 443}), description="Ports of public hosts that images are fetched from."
    )
    fetch_allow: Annotated[tuple[Opening, ...], NoDecode] = Field(
        (),
        description="Origins besides the public internet that images are fetched from, separated by commas: "
        f"{FORM}. A name is then asked wherever it leads, so it must be one that you control.",
    )
    fetch_proxy: str = Field(
        "",
        repr=False,
        description="http://[USER:PASSWORD@]HOST:PORT of a proxy that fetches go through. It resolves and "
        "dials, so it must refuse what is inside by itself: here the URL is checked, and its name "
        "only where it can be resolved here.",
    )
    fetch_buckets: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Buckets that s3:// and gs:// sources may name, separated by commas, with a folder where "
        "only that is meant: s3://photos, gs://scans/in. They are read with the server's own credentials.",
    )
    fetch_max_redirects: int = Field(3, ge=0, le=20, description="Redirects followed for one image.")
    fetch_connect_seconds: float = Field(5.0, gt=0, le=60, description="Longest wait for a connection.")
    fetch_idle_seconds: float = Field(
        10.0,
        gt=0,
        le=300,
        description="Longest wait for the next bytes; after it an image must have come at 1 kB/s on average.",
    )
    fetch_seconds: float = Field(
        60.0, gt=0, le=3600, description="Longest time for one image, redirects included."
    )
    max_concurrent_fetches: int = Field(32, ge=1, le=1000, description="Images fetched at once.")

    @field_validator("fetch_schemes", "fetch_ports", "fetch_buckets", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return split(value)

    @field_validator("fetch_allow", mode="before")
    @classmethod
    def _openings(cls, value: Any) -> Any:
        return openings(value)

    @field_validator("fetch_schemes")
    @classmethod
    def _check_schemes(cls, value: frozenset[str]) -> frozenset[str]:
        if not value <= {"http", "https"}:
            raise ValueError("must be of http, https")
        return value

    @field_validator("fetch_buckets")
    @classmethod
    def _check_buckets(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for each in value:
            if not _BUCKET.fullmatch(each):
                raise ValueError(f"{each[:80]!r} is not s3://BUCKET, gs://BUCKET, or a folder in one")
        return value

    @field_validator("fetch_proxy")
    @classmethod
    def _check_proxy(cls, value: str) -> str:
        check_proxy(value)
        return value


def check_proxy(value: str) -> None:
    """Raises ValueError, without the value, which may hold a password."""
    if not value:
        return
    try:
        url = httpx.URL(value)
    except httpx.InvalidURL:
        raise ValueError("must be http://HOST:PORT or https://HOST:PORT") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError("must be http://HOST:PORT or https://HOST:PORT")


def split(value: Any) -> Any:
    """From one line of text, or from a list in the file of settings."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def openings(value: Any) -> tuple[Opening, ...]:
    """Raises ValueError."""
    return tuple(each if isinstance(each, Opening) else Opening.parse(str(each)) for each in split(value))
