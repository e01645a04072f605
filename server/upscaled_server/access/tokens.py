"""Tokens (JWT, RFC 7519) of an identity provider, in place of keys."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from upscaled_server.errors import FailedPrecondition, Unauthenticated

if TYPE_CHECKING:
    from jwt import PyJWK

# Signatures by a pair of keys only: with a shared secret whoever verifies could also sign.
ALGORITHMS = frozenset(
    ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
)
MAX_TOKEN_BYTES = 8192
_LEEWAY_SECONDS = 30.0


class TokenSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="UPSCALED_", extra="ignore")

    jwt_jwks: str = Field(
        "",
        description="Where the identity provider's public keys are (JWKS): an https:// URL or a file. With "
        "it a caller may send a JWT in place of a key. Needs the extra `jwt`.",
    )
    jwt_issuer: str = Field("", description="What `iss` of a JWT must be.")
    jwt_audience: str = Field("", description="What `aud` of a JWT must be, or hold.")
    jwt_caller_claim: str = Field(
        "sub", min_length=1, description="The claim that names the caller, who must have been created here."
    )

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.jwt_jwks and not (self.jwt_issuer and self.jwt_audience):
            raise ValueError(
                "UPSCALED_JWT_JWKS needs UPSCALED_JWT_ISSUER and UPSCALED_JWT_AUDIENCE: without them every "
                "token of the provider would do, whoever it was made for"
            )
        if self.jwt_jwks.startswith("http://"):
            raise ValueError("UPSCALED_JWT_JWKS must be https://: whoever can change these keys is everybody")
        return self


class Tokens:
    """Verifies tokens with the provider's keys of the moment, which `use` replaces."""

    def __init__(self, settings: TokenSettings) -> None:
        """Raises `FailedPrecondition` where the extra is missing."""
        if importlib.util.find_spec("jwt") is None:
            raise FailedPrecondition("UPSCALED_JWT_JWKS needs the extra: pip install 'upscaled[jwt]'")
        self._settings = settings
        self._keys: Mapping[str, PyJWK] = {}
        self.on_unknown_key: Callable[[], None] = lambda: None
        """Called for a token that is signed with a key that is not known: the provider may have a new one."""

    def use(self, keys: Mapping[str, PyJWK]) -> None:
        """The provider's keys by their id, "" for one without."""
        self._keys = keys

    def caller_of(self, token: str) -> str:
        """The caller's name, as the claim says it. Raises `Unauthenticated`, never with the token in it."""
        import jwt

        if len(token) > MAX_TOKEN_BYTES:
            raise Unauthenticated(f"the token is too long (limit: {MAX_TOKEN_BYTES}; got: {len(token)})")
        try:
            header = jwt.get_unverified_header(token)
            key = self._key(str(header.get("kid", "")))
            claims = jwt.decode(
                token,
                key=key,
                algorithms=[str(key.algorithm_name)],
                issuer=self._settings.jwt_issuer,
                audience=self._settings.jwt_audience,
                leeway=_LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud", self._settings.jwt_caller_claim]},
            )
        except jwt.ExpiredSignatureError:
            raise Unauthenticated("the token has expired; ask the identity provider for a new one") from None
        except jwt.InvalidIssuerError:
            raise Unauthenticated("the token is of another issuer") from None
        except jwt.InvalidAudienceError:
            raise Unauthenticated("the token was made for another audience") from None
        except jwt.MissingRequiredClaimError as error:
            raise Unauthenticated(f"the token has no claim {error.claim}") from None
        except jwt.InvalidTokenError:
            raise Unauthenticated("the token is not valid") from None
        return str(claims[self._settings.jwt_caller_claim])

    def _key(self, key_id: str) -> PyJWK:
        """The key of this id; the only one, where a token names none."""
        key = self._keys.get(key_id)
        if key is None and not key_id and len(self._keys) == 1:
            key = next(iter(self._keys.values()))
        if key is None:
            self.on_unknown_key()
            raise Unauthenticated("the token is signed with a key that the identity provider does not show")
        return key


def is_token(presented: str) -> bool:
    """Whether it was meant as a JWT, right or wrong: three parts between dots."""
    return presented.count(".") == 2
