"""A URL is read in one way, and shown without what may be secret."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upscaled_server.errors import UrlRefused
from upscaled_server.intake.fetch.urls import MAX_URL_CHARACTERS, Target, parse, shown

WEB = frozenset({"http", "https"})


def read(url: str) -> Target:
    return parse(url, field="source.url", schemes=WEB)


@pytest.mark.parametrize(
    ("url", "origin", "asked"),
    [
        ("http://example.com", "http://example.com:80", b"/"),
        ("HTTPS://Example.COM./a/b.png?c=d#e", "https://example.com:443", b"/a/b.png?c=d"),
        ("http://example.com:8080/ä".replace("ä", "%C3%A4"), "http://example.com:8080", b"/%C3%A4"),
        ("http://example.com?x=1", "http://example.com:80", b"/?x=1"),
        ("http://[2606:4700::0:1]:81/", "http://[2606:4700::1]:81", b"/"),
        ("http://8.8.8.8/", "http://8.8.8.8:80", b"/"),
        ("http://a_b.example.com/@x", "http://a_b.example.com:80", b"/@x"),
        ("http://127.0.0.1#@example.com/", "http://127.0.0.1:80", b"/"),
    ],
)
def test_a_url_is_read_in_one_way(url: str, origin: str, asked: bytes) -> None:
    target = read(url)
    assert (target.origin, target.url.raw_path) == (origin, asked)
    assert target.url.host == target.host


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com/a.png",
        "//example.com/",
        "/etc/passwd",
        "file:///etc/passwd",
        "ftp://example.com/",
        "data:image/png;base64,AAAA",
        "http:example.com",
        "http:/example.com",
        "http://",
        "http:///a.png",
        "http://user@example.com/",
        "http://user:password@example.com/",
        "http://@example.com/",
        "http://example.com\\@127.0.0.1/",
        "http://example.com%00.127.0.0.1/",
        "http://ex%61mple.com/",
        "http://exa mple.com/",
        "http://example.com/a\r\nHost: b",
        "http://example.com/a\0",
        "http://example.com/ä",
        "http://münchen.example/",
        "http://example.com:/a:b",
        "http://example.com:0/",
        "http://example.com:65536/",
        "http://example.com:80x/",
        "http://example.com:-1/",
        "http://2852039166/",
        "http://0x7f000001/",
        "http://0x7f.1/",
        "http://127.1/",
        "http://0251.0376.0251.0376/",
        "http://127.0.0.01/",
        "http://1.2.3.4.5/",
        "http://a.0x/",
        "http://[::1/",
        "http://[fe80::1%25eth0]/",
        "http://[v1.a]/",
        "http://[]/",
        "http://-a.com/",
        "http://a..b/",
        "http://.a/",
        "http://a../",
        "http://" + "a" * 64 + ".com/",
        "http://" + "a." * 130 + "com/",
        "http://example.com/" + "a" * MAX_URL_CHARACTERS,
    ],
)
def test_every_other_form_is_refused(url: str) -> None:
    with pytest.raises(UrlRefused):
        read(url)


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("https://user:SECRET@example.com/a.png?SECRET#SECRET", "https://example.com/a.png"),
        ("https://example.com?SECRET", "https://example.com"),
        ("data:image/png;base64,SECRET", "data:…"),
        ("//user:SECRET@example.com/a", "//example.com/a"),
        ("user:SECRET@example.com", "user:…"),
        ("http:///user:SECRET@example.com/a", "http://…"),
        ("http://user:SECRET#SECRET@example.com/a", "http://…"),
        ("http://exa mple.com/a", "http://…"),
        ("http://example.com/\r\nFORGED-41", "http://example.com/��FORGED-41"),
        ("not a url", "not�a�url"),
    ],
)
def test_it_is_shown_without_user_query_and_control_characters(url: str, what: str) -> None:
    assert shown(url) == what


@given(st.text(st.characters(codec="utf-8", exclude_characters="/"), max_size=50))
def test_a_refusal_never_names_query_or_password(secret: str) -> None:
    marked = "SECRET41" + secret
    for url in (f"http://exa mple/?{marked}", f"ftp://h/?{marked}", f"http://u:{marked}@h/"):
        with pytest.raises(UrlRefused) as caught:
            read(url)
        assert "SECRET41" not in str(caught.value) + repr(caught.value.numbers)


@given(st.text(st.characters(codec="utf-8"), max_size=3000))
def test_what_is_shown_is_short_and_printable(text: str) -> None:
    assert len(shown(text)) <= 200
    assert shown(text).replace("�", "").replace("…", "").isascii()
    assert shown(text).isprintable()
