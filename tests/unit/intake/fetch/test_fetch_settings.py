"""The settings of fetching are checked at the start."""

from __future__ import annotations

import pytest

from upscaled_server.intake.fetch.allowed import Opening
from upscaled_server.intake.fetch.settings import FetchSettings
from upscaled_server.settings import Settings, SettingsError


def settings(**variables: str) -> FetchSettings:
    environ = {f"UPSCALED_{name.upper()}": value for name, value in variables.items()}
    return Settings((FetchSettings,), environ)[FetchSettings]


def test_by_default_nothing_inside_is_open() -> None:
    default = settings()
    assert (default.fetch_allow, default.fetch_buckets, default.fetch_proxy) == ((), (), "")
    assert default.fetch_ports == {80, 443}


def test_lists_are_separated_by_commas() -> None:
    given = settings(
        fetch_allow="photos.internal:9000, 10.0.0.0/8",
        fetch_ports="443,8443",
        fetch_schemes="https",
        fetch_buckets="s3://photos, gs://scans/in",
    )
    assert given.fetch_allow == (Opening.parse("photos.internal:9000"), Opening.parse("10.0.0.0/8"))
    assert given.fetch_ports == {443, 8443}
    assert given.fetch_schemes == {"https"}
    assert given.fetch_buckets == ("s3://photos", "gs://scans/in")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fetch_schemes", "http,ftp"),
        ("fetch_ports", "web"),
        ("fetch_allow", "http://photos"),
        ("fetch_buckets", "photos"),
        ("fetch_buckets", "file://photos"),
        ("fetch_proxy", "proxy:3128"),
        ("fetch_proxy", "socks5://proxy"),
        ("fetch_seconds", "0"),
    ],
)
def test_a_bad_value_names_the_variable(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"UPSCALED_{name.upper()}"):
        settings(**{name: value})


def test_the_password_of_a_proxy_is_not_shown() -> None:
    assert "SECRET" not in repr(settings(fetch_proxy="http://user:SECRET@proxy:3128"))
