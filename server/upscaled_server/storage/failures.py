"""From what files and object stores raise to the domain's errors."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from obstore import exceptions

from upscaled_server.errors import NotFound, StorageFull, Unavailable

log = logging.getLogger(__name__)

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# obstore tells the operating system's errors as text only.
_FULL_TEXTS = tuple(f"(os error {number})" for number in _FULL)


@contextmanager
def translated(path: str) -> Iterator[None]:
    """Raises `NotFound`, `StorageFull` or `Unavailable` in place of what the storage raised for `path`."""
    try:
        yield
    except (FileNotFoundError, exceptions.NotFoundError):
        raise NotFound("stored file", path) from None
    except (exceptions.BaseError, OSError, ValueError) as error:
        if _is_full(error):
            raise StorageFull("the disk that files are kept on is full") from error
        # The text may hold addresses and names that are not for callers.
        log.error("storage: %s failed: %s", path, text_of(error))
        raise Unavailable("the storage of files did not answer as it should; try again") from error


def text_of(error: Exception) -> str:
    """What an error says, without the dump of its parts that obstore appends."""
    return str(error).partition("\n\nDebug source")[0]


def _is_full(error: Exception) -> bool:
    if isinstance(error, OSError) and error.errno in _FULL:
        return True
    return any(text in str(error) for text in _FULL_TEXTS)
