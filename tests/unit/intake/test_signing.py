"""Signatures of URLs, and the keys they are made with."""

from __future__ import annotations

import base64
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import SecretStr
from standardwebhooks import Webhook

from upscaled_server.errors import FailedPrecondition, Unauthenticated
from upscaled_server.intake.secrets import Secrets, SecretSettings
from upscaled_server.intake.signing import SigningSettings, UrlSigner
from upscaled_server.state.store import Store

NOW = 1_790_000_000
OLD, NEW = b"o" * 32, b"n" * 32
ID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"


def _signer(*keys: bytes, now: float = NOW) -> UrlSigner:
    return UrlSigner(keys, "https://images.example.com", clock=lambda: now)


def test_a_url_says_what_is_verified() -> None:
    signer = _signer(NEW)
    url, until = signer.address(ID, NOW + 100.7)
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    assert url.startswith(f"https://images.example.com/v1/outputs/{ID}:download?")
    assert until == NOW + 100
    signer.verify(ID, int(query["expires"][0]), query["signature"][0])


def test_a_signature_is_for_one_output_and_one_moment() -> None:
    signer = _signer(NEW)
    signature = signer.sign(ID, NOW + 10)
    changed = ["A" + signature[1:], signature[:-1], signature + "A", "", "ü", "\0"]
    for output_id, expires, given in [
        (ID[:-1] + "W", NOW + 10, signature),
        (ID, NOW + 11, signature),
        *((ID, NOW + 10, each) for each in changed if each != signature),
    ]:
        with pytest.raises(Unauthenticated, match="not valid"):
            signer.verify(output_id, expires, given)


def test_a_signature_ends() -> None:
    signature = _signer(NEW).sign(ID, NOW + 10)
    _signer(NEW, now=NOW + 9.9).verify(ID, NOW + 10, signature)
    with pytest.raises(Unauthenticated, match="expired"):
        _signer(NEW, now=NOW + 10).verify(ID, NOW + 10, signature)


def test_keys_rotate() -> None:
    signature = _signer(OLD).sign(ID, NOW + 10)
    _signer(NEW, OLD).verify(ID, NOW + 10, signature)
    assert _signer(NEW, OLD).sign(ID, NOW + 10) != signature
    with pytest.raises(Unauthenticated):
        _signer(NEW).verify(ID, NOW + 10, signature)


def test_a_url_of_a_result_ends_within_a_week() -> None:
    assert _signer(NEW).address(ID, NOW + 1e9)[1] == NOW + 7 * 24 * 3600


def test_without_a_public_address_a_url_is_a_path() -> None:
    assert UrlSigner([NEW], "").url(ID, NOW).startswith(f"/v1/outputs/{ID}:download?signature=")


@pytest.mark.parametrize("url", ["images.example.com", "ftp://x", "javascript:alert(1)"])
def test_a_public_address_is_one_of_http(url: str) -> None:
    with pytest.raises(ValueError, match="must begin with"):
        SigningSettings(public_url=url)
    assert SigningSettings(public_url="https://x/").public_url == "https://x"


async def test_a_key_is_made_once_and_kept(store: Store) -> None:
    first = await Secrets.load(SecretSettings(), store)
    again = await Secrets.load(SecretSettings(), store)
    assert first.keys == again.keys
    assert [len(key) for key in first.keys] == [32]


async def test_given_keys_are_used_in_their_order(store: Store) -> None:
    given = SecretSettings(signing_keys=SecretStr(f" {'n' * 32},{'o' * 40}, "))
    assert list((await Secrets.load(given, store)).keys) == [b"n" * 32, b"o" * 40]
    assert await store.get("secrets/signing") is None


async def test_a_short_key_is_refused_without_being_shown(store: Store) -> None:
    with pytest.raises(FailedPrecondition, match="UPSCALED_SIGNING_KEYS") as refused:
        await Secrets.load(SecretSettings(signing_keys=SecretStr(f"{'n' * 32},hunter2")), store)
    assert "hunter2" not in refused.value.message
    assert "hunter2" not in repr(SecretSettings(signing_keys=SecretStr("hunter2")))


def test_every_caller_has_webhook_secrets_of_its_own() -> None:
    secrets = Secrets([NEW, OLD])
    anna, ben = secrets.webhook_secrets("anna"), secrets.webhook_secrets("ben")
    assert len({*anna, *ben}) == 4
    assert anna[1] == Secrets([OLD]).webhook_secrets("anna")[0]
    for text, key in zip(anna, secrets.webhook_keys("anna"), strict=True):
        assert base64.b64decode(text.removeprefix("whsec_")) == key
        Webhook(text)
