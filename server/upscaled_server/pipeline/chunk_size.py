"""How large the next chunk of a file is: small for who reads slowly, larger for who keeps up."""

from __future__ import annotations

# Of a chunk that waits for its reader there are three copies by the time that it is in gRPC's hands.
MIN_CHUNK_BYTES = 256 << 10
# What a chunk costs beside its bytes is a third of a millisecond, in the server and in the client together.
MAX_CHUNK_BYTES = 1 << 20

_AT_ONCE_SECONDS = 0.02


class ChunkSize:
    """`bytes` of the next one: twice as many after each chunk that was taken at once, and the least after one
    that was not. So a reader that never kept up holds little, and one that stops reading does not hold
    more than one of the largest."""

    def __init__(self) -> None:
        self.bytes = MIN_CHUNK_BYTES

    def taken_after(self, seconds: float) -> None:
        """The reader asks for what follows, so long after it was given a chunk."""
        self.bytes = min(2 * self.bytes, MAX_CHUNK_BYTES) if seconds <= _AT_ONCE_SECONDS else MIN_CHUNK_BYTES
