"""What one decode, and all decodes together, may use."""

from __future__ import annotations

import os
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """Bounds of one decode. Beyond any of them the image is refused with `LimitExceeded`."""

    max_pixels: int = 50_000_000
    """Width times height of the first frame, read from the header before pixels are decoded."""
    memory_bytes: int = 1536 << 20
    """Address space the decode may add to that of the bare codec process (about 16 bytes a pixel for
    WebP)."""
    cpu_seconds: int = 30
    """Processor time of the whole decode, conversion to rows included."""
    wall_seconds: float = 60.0
    """How long the server waits for the decoder, summed. Time in which the decoder waits for the reader of
    the rows does not count."""
    idle_seconds: float = 3600.0
    """A decoder whose rows nobody reads for this long ends by itself."""


@dataclass(frozen=True, slots=True)
class CodecSettings:
    """Bounds of all decodes together. Those above wait their turn, first come first served."""

    parallel_decodes: int = field(default_factory=lambda: max(2, os.cpu_count() or 1))
    """Headers read and images decoded at a time (not counting decoded images whose rows are being read)."""
    open_images: int = 256
    """Decoder processes alive at a time, those included whose rows are being read."""
    decoded_bytes: int = 384 << 20
    """Estimated working memory of all decoder processes; a single image may need more, alone. Images that
    need less than `small_bytes` do not count, so that thumbnails never wait for large images that are read
    slowly."""
    small_bytes: int = 16 << 20
    start_seconds: float = 30.0
    """How long the codec process may take to load."""
