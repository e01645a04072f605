"""Who may call: keys are asked for before anything is read, end at once, and never show up in a log."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from tests.e2e.conftest import running_server
from tests.e2e.counting_proxy import counting_proxy
from tests.e2e.keyed import FAST, KeyedServer, bearer, keyed_server, picture
from upscaled import AuthenticationError, Client, OverloadedError, PermissionDeniedError, Progress
from upscaled.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    models_pb2,
    models_pb2_grpc,
    options_pb2,
    upscaler_pb2,
    upscaler_pb2_grpc,
)
from upscaled_server.access.keys import generate

UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeyedServer]:
    with keyed_server(tmp_path_factory.mktemp("keyed")) as keyed:
        keyed.make_key("first")
        yield keyed


@pytest.fixture(scope="module")
def key(keyed: KeyedServer) -> str:
    return keyed.make_key("anna")


def _list_models(address: str, metadata: tuple[tuple[str, str], ...] = ()) -> grpc.StatusCode:
    with grpc.insecure_channel(address) as channel:
        stub = models_pb2_grpc.ModelsStub(channel)
        try:
            stub.ListModels(models_pb2.ListModelsRequest(), metadata=metadata, timeout=20)
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


def test_the_client_calls_with_a_key_and_is_told_what_to_do_without(keyed: KeyedServer, key: str) -> None:
    with Client(keyed.address, api_key=key, timeout=60) as client:
        assert client.upscale(picture(16, 16), model=FAST).width == 64
        assert client.server_info().authentication_required
    for wrong in (None, generate()):
        with Client(keyed.address, api_key=wrong, timeout=20) as client:
            for call in (
                lambda client=client: client.upscale(picture(16, 16), model=FAST),
                lambda client=client: list(client.upscale_stream(picture(16, 16), model=FAST)),
                client.models.list,
                client.server_info,
            ):
                with pytest.raises(AuthenticationError, match="UPSCALED_API_KEY") as caught:
                    call()
                assert caught.value.code is UNAUTHENTICATED


def test_a_body_of_60_megabytes_is_not_read_for_a_wrong_key(keyed: KeyedServer, key: str) -> None:
    body = upscaler_pb2.UpscaleRequest(source=options_pb2.Source(image=bytes(60 << 20)))
    with counting_proxy(keyed.address) as proxy:
        options = [("grpc.max_send_message_length", 70 << 20)]
        sent = {}
        for name, presented in (("wrong", generate()), ("right", key)):
            with grpc.insecure_channel(proxy.address, options=options) as channel:
                before = proxy.sent
                with pytest.raises(grpc.RpcError) as caught:
                    upscaler_pb2_grpc.UpscalerStub(channel).Upscale(
                        body, metadata=bearer(presented), timeout=60
                    )
                sent[name] = (caught.value.code(), proxy.sent - before)
    assert sent["wrong"][0] is UNAUTHENTICATED
    # What the connection takes without anybody reading it: windows and buffers.
    assert sent["wrong"][1] < 8 << 20
    assert sent["right"] == (grpc.StatusCode.INVALID_ARGUMENT, sent["right"][1])
    assert sent["right"][1] > 60 << 20


def test_wrong_keys_are_refused_and_throttled_and_right_ones_are_not(tmp_path: Path) -> None:
    with keyed_server(tmp_path, UPSCALED_WRONG_KEYS_PER_SECOND="40") as keyed:
        key = keyed.make_key("anna")
        other = "A" if key[-1] != "A" else "B"
        wrong = [key[:-1] + other if number % 2 else generate() for number in range(400)]
        codes: Counter[grpc.StatusCode] = Counter()
        with grpc.insecure_channel(keyed.address) as channel:
            stub = models_pb2_grpc.ModelsStub(channel)

            def guess(presented: str) -> None:
                with pytest.raises(grpc.RpcError) as caught:
                    stub.ListModels(models_pb2.ListModelsRequest(), metadata=bearer(presented), timeout=30)
                codes[caught.value.code()] += 1

            began = time.monotonic()
            with ThreadPoolExecutor(30) as guessers:
                done = guessers.map(guess, wrong)
                # From the same address, over the same connection, while the others are held back.
                for _ in range(20):
                    stub.ListModels(models_pb2.ListModelsRequest(), metadata=bearer(key), timeout=30)
                list(done)
            seconds = time.monotonic() - began
        assert codes == {UNAUTHENTICATED: 400}
        # 200 at once, the others at 40 per second: a slow machine only takes longer.
        assert seconds > (400 - 200) / 40 * 0.9
        said = keyed.log.read_text()
        assert "calls without a valid key" in said
        assert not [each for each in [*wrong, key] if each[16:] in said]
        assert len(said.splitlines()) < 1500


def test_guessers_beyond_those_that_wait_are_refused_with_the_time_to_come_back(tmp_path: Path) -> None:
    with keyed_server(tmp_path, UPSCALED_WRONG_KEYS_PER_SECOND="1") as keyed:
        keyed.make_key("anna")
        with ThreadPoolExecutor(20) as guessers:
            codes = Counter(
                guessers.map(lambda _: _list_models(keyed.address, bearer(generate())), range(40))
            )
        assert set(codes) == {UNAUTHENTICATED, grpc.StatusCode.RESOURCE_EXHAUSTED}
        assert codes[UNAUTHENTICATED] >= 5


def test_probes_need_no_key_and_reflection_does(keyed: KeyedServer) -> None:
    with grpc.insecure_channel(keyed.address) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as caught:
            list(ProtoReflectionDescriptorDatabase(channel).get_services())
        assert caught.value.code() is UNAUTHENTICATED


@pytest.mark.parametrize(
    "metadata",
    [
        (),
        (("authorization", ""),),
        (("authorization", "Basic YTpi"),),
        (("authorization", "Bearer"),),
        (("authorization", "Bearer " + "x" * 4000),),
        (("authorization", f"Bearer {generate()}"), ("authorization", f"Bearer {generate()}")),
    ],
)
def test_what_is_no_key_is_no_way_in(keyed: KeyedServer, metadata: tuple[tuple[str, str], ...]) -> None:
    assert _list_models(keyed.address, metadata) is UNAUTHENTICATED


def test_a_right_key_beside_a_second_one_is_no_way_in(keyed: KeyedServer, key: str) -> None:
    assert _list_models(keyed.address, bearer(key) + bearer(generate())) is UNAUTHENTICATED
    assert _list_models(keyed.address, bearer(key)) is grpc.StatusCode.OK


def test_the_first_key_closes_an_open_server_without_a_restart(tmp_path: Path) -> None:
    with keyed_server(tmp_path) as keyed:
        assert _list_models(keyed.address) is grpc.StatusCode.OK
        key = keyed.make_key("anna")
        assert _list_models(keyed.address) is UNAUTHENTICATED
        assert _list_models(keyed.address, bearer(key)) is grpc.StatusCode.OK


def test_a_revoked_key_ends_at_once_and_so_do_its_calls(keyed: KeyedServer) -> None:
    key = keyed.make_key("carl")
    with Client(keyed.address, api_key=key, timeout=600) as client:
        stream = client.upscale_stream(picture(1200, 900), model=FAST, omit_file=True)
        for event in stream:
            if isinstance(event, Progress) and event.rows_done:
                break
        keyed.admin.RevokeKey(admin_pb2.RevokeKeyRequest(key_id=key[:16]), timeout=10)
        # Nothing is waited for: the next call is refused, and the running one ends before its image.
        assert _list_models(keyed.address, bearer(key)) is UNAUTHENTICATED
        with pytest.raises(AuthenticationError, match="revoked during the call"):
            list(stream)


def test_keys_survive_a_restart_and_so_does_their_end(tmp_path: Path) -> None:
    with keyed_server(tmp_path) as keyed:
        anna, ben = keyed.make_key("anna"), keyed.make_key("ben")
        keyed.admin.RevokeKey(admin_pb2.RevokeKeyRequest(key_id=ben[:16]), timeout=10)
        keyed.server.process.kill()
        keyed.server.process.wait(30)
    with keyed_server(tmp_path) as keyed:
        assert _list_models(keyed.address, bearer(anna)) is grpc.StatusCode.OK
        assert _list_models(keyed.address, bearer(ben)) is UNAUTHENTICATED
        assert _list_models(keyed.address) is UNAUTHENTICATED


def test_a_rotated_key_works_on_for_the_overlap(keyed: KeyedServer) -> None:
    old = keyed.make_key("rita")
    rotate = keyed.admin.RotateKey
    new = rotate(admin_pb2.RotateKeyRequest(key_id=old[:16]), timeout=10).secret
    assert _list_models(keyed.address, bearer(old)) is grpc.StatusCode.OK
    assert _list_models(keyed.address, bearer(new)) is grpc.StatusCode.OK
    newest = rotate(admin_pb2.RotateKeyRequest(key_id=new[:16], overlap=Duration()), timeout=10).secret
    assert _list_models(keyed.address, bearer(new)) is UNAUTHENTICATED
    assert _list_models(keyed.address, bearer(newest)) is grpc.StatusCode.OK


def test_only_an_admin_key_administers_over_the_network(keyed: KeyedServer, key: str) -> None:
    admin_key = keyed.make_key("ops", admin=True)
    with grpc.insecure_channel(keyed.address) as channel:
        stub = admin_pb2_grpc.AdminStub(channel)
        listed = stub.ListKeys(admin_pb2.ListKeysRequest(), metadata=bearer(admin_key), timeout=10)
        assert {"anna", "ops"} <= {each.caller for each in listed.keys}
        with pytest.raises(grpc.RpcError) as caught:
            stub.ListKeys(admin_pb2.ListKeysRequest(), metadata=bearer(key), timeout=10)
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert "--admin" in caught.value.details()


def test_an_open_server_on_loopback_lets_nobody_administer_it_over_the_network(tmp_path: Path) -> None:
    with keyed_server(tmp_path) as keyed, grpc.insecure_channel(keyed.address) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            admin_pb2_grpc.AdminStub(channel).CreateCaller(
                admin_pb2.CreateCallerRequest(caller=admin_pb2.Caller(name="eve")), timeout=10
            )
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_models_are_loaded_and_unloaded_by_name_or_alias(keyed: KeyedServer) -> None:
    loaded = keyed.admin.LoadModel(admin_pb2.LoadModelRequest(model="realesr-animevideov3"), timeout=60)
    assert loaded.device_ids
    unloaded = keyed.admin.UnloadModel(admin_pb2.UnloadModelRequest(model=FAST), timeout=60)
    assert unloaded.device_ids == loaded.device_ids
    with pytest.raises(grpc.RpcError) as caught:
        keyed.admin.LoadModel(admin_pb2.LoadModelRequest(model="nosuch"), timeout=60)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_second_call_above_the_callers_share_is_refused_at_once_and_others_go_on(
    keyed: KeyedServer, key: str
) -> None:
    one = keyed.make_key("one-at-a-time", max_concurrent=1)
    with (
        Client(keyed.address, api_key=one, timeout=60, retries=0) as client,
        Client(keyed.address, api_key=key, timeout=60) as other,
    ):
        assert client.server_info().limits.max_concurrent == 1
        stream = client.upscale_stream(picture(600, 600), model=FAST, omit_file=True)
        next(stream)
        with pytest.raises(Exception, match="one-at-a-time has 1 calls going on") as caught:
            client.upscale(picture(16, 16), model=FAST)
        assert caught.value.retry_after == 1.0  # type: ignore[attr-defined]
        assert other.upscale(picture(16, 16), model=FAST).width == 64
        stream.close()
        # The place is free again as soon as the call has ended on the server.
        ended = threading.Event()
        for _ in range(200):
            try:
                assert client.upscale(picture(16, 16), model=FAST).width == 64
                return
            except Exception:
                ended.wait(0.05)
        pytest.fail("the place was never given back")


def test_limits_of_a_caller_hold_for_what_is_asked(keyed: KeyedServer) -> None:
    small = keyed.make_key(
        "small",
        max_input_pixels=1024,
        allowed_models=[FAST],
        max_priority=options_pb2.PRIORITY_BATCH,
    )
    with Client(keyed.address, api_key=small, timeout=60, retries=0) as client:
        assert client.server_info().limits.max_input_pixels == 1024
        result = client.upscale(picture(32, 32), model=FAST)
        assert result.settings.priority == "batch"
        with pytest.raises(Exception, match="1024"):
            client.upscale(picture(33, 32), model=FAST)
        with pytest.raises(PermissionDeniedError, match=f"small may use: {FAST}"):
            client.upscale(picture(16, 16))
        with pytest.raises(PermissionDeniedError, match="PRIORITY_BATCH"):
            client.upscale(picture(16, 16), model=FAST, priority="interactive")


def test_requests_above_the_rate_are_refused_with_the_time_to_come_back(keyed: KeyedServer) -> None:
    slow = keyed.make_key("slow", max_requests_per_second=0.1)
    assert _list_models(keyed.address, bearer(slow)) is grpc.StatusCode.OK
    assert _list_models(keyed.address, bearer(slow)) is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_where_something_in_front_decides_calls_need_no_key(tmp_path: Path) -> None:
    with keyed_server(tmp_path, UPSCALED_AUTH="none") as keyed:
        keyed.make_key("anna")
        assert _list_models(keyed.address) is grpc.StatusCode.OK
        assert _list_models(keyed.address, bearer("eyJhbGciOiJSUzI1NiJ9.x.y")) is grpc.StatusCode.OK
        assert _list_models(keyed.address, bearer(generate())) is UNAUTHENTICATED


def test_no_key_is_in_any_log(keyed: KeyedServer, key: str) -> None:
    near = key[:-3] + "zzz"
    for presented in (key, near):
        _list_models(keyed.address, bearer(presented))
        _list_models(keyed.address, (("authorization", presented),))
    for call, request in (
        (keyed.admin.RevokeKey, admin_pb2.RevokeKeyRequest(key_id=key)),
        (keyed.admin.GetCaller, admin_pb2.GetCallerRequest(caller=key)),
        (keyed.admin.CreateCaller, admin_pb2.CreateCallerRequest(caller=admin_pb2.Caller(name=key))),
        (keyed.admin.LoadModel, admin_pb2.LoadModelRequest(model=key)),
    ):
        with pytest.raises(grpc.RpcError):
            call(request, timeout=10)
    said = keyed.log.read_text()
    assert "CreateKey by admin.sock: caller=anna" in said
    assert key[17:40] not in said


def test_keys_are_read_from_a_file_and_again_when_it_changes(tmp_path: Path) -> None:
    first, second = generate(), generate()
    file = tmp_path / "keys.yaml"
    file.write_text(f"anna:\n  keys: [{first}]\n  max_concurrent: 3\n")
    with running_server(UPSCALED_API_KEYS_FILE=str(file)) as server:
        with Client(server.address, api_key=first) as client:
            assert client.server_info().limits.max_concurrent == 3
        assert _list_models(server.address) is UNAUTHENTICATED
        replacement = tmp_path / "new.yaml"
        replacement.write_text(f"anna:\n  keys: [{second}]\n")
        replacement.replace(file)
        for _ in range(100):
            if _list_models(server.address, bearer(second)) is grpc.StatusCode.OK:
                break
            threading.Event().wait(0.1)
        assert _list_models(server.address, bearer(second)) is grpc.StatusCode.OK
        assert _list_models(server.address, bearer(first)) is UNAUTHENTICATED


def test_a_client_in_the_middle_of_an_upload_is_told_that_its_key_is_wrong(keyed: KeyedServer) -> None:
    # More than the connection takes unread, so that a write always meets the end of the call.
    body = bytes(20 << 20)
    with Client(keyed.address, api_key=generate(), timeout=20, retries=0) as client:
        for _ in range(5):
            with pytest.raises(AuthenticationError):
                list(client.upscale_stream(body, model=FAST))


def test_a_client_in_the_middle_of_an_upload_is_told_that_it_is_at_its_limit(keyed: KeyedServer) -> None:
    slow = keyed.make_key("slow-stream", max_requests_per_second=0.1)
    with Client(keyed.address, api_key=slow, timeout=20, retries=0) as client:
        client.server_info()
        with pytest.raises(OverloadedError, match="requests per second"):
            list(client.upscale_stream(bytes(20 << 20), model=FAST))
