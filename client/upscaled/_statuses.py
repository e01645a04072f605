"""From a failed rpc to the SDK's error: reads the typed details that travel beside the status."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable

import grpc
import grpc.aio
from google.protobuf import any_pb2
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from upscaled._errors import (
    ERROR_BY_STATUS,
    ConnectError,
    FieldViolation,
    LimitExceededError,
    Number,
    OverloadedError,
    QuotaExceededError,
    ResourceExhaustedError,
    ServerError,
    UnavailableError,
    UpscaledError,
)

_CODES = {code.value[0]: code for code in grpc.StatusCode}
_DETAILS_KEY = "grpc-status-details-bin"
_LIMIT_REASONS = frozenset({"LIMIT_EXCEEDED", "INLINE_TOO_LARGE"})
_INTEGER = re.compile(r"-?(0|[1-9]\d{0,17})")
_DECIMAL = re.compile(r"-?\d+\.\d+(e[+-]?\d+)?|-?\d+e[+-]?\d+", re.IGNORECASE)
# What grpc itself says when there was no server to say anything.
_NOT_CONNECTED = re.compile(
    r"failed to connect|connection refused|no such file or directory|name resolution|dns resolution"
    r"|could not contact dns|domain name not found|handshake failed|ssl_error|certificate"
    r"|network is unreachable|no route to host",
    re.IGNORECASE,
)
# What it says when a proxy gave the call up because the server behind it was gone in the middle of it.
_BROKEN_OFF = re.compile(r"RST_STREAM|stream removed", re.IGNORECASE)


def from_rpc_error(error: grpc.aio.AioRpcError, *, target: str, request_id: str = "") -> UpscaledError:
    """The SDK's error for a status, with everything the server said about it."""
    details = _Details()
    details.read_trailer(error.trailing_metadata() or ())
    code = error.code()
    message = details.message or error.details() or ""
    kind = _kind(code, details, message)
    if kind is UnavailableError and not details.reason and _NOT_CONNECTED.search(message):
        kind, message = ConnectError, _no_connection(target, message)
    if kind is ServerError and not details.reason and _BROKEN_OFF.search(message):
        kind, message = UnavailableError, f"the connection broke in the middle of the call: {message}"
    return _error(kind, code, details, message, request_id)


def from_status(status: status_pb2.Status, *, request_id: str = "") -> UpscaledError:
    """The SDK's error for a status that was stored, such as that of a failed job."""
    details = _Details()
    details.read(status)
    code = _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
    return _error(_kind(code, details, status.message), code, details, status.message, request_id)


def _kind(code: grpc.StatusCode, details: _Details, message: str) -> type[UpscaledError]:
    kind = ERROR_BY_STATUS.get(code, UpscaledError)
    return _narrow_exhausted(details, message) if kind is ResourceExhaustedError else kind


def _error(
    kind: type[UpscaledError], code: grpc.StatusCode, details: _Details, message: str, request_id: str
) -> UpscaledError:
    return kind(
        message,
        code=code,
        reason=details.reason,
        metadata=details.metadata,
        field_violations=tuple(details.violations),
        retry_after=details.retry_after,
        request_id=request_id,
    )


class _Details:
    """The `google.rpc` details of a failure; empty where the server sent none."""

    def __init__(self) -> None:
        self.message = ""
        self.reason = ""
        self.metadata: dict[str, Number] = {}
        self.violations: list[FieldViolation] = []
        self.quota = False
        self.retry_after: float | None = None

    def read_trailer(self, metadata: Iterable[tuple[str, str | bytes]]) -> None:
        for key, value in metadata:
            if key == _DETAILS_KEY and isinstance(value, bytes):
                # What cannot be read is left out: the status itself still tells what happened.
                with contextlib.suppress(DecodeError):
                    self.read(status_pb2.Status.FromString(value))

    def read(self, status: status_pb2.Status) -> None:
        for any_ in status.details:
            self._read_detail(any_)
        self.message = status.message

    def _read_detail(self, detail: any_pb2.Any) -> None:
        info = error_details_pb2.ErrorInfo()
        bad = error_details_pb2.BadRequest()
        retry = error_details_pb2.RetryInfo()
        quota = error_details_pb2.QuotaFailure()
        unpack = detail.Unpack
        if unpack(info):
            self.reason = info.reason
            self.metadata = {key: as_number(value) for key, value in info.metadata.items()}
        elif unpack(bad):
            self.violations = [FieldViolation(v.field, v.description) for v in bad.field_violations]
        elif unpack(retry):
            self.retry_after = retry.retry_delay.ToTimedelta().total_seconds()
        elif unpack(quota):
            self.quota = True


def as_number(text: str) -> Number:
    """`ErrorInfo.metadata` carries text only; gives back the number it was made from, or the text."""
    if _INTEGER.fullmatch(text):
        return int(text)
    if _DECIMAL.fullmatch(text):
        return float(text)
    return text


def _narrow_exhausted(details: _Details, message: str) -> type[UpscaledError]:
    if details.quota:
        return QuotaExceededError
    # grpc's own refusal of a message above the channel's bound carries no details.
    if details.reason in _LIMIT_REASONS or "message larger than max" in message:
        return LimitExceededError
    return OverloadedError if details.retry_after is not None else ResourceExhaustedError


def _no_connection(target: str, message: str) -> str:
    # grpc puts the addresses it tried in front of the cause, in its own notation.
    cause = message.rsplit("; last error: ", 1)[-1].rsplit("remote host: ", 1)[-1].rstrip(". ")
    return (
        f"no upscaled server answers at {target} ({cause}). "
        "Start one with `upscaled serve --listen HOST:PORT`, or name another, for example in UPSCALED_SERVER"
    )
