"""The proof that a file is whole: no gap, the announced size, the announced digest, no more than was
planned."""

from __future__ import annotations

import hashlib

from upscaled._errors import BrokenStreamError
from upscaled.v1 import result_pb2

# How far beyond its own plan a server may go before it is called broken.
_SLACK_BYTES = 1 << 20


class FileCheck:
    """Follows the chunks of a file."""

    def __init__(self) -> None:
        self._size = 0
        self._digest = hashlib.sha256()
        self._bound: int | None = None

    def expect(self, plan: result_pb2.Plan) -> None:
        """What the server said of the file before it began."""
        if plan.max_output_bytes:
            self._bound = plan.max_output_bytes + _SLACK_BYTES

    def add(self, chunk: result_pb2.Chunk) -> None:
        """The next chunk. BrokenStreamError for a gap, or more than the plan allows."""
        if chunk.offset != self._size:
            raise BrokenStreamError(
                f"a chunk begins at byte {chunk.offset} where byte {self._size} was expected",
                metadata={"limit": self._size, "actual": chunk.offset},
            )
        data = chunk.data  # a copy, each time it is asked for
        self._digest.update(data)
        self._size += len(data)
        if self._bound is not None and self._size > self._bound:
            raise BrokenStreamError(
                f"the file is longer than the {self._bound - _SLACK_BYTES} bytes that were planned",
                metadata={"limit": self._bound - _SLACK_BYTES, "actual": self._size},
            )

    def finish(self, result: result_pb2.UpscaleResult) -> None:
        """BrokenStreamError if what came is not the file that the result names."""
        if not result.outputs:
            raise BrokenStreamError(
                "the answer ended without naming its output", request_id=result.request_id
            )
        output = result.outputs[0]
        if output.size_bytes != self._size:
            raise BrokenStreamError(
                f"{self._size} bytes arrived of a file of {output.size_bytes}",
                metadata={"limit": output.size_bytes, "actual": self._size},
                request_id=result.request_id,
            )
        if output.sha256 != self._digest.digest():
            raise BrokenStreamError(
                "the bytes that arrived do not have the announced SHA-256", request_id=result.request_id
            )


def check_inline(result: result_pb2.UpscaleResult) -> None:
    """The same for a file that came inside a unary answer."""
    check = FileCheck()
    if result.outputs:
        check.add(result_pb2.Chunk(data=result.outputs[0].data))
    check.finish(result)
