"""Callers and keys from a file that the operator mounts, such as a Kubernetes Secret.

thumbnails:                     # the caller's name
  keys: [upk_…]                 # as made by `upscaled keys generate`
  weight: 2                     # and any other limit of a caller
operations:
  keys: [upk_…]
  admin: true                   # its keys may use the Admin service
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from upscaled_server.access.caller import Caller, Priority
from upscaled_server.access.keys import ID_LENGTH, Key, digest, is_key
from upscaled_server.errors import FailedPrecondition, InvalidField

_MAX_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Mounted:
    """What a file holds: callers by name, keys by id."""

    callers: Mapping[str, Caller] = field(default_factory=dict)
    keys: Mapping[str, Key] = field(default_factory=dict)


class _Entry(BaseModel):
    """One caller of the file; the limits are those of `Caller`."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    keys: list[str] = Field(min_length=1, max_length=100)
    admin: bool = False
    weight: float = 1.0
    max_priority: Priority = Field(Priority.INTERACTIVE, strict=False)
    max_concurrent: int = 0
    max_queued_jobs: int = 0
    max_requests_per_second: float = 0.0
    max_input_pixels: int = 0
    allowed_models: list[str] = Field(default_factory=list)
    max_stored_bytes: int = 0
    monthly_credits: float | None = None


def read_mounted(path: Path) -> Mounted:
    """Raises `FailedPrecondition` that names the place in the file, and never a key."""
    content = _load(path)
    callers: dict[str, Caller] = {}
    keys: dict[str, Key] = {}
    for name, values in content.items():
        entry = _entry(path, name, values)
        limits = entry.model_dump(exclude={"keys", "admin"}) | {"allowed_models": tuple(entry.allowed_models)}
        caller = callers[name] = Caller(name, **limits)
        try:
            caller.check(name)
        except InvalidField as error:
            raise _refused(path, error.message) from None
        for number, whole in enumerate(entry.keys):
            if not is_key(whole):
                raise _refused(
                    path, f"{name}.keys[{number}] is not a key; `upscaled keys generate` makes one"
                )
            key = Key(
                id=whole[:ID_LENGTH],
                caller=name,
                digest=digest(whole),
                created=0.0,
                description=str(path),
                admin=entry.admin,
                mounted=True,
            )
            if key.id in keys:
                raise _refused(path, f"{name}.keys[{number}] is there twice")
            keys[key.id] = key
    return Mounted(callers, keys)


def _load(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise _refused(path, f"cannot be read: {error.strerror}") from None
    if len(text) > _MAX_BYTES:
        raise _refused(path, f"is larger than {_MAX_BYTES} bytes")
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        raise _refused(path, f"is not YAML{f' (line {mark.line + 1})' if mark else ''}") from None
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise _refused(path, "must hold callers by name, each with its keys")
    return content


def _entry(path: Path, name: str, values: Any) -> _Entry:
    try:
        return _Entry.model_validate(values)
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, (name, *each['loc'])))}: {each['msg']}"
            for each in error.errors(include_input=False, include_url=False)
        ]
        raise _refused(path, "; ".join(problems)) from None


def _refused(path: Path, problem: str) -> FailedPrecondition:
    return FailedPrecondition(f"UPSCALED_API_KEYS_FILE: {path}: {problem}", path=str(path))
