"""From the domain's errors to gRPC statuses: one table, read by walking the class hierarchy.

Every error carries `google.rpc.ErrorInfo` (AIP-193); `BadRequest`, `RetryInfo` and `QuotaFailure` where
they apply.
"""

from __future__ import annotations

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from upscaled_server import errors

DOMAIN = "upscaled.v1"

STATUS_OF: dict[type[errors.DomainError], grpc.StatusCode] = {
    errors.InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    errors.OutOfRange: grpc.StatusCode.OUT_OF_RANGE,
    errors.LimitExceeded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.Conflict: grpc.StatusCode.ABORTED,
    errors.FailedPrecondition: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.QuotaExceeded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.DeadlinePassed: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.CallerGone: grpc.StatusCode.CANCELLED,
    errors.DataLoss: grpc.StatusCode.DATA_LOSS,
    errors.ProcessingFailed: grpc.StatusCode.INTERNAL,
}


def code_of(error: errors.DomainError) -> grpc.StatusCode:
    """The status of an error: that of the nearest class in its hierarchy that the table names."""
    for kind in type(error).__mro__:
        if kind in STATUS_OF:
            return STATUS_OF[kind]
    return grpc.StatusCode.INTERNAL


def to_status(error: errors.DomainError, *, request_id: str = "") -> grpc.Status:
    """The complete gRPC status of an error, with its details."""
    converted: grpc.Status = rpc_status.to_status(to_message(error, request_id=request_id))
    return converted


def to_message(error: errors.DomainError, *, request_id: str = "") -> status_pb2.Status:
    """The same as a message, for what is kept."""
    metadata = {name: str(value) for name, value in error.numbers.items()}
    if request_id:
        metadata["request_id"] = request_id
    details: list[Message] = [
        error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata)
    ]
    if (field := _field_of(error)) is not None:
        violation = error_details_pb2.BadRequest.FieldViolation(field=field, description=error.message)
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if isinstance(error, errors.Overloaded):
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(max(1, round(error.retry_after_seconds * 1000)))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    if isinstance(error, errors.QuotaExceeded):
        quota = error_details_pb2.QuotaFailure.Violation(subject=error.subject, description=error.message)
        details.append(error_details_pb2.QuotaFailure(violations=[quota]))
    return status_pb2.Status(
        code=code_of(error).value[0],
        message=error.message,
        details=[_pack(detail) for detail in details],
    )


def _pack(message: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed


def _field_of(error: errors.DomainError) -> str | None:
    """The request field that the error is about, as a proto path."""
    if isinstance(error, errors.InvalidField | errors.LimitExceeded):
        return error.field
    return "source" if isinstance(error, errors.ImageRejected) else None
