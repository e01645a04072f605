"""Objects of allowed buckets, read with the server's own credentials, as the environment has them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

import obstore
from obstore import exceptions
from obstore.store import ObjectStore, from_url

from upscaled_server.errors import FetchFailed, UrlRefused
from upscaled_server.intake.fetch.body import Limits
from upscaled_server.intake.fetch.urls import MAX_URL_CHARACTERS, shown

SCHEMES = frozenset({"s3", "gs"})
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ObjectName:
    bucket: str
    """With its scheme: `s3://photos`."""
    key: str


class Buckets:
    """`allowed`: `s3://bucket` or `s3://bucket/folder`."""

    def __init__(self, allowed: Sequence[str], *, field: str) -> None:
        self._allowed = [each.rstrip("/") for each in allowed]
        self._field = field
        self._stores: dict[str, ObjectStore] = {}

    def check(self, url: str) -> ObjectName:
        """Raises `UrlRefused` for what is outside, or no object's name."""
        scheme, _, rest = url.partition("://")
        bucket, _, key = rest.partition("/")
        folders = key.split("/")
        if len(url) > MAX_URL_CHARACTERS or not all(folders) or {".", ".."} & set(folders) or "\0" in key:
            raise UrlRefused(
                self._field, "is not an object's name", limit="s3://BUCKET/KEY", actual=shown(url)
            )
        name = ObjectName(f"{scheme.lower()}://{bucket}", key)
        whole = f"{name.bucket}/{key}"
        if not any(whole.startswith(each + "/") for each in self._allowed):
            raise UrlRefused(
                self._field,
                "is in a bucket that is not allowed",
                limit="UPSCALED_FETCH_BUCKETS",
                actual=shown(url),
            )
        return name

    async def read(self, name: ObjectName, limits: Limits) -> AsyncGenerator[bytes, None]:
        """The object's bytes. Raises `LimitExceeded`, `FetchFailed`."""
        store = self._stores.get(name.bucket)
        try:
            if store is None:  # as many as there are allowed buckets
                store = self._stores[name.bucket] = from_url(name.bucket)
            found = await obstore.get_async(store, name.key)
            limits.check_size(found.meta["size"])
            async for piece in found.stream(min_chunk_size=_PIECE_BYTES):
                yield bytes(piece)
        except (FileNotFoundError, exceptions.NotFoundError):
            raise FetchFailed(f"{self._field}: no such object in {name.bucket}") from None
        except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError):
            raise FetchFailed(f"{self._field}: this server may not read {name.bucket}") from None
        except (exceptions.BaseError, OSError, ValueError):
            raise FetchFailed(f"{self._field}: {name.bucket} cannot be read") from None
