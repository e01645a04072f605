"""The domain's errors: what went wrong, in words for the caller and in numbers for their code.

Every part of the server raises these; none of them knows gRPC. `api/statuses.py`
maps each to a status by walking the class hierarchy, so a new error needs an
entry there only when none of its bases says the right thing.

    DomainError
    ├── InvalidInput             the request can never succeed as it is
    │   ├── InvalidField         one field is outside its limits
    │   │   └── UrlRefused       a URL that this server does not ask for
    │   ├── OutOfRange           a position beyond the end of what is there
    │   └── ImageRejected        the bytes are not an image that is accepted
    │       ├── NotAnImage
    │       ├── DamagedImage
    │       └── UnsupportedImage
    ├── LimitExceeded            valid, but larger than this server allows
    │   └── InlineTooLarge       the file does not fit a unary answer
    ├── Unauthenticated          no key, or one that is not valid
    ├── PermissionDenied         a valid key that does not allow this
    ├── NotFound                 a named thing does not exist (for this caller)
    ├── AlreadyExists            the name is taken
    ├── Conflict                 somebody else changed it meanwhile: read again
    ├── FailedPrecondition       the state of the server forbids it until someone acts
    │   ├── FetchFailed          the origin of a URL did not give the file
    │   ├── WeightsUnavailable
    │   └── WeightsRejected
    ├── QuotaExceeded            what was granted is used up: credits, stored bytes
    │   └── StorageFull          the server's own room for files is
    ├── Overloaded               try again later; carries the seconds
    │   ├── CallerLimited        because of this caller's own limits
    │   └── KeysThrottled        too many wrong keys from one address
    ├── Unavailable              the server is stopping or a worker is gone; try again
    │   ├── WorkerLost           the worker died in the middle of the image
    │   └── MustBeginAnew        what was computed of the image is lost, the worker is well
    ├── DeadlinePassed           the caller's time is up
    ├── CallerGone               nobody takes the answer
    ├── DataLoss                 bytes are not what they were announced to be
    └── ProcessingFailed         the server's fault
"""

from __future__ import annotations

from typing import ClassVar

Number = int | float | str


class DomainError(Exception):
    """A failure with a name. `numbers` travel to the caller as strings of `ErrorInfo.metadata`."""

    reason: ClassVar[str] = "UNSPECIFIED"

    def __init__(self, message: str, **numbers: Number) -> None:
        super().__init__(message)
        self.message = message
        self.numbers = numbers


class InvalidInput(DomainError):
    reason = "INVALID_INPUT"


class InvalidField(InvalidInput):
    """One request field is outside its limits.

    `field` is the proto path (`options.scale`), `limit` what is allowed, `actual` what came.
    """

    reason = "INVALID_FIELD"

    def __init__(self, field: str, problem: str, *, limit: Number, actual: Number) -> None:
        super().__init__(
            f"{field}: {problem} (limit: {limit}; got: {actual})", field=field, limit=limit, actual=actual
        )
        self.field = field
        self.problem = problem


class UrlRefused(InvalidField):
    """A URL that is not asked for, because of its form or of where it leads. Never names more of it than
    scheme, host, port and path."""

    reason = "URL_REFUSED"


class OutOfRange(InvalidInput):
    """A position in a file that lies beyond its end."""

    reason = "OUT_OF_RANGE"


class ImageRejected(InvalidInput):
    """The bytes of the source were refused by the decoder."""

    reason = "IMAGE_REJECTED"


class NotAnImage(ImageRejected):
    reason = "NOT_AN_IMAGE"


class DamagedImage(ImageRejected):
    reason = "DAMAGED_IMAGE"


class UnsupportedImage(ImageRejected):
    """A real image in a format, mode or variant that is not accepted."""

    reason = "UNSUPPORTED_IMAGE"


class LimitExceeded(DomainError):
    """Valid, but above a limit of this server (see `Server.GetServerInfo`)."""

    reason = "LIMIT_EXCEEDED"

    def __init__(self, field: str, problem: str, *, limit: Number, actual: Number, unit: str) -> None:
        super().__init__(
            f"{field}: {problem} (limit: {limit} {unit}; got: {actual} {unit})",
            field=field,
            limit=limit,
            actual=actual,
            unit=unit,
        )
        self.field = field
        self.problem = problem


