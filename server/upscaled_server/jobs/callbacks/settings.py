"""Settings of callbacks."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from upscaled_server.intake.fetch.allowed import FORM, Opening
from upscaled_server.intake.fetch.settings import check_proxy, openings, split


class CallbackSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="UPSCALED_", extra="ignore")

    callback_http: bool = Field(
        False,
        description="Whether callbacks may go to http:// addresses, where everybody on the way reads along.",
    )
    callback_ports: Annotated[frozenset[int], NoDecode] = Field(
        frozenset({80, 443}), description="Ports of public hosts that callbacks go to, separated by commas."
    )
    callback_allow: Annotated[tuple[Opening, ...], NoDecode] = Field(
        (),
        description="Receivers besides the public internet that callbacks may go to, separated by commas: "
        f"{FORM}. A name is then called wherever it leads, so it must be one that you control.",
    )
    callback_proxy: str = Field(
        "",
        repr=False,
        description="http://[USER:PASSWORD@]HOST:PORT of a proxy that callbacks go through; it must refuse "
        "what is inside by itself, as with UPSCALED_FETCH_PROXY.",
    )
    callback_seconds: float = Field(15.0, gt=0, le=300, description="Longest time for one try.")
    max_concurrent_callbacks: int = Field(64, ge=1, le=1000, description="Tries at once.")
    max_concurrent_callbacks_per_caller: int = Field(
        16, ge=1, le=1000, description="Tries at once for the jobs of one caller."
    )
    max_concurrent_callbacks_per_origin: int = Field(
        4,
        ge=1,
        le=1000,
        description="Tries at once to one receiver, so that one that is slow holds up no other.",
    )

    @field_validator("callback_ports", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return split(value)

    @field_validator("callback_allow", mode="before")
    @classmethod
    def _openings(cls, value: Any) -> Any:
        return openings(value)

    @field_validator("callback_proxy")
    @classmethod
    def _check_proxy(cls, value: str) -> str:
        check_proxy(value)
        return value
