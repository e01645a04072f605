"""No URL that a stranger gives leads inside."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from dns_stub import PUBLIC_ADDRESS
from fetch_world import World
from origin import png

from upscaled_server.errors import DomainError, FetchFailed, ImageRejected, UrlRefused

LIMIT = 1 << 20


async def test_every_case_of_the_corpus_is_refused_but_its_controls(world: World, shared: Path) -> None:
    fetcher = world.fetcher()
    with (shared / "corpus" / "ssrf_cases.tsv").open(newline="") as file:
        cases = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    assert len(cases) > 40
    wrong = []
    for case in cases:
        url = case["url"].replace("{PUBLIC}", "http://public.test")
        try:
            await fetcher.fetch(url, max_bytes=LIMIT)
            outcome = "allow"
        except DomainError:
            outcome = "block"
        if outcome != case["expect"]:
            wrong.append((url, outcome, case["why"]))
    assert wrong == []
    assert world.canary.reached == 0
    assert set(world.internet.dialled) == {PUBLIC_ADDRESS}


async def test_a_name_that_changes_between_check_and_dial_is_dialled_where_it_was_checked(
    world: World,
) -> None:
    fetcher = world.fetcher()
    with pytest.raises(FetchFailed, match="404"):  # the public server, which knows no such host
        await fetcher.fetch("http://rebind.test/", max_bytes=LIMIT)
    assert world.names.asked["rebind.test"] == 1
    assert world.internet.dialled == [PUBLIC_ADDRESS]
    with pytest.raises(UrlRefused):
        await fetcher.fetch("http://rebind.test/", max_bytes=LIMIT)
    assert world.names.asked["rebind.test"] == 2
    assert world.internet.dialled == [PUBLIC_ADDRESS]


@pytest.mark.parametrize(
    "host",
    [
        "mixed.test",
        "mixed6.test",
        "metadata.test",
        "nat64-inside.test",
        "internal.test",
        "[64:ff9b::808:808]",
    ],
)
async def test_a_host_with_one_address_inside_is_refused_whole(world: World, host: str) -> None:
    with pytest.raises(UrlRefused, match="does not lead to a public address") as caught:
        await world.fetcher().fetch(f"http://{host}/ok.png", max_bytes=LIMIT)
    assert world.internet.dialled == []
    assert "10.0.0.1" not in str(caught.value)


@pytest.mark.parametrize("host", ["public6.test", "nat64.test"])
async def test_public_addresses_of_ipv6_and_of_nat64_are_dialled(world: World, host: str) -> None:
    assert await world.fetcher().fetch(f"http://{host}/ok.png", max_bytes=LIMIT) == png()


async def test_a_name_that_is_not_there_is_refused_like_one_that_leads_inside(world: World) -> None:
    with pytest.raises(UrlRefused) as missing:
        await world.fetcher().fetch("http://nowhere.test/", max_bytes=LIMIT)
    with pytest.raises(UrlRefused) as inside:
        await world.fetcher().fetch("http://internal.test/", max_bytes=LIMIT)
    assert str(missing.value).replace("nowhere", "internal") == str(inside.value)


@pytest.mark.parametrize("path", ["302-to-scheme-relative", "302-to-file", "302-to-user", "302-to-loopback"])
async def test_a_redirect_is_checked_like_any_url(world: World, path: str) -> None:
    with pytest.raises(UrlRefused) as caught:
        await world.fetcher().fetch(f"http://public.test/r/{path}", max_bytes=LIMIT)
    assert "SECRET41" not in str(caught.value) + repr(caught.value.numbers)
    assert world.internet.dialled == [PUBLIC_ADDRESS]


async def test_redirects_are_followed_as_often_as_is_allowed(world: World) -> None:
    fetcher = world.fetcher(fetch_max_redirects=3)
    assert await fetcher.fetch("http://public.test/r/chain-2", max_bytes=LIMIT) == png()
    with pytest.raises(FetchFailed, match="redirected too often"):
        await fetcher.fetch("http://public.test/r/chain-3", max_bytes=LIMIT)


async def test_a_relative_redirect_keeps_the_host_and_no_cookie_goes_along(world: World) -> None:
    assert (
        await world.fetcher().fetch("http://public.test/r/302-to-relative?SECRET41", max_bytes=LIMIT) == png()
    )
    lines = [line for line, _ in world.origin.asked]
    assert lines == ["GET /r/302-to-relative?SECRET41 HTTP/1.1", "GET /ok.png?a=%C3%BC%20b HTTP/1.1"]
    sent = world.origin.asked[1][1]
    assert sent["host"] == "public.test"
    assert not {"cookie", "authorization", "referer"} & set(sent)


async def test_a_port_that_is_not_allowed_is_refused_before_anything_is_asked(world: World) -> None:
    with pytest.raises(UrlRefused, match="port"):
        await world.fetcher().fetch("http://public.test:22/", max_bytes=LIMIT)
    assert not world.names.asked


async def test_what_the_operator_opens_is_fetched_and_nothing_beside_it(world: World) -> None:
    fetcher = world.fetcher(fetch_allow="internal.test:9000, 127.0.0.0/8:9000")
    for url in ("http://internal.test:9000/", "http://127.0.0.1:9000/", "http://rebind.test:9000/"):
        with pytest.raises((ImageRejected, UrlRefused)):
            await fetcher.fetch(url, max_bytes=LIMIT)
    # The name and the address reached the machine inside; the other name led outside, where 9000 is closed.
    assert world.internet.dialled == ["10.0.0.1", "127.0.0.1"]
    assert world.canary.reached == 2
    for url in (
        "http://internal.test/",
        "http://127.0.0.1/",
        "http://10.0.0.1:9000/",
        "http://public.test:9000/",
    ):
        with pytest.raises(UrlRefused):
            await fetcher.fetch(url, max_bytes=LIMIT)
    assert world.canary.reached == 2


async def test_a_dead_address_does_not_keep_from_the_next(world: World) -> None:
    world.internet.down.add("93.184.216.99")
    assert await world.fetcher().fetch("http://two.test/ok.png", max_bytes=LIMIT) == png()
    assert world.internet.dialled == ["93.184.216.99", PUBLIC_ADDRESS]
