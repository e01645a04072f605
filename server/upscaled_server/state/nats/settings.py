"""Where the cluster is, and how its bucket and its queue are made."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

_SCHEMES = ("nats://", "tls://")
_GIBIBYTE = 1 << 30


class ClusterSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="UPSCALED_", extra="ignore")

    cluster_url: str = Field(
        "",
        repr=False,  # may hold a password
        description="Servers of the NATS cluster that the replicas share, as nats://HOST:PORT or "
        "tls://HOST:PORT, separated by commas. Their max_payload must be 1 MiB or more.",
    )
    cluster_replicas: int = Field(
        3,
        ge=1,
        le=5,
        description="Nodes of NATS that keep each entry; with 3, one may be lost. More than there are is "
        "refused at start.",
    )
    cluster_prefix: str = Field(
        "upscaled",
        pattern=r"^[A-Za-z0-9_-]{1,32}$",
        description="What the names of buckets and streams begin with: one for every set of replicas that "
        "shares a NATS cluster with others.",
    )
    cluster_max_state_bytes: int = Field(
        8 * _GIBIBYTE,
        ge=1 << 20,
        description="Bytes of the state on each node of NATS; changes that need more are refused.",
    )
    cluster_max_queue_bytes: int = Field(
        _GIBIBYTE,
        ge=1 << 20,
        description="Bytes of the queue of waiting work on each node of NATS; a job takes about 1 KiB of it, "
        "and more than fits is refused.",
    )
    cluster_timeout_seconds: float = Field(
        10.0,
        ge=1.0,
        le=120.0,
        description="Seconds after which an operation is given up. The election of a new leader takes about "
        "5.",
    )
    cluster_ahead_seconds: float = Field(
        4.0,
        gt=0,
        le=600,
        description="Seconds of its devices' time for which a server takes jobs from the common queue before "
        "it can begin with them. More keeps devices busy, less lets others have what they can begin sooner.",
    )
    cluster_lease_seconds: float = Field(
        30.0,
        ge=2.0,
        le=600.0,
        description="Seconds after which a job is given to another server where nothing is heard of the one "
        "that works on it. The same at every server.",
    )
    cluster_max_deliveries: int = Field(
        100,
        ge=10,
        le=10_000,
        description="How often a job may be given to a server without an end before it fails.",
    )
    cluster_credentials_file: Path | None = Field(
        None, description="File with the user's JWT and seed (.creds) that NATS is to be given."
    )
    cluster_ca_file: Path | None = Field(
        None, description="Certificates (PEM) of who may sign those of NATS; default: the system's."
    )

    @field_validator("cluster_url")
    @classmethod
    def _known_scheme(cls, url: str) -> str:
        if url and not all(each.startswith(_SCHEMES) and each.split("://")[1] for each in url.split(",")):
            raise ValueError("nats://HOST:PORT or tls://HOST:PORT is expected, several separated by commas")
        return url

    @property
    def servers(self) -> list[str]:
        return self.cluster_url.split(",")
