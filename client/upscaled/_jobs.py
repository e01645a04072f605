"""What is known of a job: one set of properties for both clients, over the contract's message."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from google.protobuf import json_format

from upscaled import _enums
from upscaled._errors import UpscaledError
from upscaled._results import Plan, Progress, Result, Settings
from upscaled._statuses import from_status
from upscaled._times import when
from upscaled.v1 import jobs_pb2

FINAL_STATES: Final = frozenset({"succeeded", "failed", "cancelled"})


@dataclass(frozen=True, slots=True)
class Callback:
    """How far telling the receiver has come: `state` is `pending`, `delivered` or `failed`;
    `last_http_status` is 0 where there was no answer.
    """

    url: str
    state: str
    attempts: int
    last_http_status: int
    next_attempt_time: datetime | None

    @classmethod
    def from_message(cls, message: jobs_pb2.Callback) -> Callback:
        return cls(
            url=message.url,
            state=_enums.CALLBACK_STATE.name(message.state),
            attempts=message.attempts,
            last_http_status=message.last_http_status,
            next_attempt_time=when(message, "next_attempt_time"),
        )


@dataclass(frozen=True, slots=True)
class InputSummary:
    """What is known of a job's input. `description` is `inline`, the URL without its query, or an id;
    `sha256` is 32 bytes."""

    size_bytes: int
    sha256: bytes
    description: str


@dataclass(frozen=True, slots=True)
class JobEvent:
    """Something that happened to a job: its state changed (`progress` is `None`), or work on it moved on.

    `number` grows within the job; `watch(after=number)` goes on behind it.
    """

    number: int
    time: datetime | None
    state: str
    progress: Progress | None

    @property
    def final(self) -> bool:
        """Whether this is the job's last event."""
        return self.progress is None and self.state in FINAL_STATES


class JobFacts(ABC):
    """A job as it was when the server was last heard of: when it was created or fetched, at the last event
    of `watch()` or `wait()`, at `refresh()`.
    """

    @property
    @abstractmethod
    def _message(self) -> jobs_pb2.Job: ...

    @property
    def id(self) -> str:
        """26 characters, sorts by time of creation; empty after `validate_only`."""
        return self._message.id

    @property
    def state(self) -> str:
        """`queued`, `running`, `succeeded`, `failed` or `cancelled`."""
        return _enums.JOB_STATE.name(self._message.state)

    @property
    def done(self) -> bool:
        """Whether the state is final."""
        return self.state in FINAL_STATES

    @property
    def result(self) -> Result | None:
        """There if and only if the job succeeded."""
        return Result.from_message(self._message.result) if self._message.HasField("result") else None

    @property
    def error(self) -> UpscaledError | None:
        """There if and only if the job failed: what a call would have raised."""
        if not self._message.HasField("error"):
            return None
        return from_status(self._message.error, request_id=self.request_id)

    @property
    def request_id(self) -> str:
        return self._message.request_id

    @property
    def options(self) -> Settings:
        """What was asked for, as it was asked; `result.settings` says what was used."""
        return Settings.from_message(self._message.options)

    @property
    def labels(self) -> Mapping[str, str]:
        return dict(self._message.labels)

    @property
    def plan(self) -> Plan | None:
        """There once the work was admitted."""
        return Plan.from_message(self._message.plan) if self._message.HasField("plan") else None

    @property
    def progress(self) -> Progress | None:
        """There while the job runs."""
        return Progress.from_message(self._message.progress) if self._message.HasField("progress") else None

    @property
    def callback(self) -> Callback | None:
        """There if a callback was asked for."""
        return Callback.from_message(self._message.callback) if self._message.HasField("callback") else None

    @property
    def input(self) -> InputSummary | None:
        """There once the input is known."""
        if not self._message.HasField("input"):
            return None
        found = self._message.input
        return InputSummary(found.size_bytes, found.sha256, found.description)

    @property
    def create_time(self) -> datetime | None:
        return when(self._message, "create_time")

    @property
    def start_time(self) -> datetime | None:
        """When work on it began for the first time."""
        return when(self._message, "start_time")

    @property
    def end_time(self) -> datetime | None:
        return when(self._message, "end_time")

    @property
    def expire_time(self) -> datetime | None:
        """When the job and its outputs are deleted."""
        return when(self._message, "expire_time")

    @property
    def attempts(self) -> int:
        """How often work on it began; more than 1 after a lost worker or a restart."""
        return self._message.attempts

    @property
    def last_event_number(self) -> int:
        return self._message.last_event_number

    def to_dict(self) -> dict[str, Any]:
        """The job as JSON, in the contract's form: what a callback's receiver gets."""
        return json_format.MessageToDict(self._message, preserving_proto_field_name=True)

    def __repr__(self) -> str:
        progress = self.progress
        share = f" {progress.fraction:.0%}" if progress is not None else ""
        return f"<{type(self).__name__} {self.id or '(only checked)'} {self.state}{share}>"
