"""A file is handed out only when its size, its digest and the server's own plan agree."""

from __future__ import annotations

import hashlib

import pytest

from upscaled import BrokenStreamError
from upscaled._aio.proof import FileCheck, check_inline
from upscaled.v1 import result_pb2


def _result(data: bytes, *, size: int | None = None, digest: bytes | None = None) -> result_pb2.UpscaleResult:
    output = result_pb2.Output(
        data=data,
        size_bytes=len(data) if size is None else size,
        sha256=hashlib.sha256(data).digest() if digest is None else digest,
    )
    return result_pb2.UpscaleResult(outputs=[output])


def test_a_unary_answer_is_proven_like_a_stream() -> None:
    check_inline(_result(b"the file"))


@pytest.mark.parametrize(
    "answer",
    [
        _result(b"the file", size=9),
        _result(b"the file", digest=bytes(32)),
        result_pb2.UpscaleResult(),
    ],
)
def test_a_unary_answer_that_is_not_what_it_says_is_broken(answer: result_pb2.UpscaleResult) -> None:
    with pytest.raises(BrokenStreamError):
        check_inline(answer)


def test_a_server_that_sends_more_than_it_planned_is_cut_off() -> None:
    check = FileCheck()
    check.expect(result_pb2.Plan(max_output_bytes=1000))
    chunk = bytes(1 << 20)
    check.add(result_pb2.Chunk(offset=0, data=chunk))
    with pytest.raises(BrokenStreamError, match="1000 bytes that were planned"):
        check.add(result_pb2.Chunk(offset=len(chunk), data=chunk))


def test_a_gap_is_broken() -> None:
    check = FileCheck()
    check.add(result_pb2.Chunk(offset=0, data=b"ab"))
    with pytest.raises(BrokenStreamError, match="byte 2 was expected"):
        check.add(result_pb2.Chunk(offset=3, data=b"c"))
