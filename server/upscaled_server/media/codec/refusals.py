"""What Pillow raises, in the words of our errors.

Pillow raises almost any exception on hostile bytes (OSError, SyntaxError, TypeError, RuntimeError,
ValueError, KeyError, IndexError, EOFError, OverflowError, ZeroDivisionError, struct.error, AttributeError
and its own). While it reads a file, whatever it raises is the file's fault.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from PIL import Image

from upscaled_server.errors import DamagedImage, DomainError, LimitExceeded, UnsupportedImage
from upscaled_server.media.codec.wire import printable

# Parts of messages by which Pillow says that a file is valid but beyond it.
_UNSUPPORTED = (
    "unsupported",
    "unknown pixel mode",
    "unknown data organization",
    "not supported",
    "cannot handle",
    "decoder not available",
    "unknown compression",
    "not available",
    "support not installed",
)


@contextlib.contextmanager
def translated(memory_bytes: int) -> Iterator[None]:
    """Around everything that reads a file's bytes."""
    with out_of_memory(memory_bytes):
        try:
            yield
        except (DomainError, MemoryError):
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise LimitExceeded(
                "image",
                "a part of the file declares too many pixels",
                limit=(Image.MAX_IMAGE_PIXELS or 0) / 1e6,
                actual="more",
                unit="megapixels",
            ) from error
        except NotImplementedError as error:
            raise UnsupportedImage(_words("not supported", error)) from error
        except Exception as error:  # decoders raise almost anything for damaged bytes
            text = str(error).lower()
            if any(part in text for part in _UNSUPPORTED):
                raise UnsupportedImage(
                    _words("this variant of the format is not supported", error)
                ) from error
            raise DamagedImage(_words("the file is damaged", error)) from error


@contextlib.contextmanager
def out_of_memory(memory_bytes: int) -> Iterator[None]:
    try:
        yield
    except MemoryError as error:
        raise LimitExceeded(
            "image",
            "decoding needs too much memory",
            limit=memory_bytes >> 20,
            actual="more",
            unit="MiB",
        ) from error


def _words(problem: str, error: BaseException) -> str:
    said = printable(str(error), 200) or type(error).__name__
    return f"{problem}: {said}"
