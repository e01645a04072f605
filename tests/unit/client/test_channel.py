"""Where the server is said to be, and with what key."""

from __future__ import annotations

from pathlib import Path

import pytest

from upscaled import NOT_GIVEN, TLS, Client, InvalidOptionError
from upscaled._channel import _credentials, _options, resolve_api_key, resolve_target


def test_an_argument_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPSCALED_SERVER", "far:1")
    assert resolve_target("near:2") == "near:2"
    assert resolve_target(None) == "far:1"
    monkeypatch.delenv("UPSCALED_SERVER")
    assert resolve_target(None) == "127.0.0.1:50051"


def test_no_key_is_not_the_same_as_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPSCALED_API_KEY", "secret")
    assert resolve_api_key(NOT_GIVEN) == "secret"
    assert resolve_api_key(None) is None
    assert resolve_api_key("other") == "other"


def test_a_malformed_key_is_refused_without_being_shown() -> None:
    with pytest.raises(InvalidOptionError) as caught:
        Client("127.0.0.1:1", api_key="secret\n")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("target", ["http://host:1", "https://host", "localhost"])
def test_what_is_no_target_is_refused(target: str) -> None:
    with pytest.raises(InvalidOptionError, match="server: "):
        Client(target)


def test_names_with_many_addresses_are_used_in_turn() -> None:
    assert any("round_robin" in str(value) for _, value in _options("dns:///upscaled:50051"))
    assert not any("round_robin" in str(value) for _, value in _options("127.0.0.1:50051"))


def test_messages_are_bounded_and_grpc_does_not_retry() -> None:
    options = dict(_options("host:1"))
    assert options["grpc.max_receive_message_length"] == options["grpc.max_send_message_length"] == 65 << 20
    assert options["grpc.enable_retries"] == 0
    assert str(options["grpc.primary_user_agent"]).startswith("upscaled-python/")


def test_encryption_settings_that_cannot_work_are_refused(tmp_path: Path) -> None:
    assert _credentials(None) is None
    assert _credentials(False) is None
    with pytest.raises(InvalidOptionError, match="cannot read ca"):
        _credentials(tmp_path / "none.pem")
    with pytest.raises(InvalidOptionError, match="belong together"):
        _credentials(TLS(cert=b"x"))