class NotFound(DomainError):
    reason = "NOT_FOUND"

    def __init__(self, kind: str, name: str, *, hint: str = "") -> None:
        shown = name if len(name) <= 80 else name[:77] + "..."
        super().__init__(f"no {kind} named {shown!r}" + (f"; {hint}" if hint else ""), kind=kind, name=shown)


class Unauthenticated(DomainError):
    """Who calls is not known. The message never holds what was presented."""

    reason = "UNAUTHENTICATED"


class PermissionDenied(DomainError):
    """Who calls is known and may not do this."""

    reason = "PERMISSION_DENIED"


class AlreadyExists(DomainError):
    reason = "ALREADY_EXISTS"


class Conflict(DomainError):
    """A compare-and-swap that came too late."""

    reason = "CONFLICT"


class FailedPrecondition(DomainError):
    reason = "FAILED_PRECONDITION"


class FetchFailed(FailedPrecondition):
    """The origin of a URL cannot be reached, or answered with something else than the file."""

    reason = "FETCH_FAILED"


class WeightsUnavailable(FailedPrecondition):
    """No weights for a known model, and none could be fetched."""

    reason = "WEIGHTS_UNAVAILABLE"


class WeightsRejected(FailedPrecondition):
    """A weight file exists but must not be used: wrong hash, wrong shape, or it would run code."""

    reason = "WEIGHTS_REJECTED"


class QuotaExceeded(DomainError):
    """What the caller may use is used up; trying again helps only when there is more.

    `subject` is whose quota it is, as in `google.rpc.QuotaFailure`: `caller:NAME`.
    """

    reason = "QUOTA_EXCEEDED"

    def __init__(self, subject: str, problem: str, **numbers: Number) -> None:
        super().__init__(problem, **numbers)
        self.subject = subject


class StorageFull(QuotaExceeded):
    """The server has no room for more files, of any caller."""

    reason = "STORAGE_FULL"

    def __init__(self, problem: str, **numbers: Number) -> None:
        super().__init__("server", problem, **numbers)


class Overloaded(DomainError):
    reason = "OVERLOADED"

    def __init__(self, message: str, *, retry_after_seconds: float, **numbers: Number) -> None:
        super().__init__(message, retry_after_seconds=round(retry_after_seconds, 3), **numbers)
        self.retry_after_seconds = retry_after_seconds


class CallerLimited(Overloaded):
    """The caller is at a limit of its own: too many calls at once, or too many per second."""

    reason = "CALLER_LIMITED"


class KeysThrottled(Overloaded):
    reason = "KEYS_THROTTLED"


class Unavailable(DomainError):
    reason = "UNAVAILABLE"


class WorkerLost(Unavailable):
    """The worker process that ran this image ended in the middle of it."""

    reason = "WORKER_LOST"


class MustBeginAnew(Unavailable):
    """What a worker holds of an image is of no use any more, and another beginning there is all it needs."""

    reason = "MUST_BEGIN_ANEW"


class DeadlinePassed(DomainError):
    reason = "DEADLINE_PASSED"


class CallerGone(DomainError):
    """Nobody is there any more to take the answer: the caller left, or stopped reading."""

    reason = "CALLER_GONE"


class DataLoss(DomainError):
    """Bytes that arrived, or that were kept, are not the ones that were announced."""

    reason = "DATA_LOSS"


class InlineTooLarge(LimitExceeded):
    """The encoded file does not fit a unary answer; a stream or a stored output has no such limit."""

    reason = "INLINE_TOO_LARGE"


class ProcessingFailed(DomainError):
    reason = "PROCESSING_FAILED"


class DeviceFailed(ProcessingFailed):
    """The device does nothing more in this process; another process may find it well."""

    reason = "DEVICE_FAILED"


class OutOfMemory(ProcessingFailed):
    """The device or a codec process ran out of memory even at the smallest unit."""

    reason = "OUT_OF_MEMORY"
