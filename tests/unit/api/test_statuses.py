"""Every error of the domain reaches the caller as a fitting status with its numbers."""

from __future__ import annotations

import inspect

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from upscaled_server import errors
from upscaled_server.api.statuses import DOMAIN, STATUS_OF, code_of, to_status

ALL = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, errors.DomainError) and kind is not errors.DomainError
]


def _details(status: grpc.Status) -> list[object]:
    packed = status_pb2.Status.FromString(dict(status.trailing_metadata)["grpc-status-details-bin"])
    unpacked = []
    for detail in packed.details:
        kind = getattr(error_details_pb2, detail.TypeName().rpartition(".")[2])
        message = kind()
        detail.Unpack(message)
        unpacked.append(message)
    return unpacked


@pytest.mark.parametrize("kind", ALL)
def test_every_domain_error_finds_its_status_by_its_hierarchy(kind: type[errors.DomainError]) -> None:
    assert any(base in STATUS_OF for base in kind.__mro__)


@pytest.mark.parametrize("kind", ALL)
def test_every_domain_error_has_a_reason_of_its_own(kind: type[errors.DomainError]) -> None:
    assert [other for other in ALL if other.reason == kind.reason] == [kind]


def test_a_subclass_defined_elsewhere_takes_the_status_of_its_base() -> None:
    class Special(errors.DamagedImage):
        reason = "SPECIAL"

    assert code_of(Special("x")) is grpc.StatusCode.INVALID_ARGUMENT


def test_an_invalid_field_names_field_limit_and_value() -> None:
    status = to_status(errors.InvalidField("options.scale", "is out of range", limit="above 0", actual=-1))
    info, bad = _details(status)
    assert status.code is grpc.StatusCode.INVALID_ARGUMENT
    assert isinstance(info, error_details_pb2.ErrorInfo)
    assert (info.reason, info.domain) == ("INVALID_FIELD", DOMAIN)
    assert dict(info.metadata) == {"field": "options.scale", "limit": "above 0", "actual": "-1"}
    assert isinstance(bad, error_details_pb2.BadRequest)
    assert bad.field_violations[0].field == "options.scale"


def test_overload_says_when_to_try_again() -> None:
    status = to_status(errors.Overloaded("the queue is full", retry_after_seconds=1.5, queued=7))
    info, retry = _details(status)
    assert status.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert isinstance(retry, error_details_pb2.RetryInfo)
    assert retry.retry_delay.ToMilliseconds() == 1500
    assert isinstance(info, error_details_pb2.ErrorInfo)
    assert info.metadata["queued"] == "7"


@pytest.mark.parametrize(
    ("error", "subject"),
    [
        (errors.QuotaExceeded("caller:anna", "no more credits", limit=5), "caller:anna"),
        (errors.StorageFull("the disk is full"), "server"),
    ],
)
def test_a_quota_names_whose_it_is_and_no_time_to_come_back(
    error: errors.QuotaExceeded, subject: str
) -> None:
    status = to_status(error)
    info, quota = _details(status)
    assert status.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert isinstance(info, error_details_pb2.ErrorInfo)
    assert isinstance(quota, error_details_pb2.QuotaFailure)
    (violation,) = quota.violations
    assert (violation.subject, violation.description) == (subject, error.message)


def test_a_position_beyond_the_end_and_lost_bytes_have_statuses_of_their_own() -> None:
    assert code_of(errors.OutOfRange("offset", limit=5)) is grpc.StatusCode.OUT_OF_RANGE
    assert code_of(errors.DataLoss("the hash is another")) is grpc.StatusCode.DATA_LOSS
