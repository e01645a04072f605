"""A caller with a token of an identity provider in place of a key."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.keyed import keyed_server
from tests.unit.access.test_tokens import AUDIENCE, ISSUER, Provider
from upscaled import AuthenticationError, Client
from upscaled.v1 import admin_pb2


def test_a_token_is_as_good_as_a_key_once_its_caller_is_known(tmp_path: Path) -> None:
    provider = Provider(tmp_path)
    folder = tmp_path / "data"
    folder.mkdir()
    settings = {
        "UPSCALED_JWT_JWKS": str(provider.path),
        "UPSCALED_JWT_ISSUER": ISSUER,
        "UPSCALED_JWT_AUDIENCE": AUDIENCE,
    }
    with keyed_server(folder, **settings) as keyed:

        def version(token: str | None) -> str:
            with Client(keyed.address, api_key=token, timeout=10, retries=0) as client:
                return client.server_info().version

        with pytest.raises(AuthenticationError, match="no key"):
            version(None)
        with pytest.raises(AuthenticationError, match="there is no caller"):
            version(provider.token())
        keyed.admin.CreateCaller(
            admin_pb2.CreateCallerRequest(caller=admin_pb2.Caller(name="thumbnails")), timeout=10
        )
        assert version(provider.token())
        with pytest.raises(AuthenticationError, match="has expired"):
            version(provider.token(exp=1))
    assert provider.token().split(".")[2] not in keyed.log.read_text()
