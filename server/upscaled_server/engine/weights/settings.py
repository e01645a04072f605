"""Settings of the weights: `UPSCALED_MODEL_DIR`, `UPSCALED_MODEL_CACHE`, `UPSCALED_MODEL_MIRROR`,
`UPSCALED_MODEL_DOWNLOAD`."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from upscaled_server.engine.catalogue import RELEASES
from upscaled_server.engine.weights.store import StoreOptions


class WeightSettings(BaseSettings):
    """Where weights come from. The defaults need no configuration: an installed package, else the release."""

    model_config = SettingsConfigDict(
        env_prefix="UPSCALED_",
        extra="ignore",
        frozen=True,
        protected_namespaces=(),
        use_attribute_docstrings=True,
    )

    model_dir: Path | None = None
    """Folder with weight files that come before all others: `.safetensors`, `.pth`, `.pt`, `.ckpt`, or ncnn's
    `.param` and `.bin`, named by catalogue name or by the upstream file's name. Any other of these, but those
    of ncnn, is a model of its own, named as its file, where the extra `custom-models` is installed; files may
    come and go while the server runs. The log names those that are not used, and why."""

    model_cache: Path | None = None
    """Folder for what is downloaded. Default: `upscaled/models` in the user's cache folder, which servers
    share."""

    model_mirror: str = RELEASES
    """Base address under which `<release>/<file>` of the official files is found."""

    model_download: bool = True
    """Whether weights that are nowhere on this machine are fetched when a model is first used."""

    @field_validator("model_mirror")
    @classmethod
    def _is_http(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError("UPSCALED_MODEL_MIRROR must be an address that begins with http:// or https://")
        return value.rstrip("/")

    def store_options(self) -> StoreOptions:
        """The plain values the engine takes."""
        return StoreOptions(
            cache=self.model_cache or _user_cache() / "upscaled" / "models",
            folder=self.model_dir,
            download=self.model_download,
            mirror=self.model_mirror,
        )


def _user_cache() -> Path:
    """The XDG base directory for caches."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
