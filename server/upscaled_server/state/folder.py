"""The one folder a server keeps its state in, locked so that no second server uses it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from upscaled_server.errors import FailedPrecondition


def _default_folder() -> Path:
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "upscaled"


class StateSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="UPSCALED_", extra="ignore")

    data_dir: Path = Field(
        default_factory=_default_folder,
        description="Folder of the server's state, for one server. Default: `upscaled` in XDG_STATE_HOME, "
        "else in ~/.local/state.",
    )


class FolderInUse(FailedPrecondition):
    """Another process has the folder."""

    reason = "FOLDER_IN_USE"


class DataFolder:
    """Holds the lock on a state folder while it is open.

    The lock belongs to the open file, so it ends with the process however that ends.
    Raises `FolderInUse` on entry if another server has it, `FailedPrecondition` if it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = -1

    def __enter__(self) -> DataFolder:
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise FailedPrecondition(
                f"UPSCALED_DATA_DIR: cannot write to {self.path}: {error.strerror}", path=str(self.path)
            ) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(self._lock, 32, 0).decode("ascii", "replace").strip()
            os.close(self._lock)
            raise FolderInUse(
                f"UPSCALED_DATA_DIR: {self.path} is in use by another server (process {owner or 'unknown'}); "
                "stop it or give this one a folder of its own",
                path=str(self.path),
            ) from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._lock)
