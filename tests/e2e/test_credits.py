"""Every answer says what was charged and what is left; nobody pays twice, or for what was not delivered."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from tests.e2e.keyed import FAST, KeyedServer, bearer, keyed_server, picture
from upscaled.v1 import (
    account_pb2,
    account_pb2_grpc,
    admin_pb2,
    options_pb2,
    result_pb2,
    upscaler_pb2,
    upscaler_pb2_grpc,
)

# 1 and 1 per megapixel: 64x64 makes 256x256.
PRICES = "default=1+1"
SMALL, SMALL_COSTS = picture(64, 64), 1.0655
LARGE, LARGE_COSTS = picture(640, 480), 1 + 2560 * 1920 / 1e6
SECONDS = 120


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeyedServer]:
    with keyed_server(tmp_path_factory.mktemp("credits"), UPSCALED_PRICES=PRICES) as keyed:
        yield keyed


class Account:
    """A caller of its own, and what it asks for."""

    def __init__(self, keyed: KeyedServer, name: str, credits_monthly: float) -> None:
        self._metadata = bearer(keyed.make_key(name, monthly_credits=credits_monthly))
        self._channel = grpc.insecure_channel(
            keyed.address, options=[("grpc.max_receive_message_length", -1)]
        )
        self.stub = upscaler_pb2_grpc.UpscalerStub(self._channel)

    def __enter__(self) -> Account:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def upscale(
        self, image: bytes = SMALL, *, request_id: str = "", validate_only: bool = False, **options: object
    ) -> result_pb2.UpscaleResult:
        request = upscaler_pb2.UpscaleRequest(
            source=options_pb2.Source(image=image),
            options=options_pb2.UpscaleOptions(model=FAST, **options),  # type: ignore[arg-type]
            request_id=request_id,
            validate_only=validate_only,
        )
        return self.stub.Upscale(request, metadata=self._metadata, timeout=SECONDS)

    def stream(
        self, image: bytes, *, tiles: bool = True, **options: object
    ) -> grpc.CallIterator[result_pb2.UpscaleEvent]:  # type: ignore[name-defined]
        request = upscaler_pb2.UpscaleTilesRequest(
            source=options_pb2.Source(image=image),
            options=options_pb2.UpscaleOptions(
                model=FAST,
                tiles=options_pb2.TileOptions(enabled=tiles, size=256),
                **options,  # type: ignore[arg-type]
            ),
        )
        return self.stub.UpscaleTiles(request, metadata=self._metadata, timeout=SECONDS)

    def usage(self) -> account_pb2.Usage:
        stub = account_pb2_grpc.AccountStub(self._channel)
        return stub.GetUsage(account_pb2.GetUsageRequest(), metadata=self._metadata, timeout=SECONDS)

    @property
    def left(self) -> float:
        return self.upscale(validate_only=True).credits.remaining


def test_answers_say_what_was_charged_and_what_is_left(keyed: KeyedServer) -> None:
    with Account(keyed, "answers", 10) as account:
        asked = account.upscale(validate_only=True)
        assert (asked.plan.estimated_credits, asked.credits.charged, asked.credits.remaining) == (
            SMALL_COSTS,
            0,
            10,
        )
        made = account.upscale()
        assert made.plan.estimated_credits == SMALL_COSTS
        assert (made.credits.charged, round(made.credits.remaining, 4)) == (SMALL_COSTS, 8.9345)
        *_, last = account.stream(SMALL)
        assert (last.done.credits.charged, round(last.done.credits.remaining, 4)) == (SMALL_COSTS, 7.869)


def test_usage_is_the_sum_of_what_was_charged(keyed: KeyedServer) -> None:
    with Account(keyed, "counter", 10) as account:
        charged = [account.upscale().credits.charged for _ in range(2)]
        usage = account.usage()
        assert (usage.credits_used, usage.credits_monthly) == (sum(charged), 10)
        assert round(usage.credits_remaining, 4) == round(10 - sum(charged), 4)
        (model,) = usage.models
        assert (model.model, model.requests, model.output_megapixels) == (FAST, 2, 2 * 256 * 256 / 1e6)
        stored = account.upscale(delivery=options_pb2.DELIVERY_URL)
        assert account.usage().stored_bytes == stored.outputs[0].size_bytes


def test_a_call_that_is_tried_again_is_charged_once(keyed: KeyedServer) -> None:
    with Account(keyed, "retries", SMALL_COSTS) as account:
        answers = [account.upscale(request_id="again") for _ in range(3)]
        assert [answer.credits.charged for answer in answers] == [SMALL_COSTS] * 3
        assert [answer.credits.remaining for answer in answers] == [0, 0, 0]
        # The same id for another image is other work.
        with pytest.raises(grpc.RpcError) as caught:
            account.upscale(picture(65, 64), request_id="again")
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_running_out_is_a_quota_failure_with_its_numbers(keyed: KeyedServer) -> None:
    with Account(keyed, "poor", 1.5) as account:
        account.upscale()
        with pytest.raises(grpc.RpcError) as caught:
            account.upscale()
    status = rpc_status.from_call(caught.value)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    details = {detail.TypeName().rpartition(".")[2]: detail for detail in status.details}
    assert set(details) == {"ErrorInfo", "QuotaFailure"}
    quota, info = error_details_pb2.QuotaFailure(), error_details_pb2.ErrorInfo()
    details["QuotaFailure"].Unpack(quota)
    details["ErrorInfo"].Unpack(info)
    assert quota.violations[0].subject == "caller:poor"
    assert info.reason == "QUOTA_EXCEEDED"
    assert (info.metadata["asked"], info.metadata["left"]) == ("1.0655", "0.4345")


def test_a_stream_that_is_cut_off_is_charged_its_share(keyed: KeyedServer) -> None:
    with Account(keyed, "leaver", 100) as account:
        events = account.stream(LARGE)
        tiles = 0
        for event in events:
            tiles += event.WhichOneof("event") == "tile"
            if tiles == 12:
                break
        events.cancel()
        charged = _charged(account, 100)
        assert LARGE_COSTS * 8 * 256 * 256 / (2560 * 1920) <= charged < LARGE_COSTS


def test_a_call_that_ends_before_its_answer_is_charged_nothing(keyed: KeyedServer) -> None:
    with Account(keyed, "hasty", 100) as account:
        call = account.stub.Upscale.future(
            upscaler_pb2.UpscaleRequest(
                source=options_pb2.Source(image=LARGE), options=options_pb2.UpscaleOptions(model=FAST)
            ),
            metadata=account._metadata,
            timeout=0.5,
        )
        with pytest.raises(grpc.RpcError) as caught:
            call.result()
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        account.upscale()
        assert round(account.left, 4) == round(100 - SMALL_COSTS, 4)


def test_the_ledger_outlives_the_server(tmp_path: Path) -> None:
    with keyed_server(tmp_path, UPSCALED_PRICES=PRICES) as keyed, Account(keyed, "stays", 10) as account:
        account.upscale()
        metadata = account._metadata
    with (
        keyed_server(tmp_path, UPSCALED_PRICES=PRICES) as keyed,
        grpc.insecure_channel(keyed.address) as channel,
    ):
        request = upscaler_pb2.UpscaleRequest(
            source=options_pb2.Source(image=SMALL),
            options=options_pb2.UpscaleOptions(model=FAST),
            validate_only=True,
        )
        answer = upscaler_pb2_grpc.UpscalerStub(channel).Upscale(request, metadata=metadata, timeout=SECONDS)
        assert round(answer.credits.remaining, 4) == 8.9345


def test_a_stored_output_has_an_id_and_no_bytes_and_can_be_enlarged_again(keyed: KeyedServer) -> None:
    with Account(keyed, "keeper", 100) as account:
        stored = account.upscale(delivery=options_pb2.DELIVERY_URL, labels={"order": "7"})
        (output,) = stored.outputs
        inline = account.upscale().outputs[0].data
        assert (output.data, output.size_bytes) == (b"", len(inline))
        assert output.sha256 == hashlib.sha256(inline).digest()
        assert output.file_name == f"upscaled-{output.id.lower()}.png"
        assert output.expire_time.ToSeconds() > time.time()
        request = upscaler_pb2.UpscaleRequest(
            source=options_pb2.Source(output_id=output.id), options=options_pb2.UpscaleOptions(model=FAST)
        )
        again = account.stub.Upscale(request, metadata=account._metadata, timeout=SECONDS)
        assert (again.outputs[0].width, again.outputs[0].height) == (1024, 1024)


def test_a_stored_output_that_is_cut_off_leaves_nothing_and_costs_nothing(keyed: KeyedServer) -> None:
    with Account(keyed, "quitter", 100) as account:
        events = account.stream(LARGE, tiles=False, delivery=options_pb2.DELIVERY_URL)
        for event in events:
            if event.progress.rows_done:
                break
        events.cancel()
        account.upscale()
        assert round(account.left, 4) == round(100 - SMALL_COSTS, 4)
        assert account.usage().stored_bytes == 0


def test_who_is_deleted_stores_nothing_any_more_but_has_used_what_was_used(keyed: KeyedServer) -> None:
    with Account(keyed, "gone", 10) as account:
        account.upscale(delivery=options_pb2.DELIVERY_URL)
        assert account.usage().stored_bytes > 0
    keyed.admin.DeleteCaller(admin_pb2.DeleteCallerRequest(caller="gone"), timeout=10)
    with Account(keyed, "gone", 10) as account:
        usage = account.usage()
        assert (usage.stored_bytes, usage.credits_used) == (0, SMALL_COSTS)


def _charged(account: Account, before: float) -> float:
    """What has been charged, once it is: the server notices a moment later that somebody left."""
    until = time.monotonic() + 30
    while (left := account.left) == before:
        assert time.monotonic() < until, "nothing was charged"
        time.sleep(0.05)
    return before - left
