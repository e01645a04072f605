"""Outputs of calls that are stored: their ids, how long they are kept, and the addresses that serve them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from google.protobuf.timestamp_pb2 import Timestamp

from upscaled.v1 import result_pb2
from upscaled_server.pipeline.request import Delivery, Request
from upscaled_server.pipeline.storing import Outputs, Target
from upscaled_server.state.ulid import new_ulid

Sign = Callable[[str, float], tuple[str, float]]
"""From the id of an output and when it is deleted to a URL and when that stops working, both times in seconds
since 1970."""


@dataclass(frozen=True, slots=True)
class StoredOutputs:
    """Where calls that ask for DELIVERY_URL store their files."""

    outputs: Outputs
    sign: Sign
    retention_seconds: float
    clock: Callable[[], float] = time.time

    def target_of(self, request: Request) -> Target | None:
        """The output that a request is to make; None where nothing is stored."""
        options = request.options
        if options.delivery is not Delivery.URL or options.omit_file or request.validate_only:
            return None
        return Target(new_ulid(), self.clock() + self.retention_seconds)

    def add_address(self, result: result_pb2.UpscaleResult, target: Target | None) -> None:
        """Say in a result where its file is, if it was stored."""
        if target is not None:
            add_address(result, target.output_id, target.expires_at, self.sign)


def add_address(result: result_pb2.UpscaleResult, output_id: str, expires_at: float, sign: Sign) -> None:
    """Say in a result where its file is, if it has one."""
    for output in result.outputs:
        output.id = output_id
        output.url, until = sign(output_id, expires_at)
        output.url_expire_time.CopyFrom(_timestamp(until))
        output.expire_time.CopyFrom(_timestamp(expires_at))


def _timestamp(seconds: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromMicroseconds(round(seconds * 1e6))
    return stamp
