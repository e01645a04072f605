"""What a job is, and which states follow each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from upscaled_server.access.caller import Priority
from upscaled_server.pipeline.events import Done, Plan
from upscaled_server.pipeline.request import Options

EVENTS_PER_ATTEMPT = 1_000_000
"""Events are numbered from `attempts * EVENTS_PER_ATTEMPT` on: progress is not written down, so what a new
attempt says must come after whatever the one before it may have said."""

_MAX_CHANGES = 64


class State(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        return self not in (State.QUEUED, State.RUNNING)


class Origin(StrEnum):
    """Where a job's image comes from; `INLINE` is kept as a blob from the beginning."""

    INLINE = "inline"
    URL = "url"
    INPUT = "input"
    OUTPUT = "output"


@dataclass(frozen=True, slots=True)
class JobSource:
    """`value` is the URL or the id; empty for bytes. `description` is what people may see."""

    origin: Origin
    value: str = field(default="", repr=False)
    description: str = "inline"


@dataclass(frozen=True, slots=True)
class InputSummary:
    """The encoded image; `sha256` hexadecimal."""

    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a job failed: `status` is the serialized `google.rpc.Status` that a call would have ended with,
    base64."""

    reason: str
    message: str
    status: str


class CallbackState(StrEnum):
    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Callback:
    """How far telling the receiver has come. `next_attempt` in seconds since 1970."""

    url: str = field(repr=False)
    state: CallbackState = CallbackState.PENDING
    attempts: int = 0
    last_http_status: int = 0
    next_attempt: float | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """The job came into a state; `time` in seconds since 1970."""

    number: int
    time: float
    state: State
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Job:
    """Times are seconds since 1970, UTC. `created` is the time of the id. `options` are as they were asked
    for.

    `done` is set if and only if it succeeded, `failure` if and only if it failed. `output_id` is empty where
    no file was made.
    """

    id: str
    caller: str
    source: JobSource
    options: Options
    priority: Priority
    created: float
    retention: float
    state: State = State.QUEUED
    request_id: str = ""
    payload: str = ""
    changes: tuple[Change, ...] = ()
    cancelling: bool = False
    attempts: int = 0
    lost_workers: int = 0
    restarts: int = 0
    """How often it was running when the server died."""
    input: InputSummary | None = None
    plan: Plan | None = None
    done: Done | None = None
    output_id: str = ""
    tiles: int = 0
    failure: Failure | None = None
    callback: Callback | None = None
    started: float | None = None
    ended: float | None = None
    expires: float | None = None
    traceparent: str = ""
    """The trace of the call that created it, which goes on with its attempts, also after a restart."""

    @property
    def last_event(self) -> int:
        """Number of the newest event that is written down."""
        return self.changes[-1].number if self.changes else 0

    @property
    def queued_since(self) -> float:
        """When it came into the state it is in."""
        return self.changes[-1].time if self.changes else self.created

    @property
    def labels(self) -> Mapping[str, str]:
        return self.options.labels

    def begun(self, now: float) -> Job:
        """An attempt begins."""
        attempts = self.attempts + 1
        job = replace(self, attempts=attempts, started=self.started or now)
        return job._into(State.RUNNING, now, attempts * EVENTS_PER_ATTEMPT + 1)

    def put_back(self, now: float) -> Job:
        """The attempt is over without a result; there will be another."""
        # Behind all progress of the attempt, whatever its number was.
        return self._into(State.QUEUED, now, (self.attempts + 1) * EVENTS_PER_ATTEMPT - 1)

    def ended_as(self, state: State, now: float) -> Job:
        """The final state. A job that ends has been kept for nothing else since, so its time begins."""
        number = (self.attempts + 1) * EVENTS_PER_ATTEMPT - 1
        job = replace(self, ended=now, expires=now + self.retention)
        return job._into(state, now, max(number, self.last_event + 1))

    def recorded(self) -> Job:
        """The first state."""
        return self._into(State.QUEUED, self.created, 1)

    def as_of(self, change: Change) -> Job:
        """The job as it was after that change."""
        before = tuple(each for each in self.changes if each.number <= change.number)
        if change.state.final:
            return replace(self, changes=before)
        return replace(
            self,
            state=change.state,
            changes=before,
            attempts=change.attempts,
            started=self.started if change.attempts else None,
            done=None,
            output_id="",
            failure=None,
            ended=None,
            expires=None,
            plan=self.plan if change.attempts else None,
        )

    def _into(self, state: State, now: float, number: int) -> Job:
        kept = self.changes
        if len(kept) >= _MAX_CHANGES:  # the first tells when it was recorded
            kept = (kept[0], *kept[len(kept) - _MAX_CHANGES + 2 :])
        change = Change(number, now, state, self.attempts)
        return replace(self, state=state, changes=(*kept, change))
