"""Where the server listens, and whether that is safe without keys."""

from __future__ import annotations

import ipaddress
import re
from typing import Literal

import grpc
import grpc.aio
from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from upscaled_server.errors import FailedPrecondition

_HOST_PORT = re.compile(r"(?P<host>\[[0-9a-fA-F:.%]+\]|[^:\[\]/]+):(?P<port>\d{1,5})")


class ListenSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="UPSCALED_", extra="ignore")

    listen: str = Field("127.0.0.1:50051", description="HOST:PORT (port 0: any free one) or unix:PATH.")
    auth: Literal["keys", "none"] = Field(
        "keys",
        description="`none` says that something in front of the server takes care of who may call; keys are "
        "then checked only where they are presented. Without it and without keys the server listens on "
        "loopback only.",
    )
    grace_seconds: float = Field(30.0, ge=0, description="Seconds that running calls get after SIGTERM.")

    @field_validator("listen")
    @classmethod
    def _check_listen(cls, value: str) -> str:
        if value.startswith("unix:") and len(value) > len("unix:"):
            return value
        match = _HOST_PORT.fullmatch(value)
        if match is None or int(match["port"]) > 65535:
            raise ValueError("must be HOST:PORT, [IPV6]:PORT or unix:PATH")
        return value

    @property
    def open_to_network(self) -> bool:
        """Whether others than this machine can reach the address."""
        if self.listen.startswith("unix:"):
            return False
        host = self.listen.rpartition(":")[0].strip("[]")
        try:
            return not ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host != "localhost"


def check_exposure(settings: ListenSettings, *, has_keys: bool) -> None:
    """Raise `FailedPrecondition` if strangers could call without a key."""
    if settings.open_to_network and settings.auth != "none" and not has_keys:
        raise FailedPrecondition(
            f"UPSCALED_LISTEN: {settings.listen} can be reached from other machines and there are no keys. "
            "Make one with `upscaled keys create NAME`, or name a file of keys in UPSCALED_API_KEYS_FILE, or "
            "listen on 127.0.0.1, or set UPSCALED_AUTH=none if something in front of the server decides who "
            "may call",
            listen=settings.listen,
        )


def bind(server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials | None = None) -> str:
    """Open the port, encrypted with `credentials`, and return the address with the port that was bound.
    Raises `FailedPrecondition` if it is taken."""
    try:
        if credentials is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise FailedPrecondition(
            f"UPSCALED_LISTEN: cannot listen on {address}: {error}", listen=address
        ) from None
    if address.startswith("unix:"):
        return address
    return f"{address.rpartition(':')[0]}:{port}"
