"""Settings come from variables and one file; a name nobody knows stops the start."""

from __future__ import annotations

from pathlib import Path

import pytest

from upscaled_server.api.listen import ListenSettings
from upscaled_server.intake.fetch.settings import FetchSettings
from upscaled_server.pipeline.limits import LimitSettings
from upscaled_server.settings import Settings, SettingsError

KINDS = (ListenSettings, LimitSettings)


def test_variables_win_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    file = tmp_path / "upscaled.yaml"
    file.write_text("max_input_pixels: 7\nmax_scale: 3\n")
    settings = Settings(KINDS, {"UPSCALED_CONFIG": str(file), "UPSCALED_MAX_SCALE": "5"})
    limits = settings[LimitSettings]
    assert (limits.max_input_pixels, limits.max_scale, limits.max_passes) == (7, 5.0, 4)


def test_an_unknown_variable_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(
        SettingsError, match=r"UPSCALED_MAX_INPUT_PIXEL: no such setting.*UPSCALED_MAX_INPUT_PIXELS"
    ):
        Settings(KINDS, {"UPSCALED_MAX_INPUT_PIXEL": "7"})


def test_an_unknown_name_in_the_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "upscaled.yaml"
    file.write_text("max_skale: 3\n")
    with pytest.raises(SettingsError, match="max_skale"):
        Settings(KINDS, {"UPSCALED_CONFIG": str(file)})


@pytest.mark.parametrize("content", ["- a\n- b\n", "just text", "{"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "upscaled.yaml"
    file.write_text(content)
    with pytest.raises(SettingsError, match="UPSCALED_CONFIG"):
        Settings(KINDS, {"UPSCALED_CONFIG": str(file)})


def test_a_bad_value_names_the_variable_and_the_value() -> None:
    with pytest.raises(SettingsError, match=r"UPSCALED_MAX_INPUT_PIXELS.*'many'"):
        Settings(KINDS, {"UPSCALED_MAX_INPUT_PIXELS": "many"})


@pytest.mark.parametrize(
    "name",
    [
        "UPSCALED_SERVICE_HOST",
        "UPSCALED_SERVICE_PORT_GRPC",
        "UPSCALED_PORT",
        "UPSCALED_PORT_50051_TCP_ADDR",
        "UPSCALED_HEADLESS_SERVICE_HOST",
        "UPSCALED_API_KEY",
        "UPSCALED_SERVER",
    ],
)
def test_names_that_kubernetes_or_the_client_put_there_are_ignored(name: str) -> None:
    Settings(KINDS, {name: "tcp://10.0.0.1:50051"})


def test_the_hosted_profile_sets_the_hosted_limits_and_single_values_still_win() -> None:
    limits = Settings(KINDS, {"UPSCALED_LIMITS": "hosted", "UPSCALED_MAX_OUTPUT_SIDE": "4096"})[LimitSettings]
    assert (limits.max_input_side, limits.max_output_side) == (2048, 4096)


@pytest.mark.parametrize(
    ("listen", "open_to_network"),
    [
        ("127.0.0.1:50051", False),
        ("[::1]:50051", False),
        ("localhost:0", False),
        ("unix:/tmp/x.sock", False),
        ("0.0.0.0:50051", True),
        ("[::]:50051", True),
        ("example.org:443", True),
    ],
)
def test_only_loopback_is_safe_without_keys(listen: str, open_to_network: bool) -> None:
    assert ListenSettings(listen=listen).open_to_network is open_to_network


@pytest.mark.parametrize("listen", ["", "50051", "host:", "host:99999", "unix:", "::1:50051"])
def test_an_address_that_cannot_be_meant_is_refused(listen: str) -> None:
    with pytest.raises(SettingsError, match="UPSCALED_LISTEN"):
        Settings(KINDS, {"UPSCALED_LISTEN": listen})


def test_a_refused_value_that_may_hold_a_password_is_not_shown() -> None:
    with pytest.raises(SettingsError, match="UPSCALED_FETCH_PROXY") as refused:
        Settings((FetchSettings,), {"UPSCALED_FETCH_PROXY": "ftp://user:hunter2@proxy"})
    assert "hunter2" not in str(refused.value)
