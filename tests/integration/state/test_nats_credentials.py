"""Files of credentials that a real NATS accepts, and such as nobody can use."""

from __future__ import annotations

import asyncio
import socket
import struct
from pathlib import Path

import pytest
from nats_credentials import USER, Key, creds_of, make_credentials
from nats_work import increment, until_it_answers
from tests import nats_servers
from tests.nats_servers import settings_for

from upscaled_server.errors import FailedPrecondition, Unavailable
from upscaled_server.state.nats.credentials import UserCredentials
from upscaled_server.state.nats.settings import ClusterSettings
from upscaled_server.state.nats.store import NatsStore

SEED = Key(USER).seed


async def test_a_user_is_who_its_credentials_say(tmp_path: Path) -> None:
    made, other = make_credentials(), make_credentials()
    path = tmp_path / "upscaled.creds"
    path.write_text(made.creds)
    with nats_servers.nats_server(tmp_path / "server", config=made.config) as server:
        settings = settings_for([server], cluster_credentials_file=path, cluster_timeout_seconds=1)
        store = await NatsStore.open(settings)
        assert await increment(store, "a") == 1
        await store.aclose()
        path.write_text(other.creds)  # whom this server has never heard of
        with pytest.raises(Unavailable, match="Authorization"):
            await NatsStore.open(settings)


async def test_what_nats_said_is_told_and_not_that_it_then_hung_up() -> None:
    greeted = 0

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal greeted
        greeted += 1
        if greeted == 1:
            writer.write(b'INFO {"max_payload": 8388608}\r\n')
            await reader.readline()
            writer.write(b"-ERR 'Authorization Violation'\r\n")
            await writer.drain()
        else:  # with RST
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        settings = ClusterSettings(cluster_url=f"nats://127.0.0.1:{port}", cluster_timeout_seconds=2)
        with pytest.raises(Unavailable, match="within 2 s: nats: 'Authorization Violation'"):
            await NatsStore.open(settings)
    assert greeted > 1


async def test_credentials_that_are_replaced_are_used_from_the_next_connection_on(tmp_path: Path) -> None:
    made = make_credentials()
    path = tmp_path / "upscaled.creds"
    path.write_text(made.creds)
    with nats_servers.nats_server(tmp_path / "server", config=made.config) as server:
        store = await NatsStore.open(settings_for([server], cluster_credentials_file=path))
        assert await increment(store, "a") == 1
        path.write_text("being written")
        server.kill()
        server.start()
        await asyncio.sleep(1.5)  # it has tried meanwhile, in vain
        with pytest.raises(Unavailable):
            await store.create("b", b"")
        path.write_text(made.creds)
        await until_it_answers(store)
        assert await increment(store, "a") == 1
        await store.aclose()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a user's JWT is not in"),
        (creds_of("a.b.c", ""), "the seed of a user's key is not in"),
        (creds_of("", SEED), "a user's JWT is not in"),
        (
            creds_of("a.b.c", SEED[:20] + ("A" if SEED[20] != "A" else "B") + SEED[21:]),
            "has a wrong checksum",
        ),
        (creds_of("a.b.c", Key(0).seed), "is not of a user's key"),
        (creds_of("a.b.c", SEED[:40]), "has 25 bytes, not 36"),
        (creds_of("a.b.c", SEED[:-1] + "1"), "is not in base 32"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_without_a_word_of_what_is_in_it(
    tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "upscaled.creds"
    path.write_text(text)
    with pytest.raises(FailedPrecondition, match="UPSCALED_CLUSTER_CREDENTIALS_FILE: ") as refused:
        UserCredentials.read(path)
    assert said in refused.value.message
    assert SEED[4:20] not in f"{refused.value}{refused.value.numbers}"


def test_a_key_is_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "upscaled.creds"
    path.write_text(creds_of("a.b.c", SEED))
    assert "key" not in repr(UserCredentials.read(path))
