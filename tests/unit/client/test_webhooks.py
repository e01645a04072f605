"""Receivers take what the server signed, as Standard Webhooks has it, and nothing else."""

from __future__ import annotations

import base64
import json
import time
from datetime import UTC, datetime

import pytest
import standardwebhooks

from upscaled import UpscaledError, WebhookVerificationError, webhooks
from upscaled_server.jobs.callbacks.signature import signed_headers

KEY = bytes(range(32))
OLD_KEY = bytes(range(100, 132))
JOB = {"id": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "state": "JOB_STATE_SUCCEEDED", "labels": {"ä": "ö"}}
BODY = json.dumps(JOB, ensure_ascii=False).encode()
NAMES = ("webhook-id", "webhook-timestamp", "webhook-signature")


def whsec(key: bytes) -> str:
    return "whsec_" + base64.b64encode(key).decode()


def signed(age_seconds: float = 0.0, keys: tuple[bytes, ...] = (KEY,)) -> dict[str, str]:
    return signed_headers("msg_1", time.time() - age_seconds, BODY, keys)


def test_what_the_server_signs_is_verified() -> None:
    assert webhooks.verify(BODY, signed(), whsec(KEY)) == JOB


def test_the_official_library_verifies_what_the_server_signs() -> None:
    assert standardwebhooks.Webhook(whsec(KEY)).verify(BODY, signed()) == JOB


def test_what_the_official_library_signs_is_verified() -> None:
    now = datetime.now(UTC)
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": standardwebhooks.Webhook(whsec(KEY)).sign("msg_1", now, BODY.decode()),
    }
    assert webhooks.verify(BODY, headers, whsec(KEY)) == JOB


def test_during_a_rotation_either_secret_verifies() -> None:
    headers = signed(keys=(KEY, OLD_KEY))
    for key in (KEY, OLD_KEY):
        assert webhooks.verify(BODY, headers, whsec(key)) == JOB
        assert standardwebhooks.Webhook(whsec(key)).verify(BODY, headers) == JOB
    assert webhooks.verify(BODY, signed(), [whsec(OLD_KEY), whsec(KEY)]) == JOB


def test_headers_may_be_in_any_case_secrets_bytes_and_the_body_text() -> None:
    headers = {name.title(): value for name, value in signed().items()}
    assert webhooks.verify(BODY.decode(), headers, KEY) == JOB


def test_each_change_of_a_single_bit_of_the_body_is_refused() -> None:
    headers = signed()
    for at in range(8 * len(BODY)):
        changed = bytearray(BODY)
        changed[at // 8] ^= 1 << at % 8
        with pytest.raises(WebhookVerificationError):
            webhooks.verify(bytes(changed), headers, whsec(KEY))


@pytest.mark.parametrize("name", NAMES)
def test_each_change_of_a_single_bit_of_a_header_is_refused(name: str) -> None:
    headers = signed()
    for at in range(8 * len(headers[name])):
        changed = bytearray(headers[name].encode())
        changed[at // 8] ^= 1 << at % 8
        with pytest.raises(WebhookVerificationError):
            webhooks.verify(BODY, headers | {name: changed.decode("latin-1")}, whsec(KEY))


@pytest.mark.parametrize("age_seconds", [310, -310, 1e9])
def test_what_is_older_or_newer_than_five_minutes_is_refused(age_seconds: float) -> None:
    with pytest.raises(WebhookVerificationError, match=r"too old|too far ahead"):
        webhooks.verify(BODY, signed(age_seconds), whsec(KEY))


@pytest.mark.parametrize("age_seconds", [290, -290])
def test_within_five_minutes_it_is_taken(age_seconds: float) -> None:
    assert webhooks.verify(BODY, signed(age_seconds), whsec(KEY)) == JOB


def test_the_tolerance_can_be_chosen() -> None:
    assert webhooks.verify(BODY, signed(3000), whsec(KEY), tolerance_seconds=3600) == JOB
    with pytest.raises(WebhookVerificationError):
        webhooks.verify(BODY, signed(), whsec(KEY), tolerance_seconds=float("nan"))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "value", [None, "", " ", "v1,", "0x10", "1e9", "nan", "v1a,AAAA", "é", "\udcff", "\ud800x"]
)
def test_a_header_that_is_missing_or_something_else_is_refused(name: str, value: str | None) -> None:
    headers = signed()
    del headers[name]
    with pytest.raises(WebhookVerificationError):
        webhooks.verify(BODY, headers if value is None else headers | {name: value}, whsec(KEY))


def test_a_body_that_cannot_be_text_is_refused() -> None:
    with pytest.raises(WebhookVerificationError):
        webhooks.verify("{}\udcff", signed(), whsec(KEY))


def test_another_secret_is_refused() -> None:
    with pytest.raises(WebhookVerificationError):
        webhooks.verify(BODY, signed(), whsec(OLD_KEY))


@pytest.mark.parametrize("secrets", ["", "whsec_", "whsec_!", b"", [], [""]])
def test_secrets_that_are_none_are_an_error_of_the_receiver(secrets: str | bytes | list[str]) -> None:
    with pytest.raises(ValueError, match="secret"):
        webhooks.verify(BODY, signed(), secrets)


@pytest.mark.parametrize("body", [b"", b"[]", b"not JSON", b"\xff", b"[" * 100_000])
def test_what_is_signed_and_no_object_is_refused(body: bytes) -> None:
    headers = signed_headers("msg_1", time.time(), body, [KEY])
    with pytest.raises(WebhookVerificationError, match="not a JSON object"):
        webhooks.verify(body, headers, whsec(KEY))


def test_the_error_is_one_of_the_package() -> None:
    assert issubclass(WebhookVerificationError, UpscaledError)
