"""What a call can end with: one hierarchy, and one table that leads from a gRPC status into it.

UpscaledError                      .code .reason .metadata .field_violations .retry_after .request_id
├── InvalidRequestError            the request cannot succeed as it is (also a ValueError)
│   ├── InvalidOptionError         found by the SDK before anything was sent
│   └── SourceError                the image could not be read on this side
├── NotFoundError
├── AlreadyExistsError
├── ConflictError                  somebody was faster: read and try again
├── AuthenticationError            no key, or a wrong one
│   └── WebhookVerificationError   a callback that this server's secrets did not sign
├── PermissionDeniedError          the key may not do this
├── FailedPreconditionError        an operator must act
├── ResourceExhaustedError
│   ├── OverloadedError            try again after `.retry_after` seconds
│   ├── LimitExceededError         larger than this server allows
│   └── QuotaExceededError         credits or storage are used up
├── DeadlineExceededError          the time is up (also a TimeoutError)
├── CallCancelledError
│   └── ClientClosedError          the client was closed, or belongs to another process
├── UnavailableError               stopping, or a worker was lost; retried by the SDK
│   └── ConnectError               nobody answers there (also a ConnectionError)
├── NotImplementedByServerError    the contract has it, this server's version does not
├── ServerError                    a fault of the server
└── DataLossError
    ├── BrokenStreamError          what arrived is not the whole file
    └── NoDataError                the result has no bytes here
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

import grpc

Number = int | float | str


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field of the request and what is wrong with it; `field` is the proto path: `options.scale`."""

    field: str
    description: str


class UpscaledError(Exception):
    """The base of everything this SDK raises on purpose.

    `code` is the gRPC status, also of errors found on this side. `reason` is the server's name of the cause,
    such as `LIMIT_EXCEEDED`. `metadata` holds the server's numbers (`limit`, `actual`, …), as numbers where
    they are numbers. `retry_after` is in seconds, `None` where the server named no delay.
    """

    default_code: ClassVar[grpc.StatusCode] = grpc.StatusCode.UNKNOWN
    next_move: ClassVar[str] = ""

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode | None = None,
        reason: str = "",
        metadata: Mapping[str, Number] | None = None,
        field_violations: tuple[FieldViolation, ...] = (),
        retry_after: float | None = None,
        request_id: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.reason = reason
        self.metadata: Mapping[str, Number] = MappingProxyType(dict(metadata or {}))
        self.field_violations = field_violations
        self.retry_after = retry_after
        self.request_id = request_id

    @property
    def retryable(self) -> bool:
        """Whether the same call may succeed later. The SDK's retries follow it."""
        return False

    def __str__(self) -> str:
        parts = [self.message.rstrip(".") + "." if self.message else f"{self.code.name}."]
        parts += [
            f"{v.field}: {v.description.rstrip('.')}."
            for v in self.field_violations
            if v.description.rstrip(".") not in self.message
        ]
        if self.retry_after is not None and self.retryable:
            parts.append(f"Try again in {self.retry_after:.3g} s.")
        elif self.next_move:
            parts.append(self.next_move)
        return " ".join(parts)

    def __reduce__(self) -> tuple[object, ...]:
        # Exception.__reduce__ would call __init__ without the keywords; these carry the numbers to other
        # processes.
        state = {**self.__dict__, "metadata": dict(self.metadata)}
        return (_rebuild, (type(self), self.message, state))


def _rebuild(kind: type[UpscaledError], message: str, state: dict[str, object]) -> UpscaledError:
    error = kind(message)
    error.__dict__.update(state)
    error.metadata = MappingProxyType(dict(error.metadata))
    return error


class InvalidRequestError(UpscaledError, ValueError):
    default_code = grpc.StatusCode.INVALID_ARGUMENT
    next_move = "Correct the request; sending it again unchanged cannot help."


class InvalidOptionError(InvalidRequestError):
    """An option of a value that cannot be sent. Nothing was sent."""

    next_move = ""


class SourceError(InvalidRequestError):
    """The image could not be read: no such file, a directory, a text file, none or several sources. Nothing
    is kept.
    """

    next_move = ""


class NotFoundError(UpscaledError):
    default_code = grpc.StatusCode.NOT_FOUND


class AlreadyExistsError(UpscaledError):
    default_code = grpc.StatusCode.ALREADY_EXISTS


