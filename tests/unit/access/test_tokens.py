"""Tokens of an identity provider: which are good, and that a bad one is never taken for a good one."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from upscaled_server.access import jwks
from upscaled_server.access.tokens import MAX_TOKEN_BYTES, Tokens, TokenSettings, is_token
from upscaled_server.errors import FailedPrecondition, Unauthenticated

ISSUER, AUDIENCE = "https://login.example", "upscaled"


class Provider:
    """An identity provider with one key of each kind."""

    def __init__(self, folder: Path) -> None:
        self.rsa = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.ec = ec.generate_private_key(ec.SECP256R1())
        self.path = folder / "jwks.json"
        self.write(self.rsa_entry())

    def rsa_entry(self, **more: str) -> dict[str, Any]:
        entry = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.rsa.public_key()))
        return {**entry, "kid": "rsa", "alg": "RS256", "use": "sig", **more}

    def ec_entry(self) -> dict[str, Any]:
        entry = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(self.ec.public_key()))
        return {**entry, "kid": "ec", "alg": "ES256"}

    def write(self, *entries: dict[str, Any]) -> None:
        self.path.write_text(json.dumps({"keys": entries}))

    def token(self, *, algorithm: str = "RS256", key: Any = None, kid: str = "rsa", **claims: Any) -> str:
        now = time.time()
        values = {"iss": ISSUER, "aud": AUDIENCE, "exp": now + 60, "sub": "thumbnails", **claims}
        values = {name: value for name, value in values.items() if value is not None}
        return jwt.encode(values, key or self.rsa, algorithm=algorithm, headers={"kid": kid})


@pytest.fixture
def provider(tmp_path: Path) -> Provider:
    return Provider(tmp_path)


@pytest.fixture
async def tokens(provider: Provider) -> Tokens:
    settings = TokenSettings(jwt_jwks=str(provider.path), jwt_issuer=ISSUER, jwt_audience=AUDIENCE)
    tokens = Tokens(settings)
    await jwks.load(tokens, str(provider.path))
    return tokens


def test_a_good_token_names_its_caller(provider: Provider, tokens: Tokens) -> None:
    assert tokens.caller_of(provider.token()) == "thumbnails"
    assert tokens.caller_of(provider.token(aud=["other", AUDIENCE])) == "thumbnails"


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"exp": 1}, "has expired"),
        ({"exp": None}, "no claim exp"),
        ({"iss": "https://evil.example"}, "another issuer"),
        ({"iss": None}, "no claim iss"),
        ({"aud": "others"}, "another audience"),
        ({"aud": None}, "no claim aud"),
        ({"sub": None}, "no claim sub"),
        ({"nbf": 1e11}, "not valid"),
    ],
)
def test_a_token_for_another_time_place_or_caller_is_refused(
    provider: Provider, tokens: Tokens, claims: dict[str, Any], said: str
) -> None:
    token = provider.token(**claims)
    with pytest.raises(Unauthenticated, match=said) as refused:
        tokens.caller_of(token)
    assert token not in str(refused.value)


def test_a_token_that_somebody_else_signed_is_refused(provider: Provider, tokens: Tokens) -> None:
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    with pytest.raises(Unauthenticated, match="not valid"):
        tokens.caller_of(provider.token(key=stranger))
    head, body, signature = provider.token().split(".")
    forged = base64.urlsafe_b64encode(b'{"sub":"operations"}').rstrip(b"=").decode()
    with pytest.raises(Unauthenticated, match="not valid"):
        tokens.caller_of(f"{head}.{forged}.{signature}")
    with pytest.raises(Unauthenticated, match="not valid"):
        tokens.caller_of(f"{head}.{body}.")


def test_the_token_does_not_choose_how_it_is_verified(provider: Provider, tokens: Tokens) -> None:
    """Neither not at all, nor with the public key as a shared secret."""
    head = base64.urlsafe_b64encode(b'{"alg":"none","kid":"rsa"}').rstrip(b"=").decode()
    body = provider.token().split(".")[1]
    with pytest.raises(Unauthenticated):
        tokens.caller_of(f"{head}.{body}.")
    pem = provider.rsa.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    with pytest.raises(Unauthenticated, match="not valid"):
        tokens.caller_of(provider.token(algorithm="HS256", key=base64.b64encode(pem)))


async def test_a_new_key_of_the_provider_is_asked_for(provider: Provider, tokens: Tokens) -> None:
    asked = []
    tokens.on_unknown_key = lambda: asked.append(True)
    token = provider.token(algorithm="ES256", key=provider.ec, kid="ec")
    with pytest.raises(Unauthenticated, match="does not show"):
        tokens.caller_of(token)
    assert asked
    provider.write(provider.rsa_entry(), provider.ec_entry())
    await jwks.load(tokens, str(provider.path))
    assert tokens.caller_of(token) == "thumbnails"


async def test_keys_that_do_not_verify_signatures_are_left_out(provider: Provider, tokens: Tokens) -> None:
    secret = {"kty": "oct", "kid": "oct", "alg": "HS256", "k": base64.urlsafe_b64encode(b"x" * 32).decode()}
    provider.write(secret, provider.rsa_entry(use="enc"))
    with pytest.raises(FailedPrecondition, match="holds no key"):
        await jwks.load(tokens, str(provider.path))
    assert tokens.caller_of(provider.token()) == "thumbnails"


@pytest.mark.parametrize("text", ["", "not json", "[]", "{}", '{"keys": 5}', '{"keys": [1]}'])
async def test_what_is_no_set_of_keys_is_refused(provider: Provider, tokens: Tokens, text: str) -> None:
    provider.path.write_text(text)
    with pytest.raises(FailedPrecondition, match="UPSCALED_JWT_JWKS"):
        await jwks.load(tokens, str(provider.path))


def test_a_long_or_broken_token_costs_nothing(tokens: Tokens) -> None:
    for token in ("a" * (MAX_TOKEN_BYTES + 1), "..", "a.b.c", "\x00.\xff.e", "eyJ.eyJ.eyJ"):
        with pytest.raises(Unauthenticated):
            tokens.caller_of(token)


def test_a_token_is_told_from_a_key_by_its_dots() -> None:
    assert is_token("a.b.c")
    assert not is_token("upk_abcdefghijkl_secret")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"jwt_jwks": "keys.json"}, "UPSCALED_JWT_ISSUER"),
        ({"jwt_jwks": "http://login.example/keys", "jwt_issuer": "a", "jwt_audience": "b"}, "must be https"),
    ],
)
def test_settings_that_would_let_everybody_in_are_refused(given: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        TokenSettings(**given)
