"""What the settings of the cluster ask for is had, or refused with the setting's name."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import nats
import pytest
import trustme
from nats_credentials import make_credentials
from tests import nats_servers
from tests.nats_servers import NatsServer, programs, settings_for
from tests.ports import free_port

from upscaled_server.errors import FailedPrecondition, Overloaded, Unavailable
from upscaled_server.settings import Settings, SettingsError
from upscaled_server.state.nats.settings import ClusterSettings
from upscaled_server.state.nats.store import NatsStore
from upscaled_server.state.nats.streams import REPLICATING_SINCE


async def _works(settings: ClusterSettings) -> None:
    store = await NatsStore.open(settings)
    version = await store.create("a/b", b"1")
    assert [entry.version for entry in await store.range("a")] == [version]
    await store.aclose()


async def test_settings_change_the_bucket_that_is_there(nats_server: NatsServer) -> None:
    settings = settings_for([nats_server], cluster_max_state_bytes=64 << 20)
    await _works(settings)
    store = await NatsStore.open(settings.model_copy(update={"cluster_max_state_bytes": 128 << 20}))
    assert await store.get("a/b") is not None
    info = await store._connection.ask(lambda js: js.stream_info(store._subjects.stream))
    assert info.config.max_bytes == 128 << 20
    assert (info.config.name, info.config.max_msgs_per_subject) == (f"KV_{settings.cluster_prefix}-state", 1)
    await store.aclose()


async def test_many_replicas_may_start_at_once(nats_server: NatsServer) -> None:
    settings = settings_for([nats_server])
    stores = await asyncio.gather(*(NatsStore.open(settings) for _ in range(5)))
    await stores[0].create("a/b", b"")
    assert [len(await store.range("a")) for store in stores] == [1] * 5
    await asyncio.gather(*(store.aclose() for store in stores))


async def test_prefixes_share_nothing(nats_server: NatsServer) -> None:
    await _works(settings_for([nats_server], cluster_prefix="p-one"))
    await _works(settings_for([nats_server], cluster_prefix="p-two"))


async def test_more_replicas_than_nodes_are_refused(nats_server: NatsServer) -> None:
    with pytest.raises(FailedPrecondition, match=r"UPSCALED_CLUSTER_REPLICAS.* with 3 replicas"):
        await NatsStore.open(settings_for([nats_server], cluster_replicas=3))


@pytest.mark.parametrize("replicas", [1, 3])
async def test_a_server_that_replicates_wrongly_may_keep_one_replica(tmp_path: Path, replicas: int) -> None:
    old = {version: program for version, program in programs().items() if version < REPLICATING_SINCE}
    if not old:
        pytest.skip("no old nats-server is installed (Debian: apt-get install nats-server)")
    with nats_servers.nats_server(tmp_path, program=old[min(old)]) as server:
        settings = settings_for([server], cluster_replicas=replicas)
        if replicas == 1:
            await _works(settings)
        else:
            with pytest.raises(FailedPrecondition, match=r"UPSCALED_CLUSTER_REPLICAS: nats-server 2\.9"):
                await NatsStore.open(settings)


async def test_a_stream_of_somebody_else_is_refused(nats_server: NatsServer) -> None:
    settings = settings_for([nats_server])
    client = await nats.connect(nats_server.url)
    await client.jetstream().add_stream(name=f"KV_{settings.cluster_prefix}-state", subjects=["theirs.>"])
    with pytest.raises(FailedPrecondition, match=r"UPSCALED_CLUSTER_PREFIX: the stream .* is not one of"):
        await NatsStore.open(settings)
    await client.close()


async def test_a_newer_schema_is_refused(nats_server: NatsServer) -> None:
    settings = settings_for([nats_server])
    await _works(settings)
    client = await nats.connect(nats_server.url)
    subject = f"$KV.{settings.cluster_prefix}-state./schema"
    await client.jetstream().publish(subject, b'{"version": 2}')
    with pytest.raises(FailedPrecondition, match="schema 2; this version knows 1 to 1"):
        await NatsStore.open(settings)
    await client.close()


async def test_nats_s_own_tools_read_the_bucket(nats_server: NatsServer) -> None:
    settings = settings_for([nats_server])
    await _works(settings)
    client = await nats.connect(nats_server.url)
    bucket = await client.jetstream().key_value(f"{settings.cluster_prefix}-state")
    assert (await bucket.get("a.b")).value == b"1"
    await client.close()


async def test_used_up_storage_is_said_and_deletions_make_room(nats_server: NatsServer) -> None:
    store = await NatsStore.open(settings_for([nats_server], cluster_max_state_bytes=1 << 20))
    versions: list[int] = []
    with pytest.raises(Overloaded, match="UPSCALED_CLUSTER_MAX_STATE_BYTES"):
        for number in range(100):
            version = await store.create(f"a/{number}", bytes(100_000))
            versions += [version]
    assert 5 <= len(versions) <= 10
    assert len(await store.range("a")) == len(versions)
    await store.delete("a/0", versions[0])
    await store.create("a/again", bytes(50_000))
    await store.aclose()


async def test_a_small_max_payload_is_refused(tmp_path: Path) -> None:
    with (
        nats_servers.nats_server(tmp_path, config="max_payload: 100000") as server,
        pytest.raises(FailedPrecondition, match=r"max_payload .* is 100000 bytes"),
    ):
        await NatsStore.open(settings_for([server]))


async def test_nobody_there_is_said_with_the_setting_s_name() -> None:
    server = f"nats://127.0.0.1:{free_port()}"
    settings = ClusterSettings(cluster_url=server, cluster_timeout_seconds=1)
    with pytest.raises(Unavailable, match="UPSCALED_CLUSTER_URL: no connection to NATS at 127"):
        await NatsStore.open(settings)
    assert not [task for task in asyncio.all_tasks() if "nats" in task.get_name()]


async def test_a_password_is_used_and_never_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with nats_servers.nats_server(
        tmp_path, config="authorization { user: upscaled, password: PASSWORD-17 }"
    ) as server:
        url = f"nats://upscaled:PASSWORD-17@127.0.0.1:{server.port}"
        settings = settings_for([server], cluster_url=url, cluster_timeout_seconds=1)
        await _works(settings)
        with pytest.raises(Unavailable, match="Authorization") as refused:
            await NatsStore.open(settings.model_copy(update={"cluster_url": url.replace("17", "18")}))
    assert "PASSWORD" not in caplog.text
    assert "PASSWORD" not in f"{refused.value}{refused.value.numbers}{settings!r}"


async def test_a_credentials_file_is_used(tmp_path: Path) -> None:
    made = make_credentials()
    creds = tmp_path / "upscaled.creds"
    creds.write_text(made.creds)
    with nats_servers.nats_server(tmp_path / "server", config=made.config) as server:
        await _works(settings_for([server], cluster_credentials_file=creds))
        with pytest.raises(Unavailable, match="Authorization"):
            await NatsStore.open(settings_for([server], cluster_timeout_seconds=1))
        missing = tmp_path / "none"
        with pytest.raises(FailedPrecondition, match=r"UPSCALED_CLUSTER_CREDENTIALS_FILE: .* is not a file"):
            await NatsStore.open(settings_for([server], cluster_credentials_file=missing))


async def test_only_servers_whose_certificate_is_trusted_are_used(tmp_path: Path) -> None:
    ca, other = trustme.CA(), trustme.CA()
    for name, each in (("ca", ca), ("other", other)):
        each.cert_pem.write_to_path(str(tmp_path / f"{name}.pem"))
    certificate = ca.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    config = f'tls {{ cert_file: "{tmp_path}/cert.pem", key_file: "{tmp_path}/key.pem" }}'
    with nats_servers.nats_server(tmp_path / "server", config=config) as server:
        settings = settings_for(
            [server],
            cluster_url=f"tls://127.0.0.1:{server.port}",
            cluster_ca_file=tmp_path / "ca.pem",
            cluster_timeout_seconds=2,
        )
        await _works(settings)
        with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
            await NatsStore.open(settings.model_copy(update={"cluster_ca_file": tmp_path / "other.pem"}))
        with pytest.raises(FailedPrecondition, match="UPSCALED_CLUSTER_CA_FILE"):
            await NatsStore.open(settings.model_copy(update={"cluster_ca_file": tmp_path / "none.pem"}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CLUSTER_URL", "http://127.0.0.1"),
        ("CLUSTER_URL", "nats://a,"),
        ("CLUSTER_REPLICAS", "0"),
        ("CLUSTER_PREFIX", "a.b"),
        ("CLUSTER_MAX_STATE_BYTES", "1"),
    ],
)
def test_settings_that_can_never_work_are_refused(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"UPSCALED_{name}"):
        Settings([ClusterSettings], {f"UPSCALED_{name}": value})
