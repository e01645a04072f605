"""The address is dialled by number, and TLS still proves the name."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from dns_stub import PUBLIC_ADDRESS, ZONE
from fetch_world import World
from internet import Canary, Internet
from origin import OriginServer, png

from upscaled_server.errors import FetchFailed

CERTIFICATES = Path(__file__).parents[1] / "client" / "certificates"
LIMIT = 1 << 20


@dataclass
class Secure:
    """The public server over TLS, with a certificate for `localhost`; `asked_for` holds the names in SNI."""

    origin: OriginServer
    asked_for: list[str | None] = field(default_factory=list)


@pytest.fixture
async def secure(world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Secure]:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATES / "server.pem"))
    monkeypatch.setitem(ZONE, "localhost", [[PUBLIC_ADDRESS]])
    secure = Secure(OriginServer())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATES / "server.pem", CERTIFICATES / "server.key")
    context.sni_callback = lambda _socket, name, _context: secure.asked_for.append(name)
    world.internet = Internet(0, 0, tls_port=await secure.origin.start(context))
    yield secure
    await secure.origin.stop()


async def test_the_name_is_asked_for_and_proven_at_the_address_that_was_checked(
    world: World, secure: Secure
) -> None:
    assert await world.fetcher().fetch("https://localhost/ok.png", max_bytes=LIMIT) == png()
    assert world.internet.dialled == [PUBLIC_ADDRESS]
    assert secure.asked_for == ["localhost"]
    assert secure.origin.asked[0][1]["host"] == "localhost"


async def test_a_certificate_for_another_name_is_refused(world: World, secure: Secure) -> None:
    with pytest.raises(FetchFailed, match=r"certificate: .*public\.test"):
        await world.fetcher().fetch("https://public.test/ok.png?SECRET41", max_bytes=LIMIT)
    assert secure.origin.asked == []


async def test_what_is_no_tls_is_refused(world: World) -> None:
    chatty = Canary()
    world.internet = Internet(0, 0, tls_port=await chatty.start())
    with pytest.raises(FetchFailed, match=r"cannot be connected to \(TLS\)"):
        await world.fetcher().fetch("https://public.test/ok.png", max_bytes=LIMIT)
    await chatty.stop()