class ConflictError(UpscaledError):
    default_code = grpc.StatusCode.ABORTED
    next_move = "Somebody was faster: read again, then repeat the change."


class AuthenticationError(UpscaledError):
    default_code = grpc.StatusCode.UNAUTHENTICATED
    next_move = "Give a valid key as api_key= or in UPSCALED_API_KEY."


class WebhookVerificationError(AuthenticationError):
    """A callback is not from the server, or was changed or held back on its way."""

    next_move = "Answer it with a 4xx status and do nothing else."


class PermissionDeniedError(UpscaledError):
    default_code = grpc.StatusCode.PERMISSION_DENIED
    next_move = "Ask the server's operator for this right, or ask for less."


class FailedPreconditionError(UpscaledError):
    default_code = grpc.StatusCode.FAILED_PRECONDITION
    next_move = "The server's operator must act first."


class ResourceExhaustedError(UpscaledError):
    default_code = grpc.StatusCode.RESOURCE_EXHAUSTED


class OverloadedError(ResourceExhaustedError):
    """The server is full or the caller is at a rate limit; `retry_after` says for how long."""

    @property
    def retryable(self) -> bool:
        return self.retry_after is not None


class LimitExceededError(ResourceExhaustedError):
    next_move = "server_info().limits tells what this server allows."


class QuotaExceededError(ResourceExhaustedError):
    next_move = "Wait for the next period, free what is stored, or ask the operator for more."


class DeadlineExceededError(UpscaledError, TimeoutError):
    default_code = grpc.StatusCode.DEADLINE_EXCEEDED
    next_move = "Give a longer timeout, a faster model or a smaller image."


class CallCancelledError(UpscaledError):
    default_code = grpc.StatusCode.CANCELLED


class ClientClosedError(CallCancelledError):
    next_move = "Make a new client."


class UnavailableError(UpscaledError):
    default_code = grpc.StatusCode.UNAVAILABLE
    next_move = "Try again, against another replica if there is one."

    @property
    def retryable(self) -> bool:
        return True


class ConnectError(UnavailableError, ConnectionError):
    """No server answers at the target. The message says how to start one."""

    next_move = ""


class NotImplementedByServerError(UpscaledError):
    default_code = grpc.StatusCode.UNIMPLEMENTED
    next_move = "server_info().unimplemented lists what this server's version leaves out."


class ServerError(UpscaledError):
    default_code = grpc.StatusCode.INTERNAL
    next_move = "A fault of the server: its log has the details; trying again may help once."


class DataLossError(UpscaledError):
    default_code = grpc.StatusCode.DATA_LOSS
    next_move = "Send it again from the start."


class BrokenStreamError(DataLossError):
    """The stream ended early, or the bytes that arrived are not the announced file."""

    next_move = "Do not use what arrived; call again."


class NoDataError(DataLossError):
    """The result holds no bytes: it was written to a path, stored under a URL, or nothing was computed."""

    next_move = ""


ERROR_BY_STATUS: Mapping[grpc.StatusCode, type[UpscaledError]] = MappingProxyType(
    {
        grpc.StatusCode.CANCELLED: CallCancelledError,
        grpc.StatusCode.UNKNOWN: ServerError,
        grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
        grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceededError,
        grpc.StatusCode.NOT_FOUND: NotFoundError,
        grpc.StatusCode.ALREADY_EXISTS: AlreadyExistsError,
        grpc.StatusCode.PERMISSION_DENIED: PermissionDeniedError,
        grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhaustedError,
        grpc.StatusCode.FAILED_PRECONDITION: FailedPreconditionError,
        grpc.StatusCode.ABORTED: ConflictError,
        grpc.StatusCode.OUT_OF_RANGE: InvalidRequestError,
        grpc.StatusCode.UNIMPLEMENTED: NotImplementedByServerError,
        grpc.StatusCode.INTERNAL: ServerError,
        grpc.StatusCode.UNAVAILABLE: UnavailableError,
        grpc.StatusCode.DATA_LOSS: DataLossError,
        grpc.StatusCode.UNAUTHENTICATED: AuthenticationError,
    }
)
"""Every status but OK. `_statuses.py` narrows RESOURCE_EXHAUSTED and UNAVAILABLE by the details that came
along.
"""
