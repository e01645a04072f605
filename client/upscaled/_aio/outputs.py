"""`client.outputs`: results that the server keeps."""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TypeAlias

from upscaled._aio.calls import Calls
from upscaled._aio.downloading import Announced, Download, MemoryTarget, PartTarget, Target
from upscaled._errors import InvalidOptionError, NoDataError
from upscaled._files import PartialFile
from upscaled._jobs import JobFacts
from upscaled._results import Output, Result
from upscaled._sources import output_of
from upscaled._stored import SignedUrl
from upscaled._times import duration, when
from upscaled._types import NOT_GIVEN, NotGiven
from upscaled.v1 import blobs_pb2

OutputLike: TypeAlias = str | Output | Result | JobFacts


class AsyncOutputs:
    """Results that the server keeps, as `client.outputs`. An output is named by its id, or by the output,
    result or job itself.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def download(
        self,
        output: OutputLike,
        path: str | os.PathLike[str],
        *,
        timeout: float | None | NotGiven = NOT_GIVEN,
    ) -> Path:
        """Fetches an output into a file, in memory that does not depend on its size; into a folder under its
        own name. Answers with the file's path.

        A broken download goes on at the byte where it broke. The file appears under its name, replacing what
        had it, when size and SHA-256 are proven; after a failure nothing is left. Raises UpscaledError, and
        OSError when the file cannot be written.
        """
        found, output_id = _named(output)
        target = _target(Path(path), found)
        with PartialFile(target) as part:
            if found is not None and found.data is not None:
                await asyncio.to_thread(part.write, found.data)
            else:
                await self._fetch(output_id, found, PartTarget(part), timeout)
            return await asyncio.to_thread(part.publish)

    async def read(self, output: OutputLike, *, timeout: float | None | NotGiven = NOT_GIVEN) -> bytes:
        """Fetches an output into memory, as `download` does."""
        found, output_id = _named(output)
        if found is not None and found.data is not None:
            return found.data
        target = MemoryTarget()
        await self._fetch(output_id, found, target, timeout)
        return target.data

    async def sign(
        self,
        output: OutputLike,
        lifetime: timedelta | float | None = None,
        *,
        timeout: float | None | NotGiven = NOT_GIVEN,
    ) -> SignedUrl:
        """A URL that serves the output without a key for `lifetime` (seconds or a timedelta; default an hour,
        at most 7 days, and never longer than the output is kept).
        """
        _found, output_id = _named(output)
        request = blobs_pb2.SignOutputRequest(output_id=output_id, lifetime=duration("lifetime", lifetime))
        answer = await self._calls.lookup("blobs", "SignOutput", request, timeout)
        return SignedUrl(answer.url, when(answer, "expire_time"))

    async def _fetch(
        self, output_id: str, found: Output | None, target: Target, timeout: float | None | NotGiven
    ) -> None:
        expected = Announced(found.size_bytes, found.sha256) if found is not None else None
        deadline = self._calls.deadline(timeout)
        await Download(self._calls, output_id, target, deadline, NOT_GIVEN, expected=expected).run()


def _named(output: OutputLike) -> tuple[Output | None, str]:
    """What is known of the output, and its id."""
    if isinstance(output, str):
        return None, output
    found = output_of(output)
    if found is None:
        raise InvalidOptionError(f"output: an id, an output, a result or a job is expected; got {output!r}")
    if not found.id and found.data is None:
        raise NoDataError("the server did not store this output; ask for delivery='url'")
    return found, found.id


def _target(path: Path, found: Output | None) -> Path:
    if not path.is_dir():
        return path
    if found is None:
        raise IsADirectoryError(f"output: {os.fspath(path)!r} is a folder; name the file")
    return path / safe_name(found)


def safe_name(output: Output) -> str:
    """The name that the server suggests, without the folders it has no say in."""
    name = PureWindowsPath(PurePosixPath(output.file_name).name).name
    return name if name.strip(". ") and name.isprintable() else f"{output.id}.bin"
