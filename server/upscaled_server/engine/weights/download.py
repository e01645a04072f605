"""Fetching one file whose length and hash are known: resumable, bounded, checked before anyone can open it.

The bytes go to `<name>.part`; only a complete file with the right SHA-256 gets its name, by an atomic rename.
Several processes may want the same file: an flock on `<name>.lock` lets one fetch, the others find it done.
"""

from __future__ import annotations

import hashlib
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from upscaled_server.engine.weights.lock import file_lock
from upscaled_server.errors import WeightsRejected, WeightsUnavailable

# Called with the bytes that are there and the bytes that will be, now and then and at the end.
Progress = Callable[[int, int], None]

_CHUNK_BYTES = 1 << 16
_RETRY_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})


class _TryAgainError(Exception):
    """This attempt failed in a way that another one may not; what came so far is kept."""


class _StartOverError(Exception):
    """What came so far cannot be continued."""


@dataclass(frozen=True, slots=True)
class DownloadLimits:
    """`idle_seconds`: for a connection, an answer, or the next byte. `slowest_bytes_per_second`: measured
    over `slow_seconds`. `attempts`: tries in a row that brought nothing new. `total_seconds`: for everything,
    waiting for another process included."""

    idle_seconds: float = 20.0
    slow_seconds: float = 30.0
    slowest_bytes_per_second: float = 1024.0
    attempts: int = 4
    pause_seconds: float = 0.5
    total_seconds: float = 1800.0


class Downloader:
    """Fetches over HTTP and HTTPS, through the proxies that the environment names."""

    def __init__(self, limits: DownloadLimits | None = None) -> None:
        self._limits = limits or DownloadLimits()
        # Built by hand: the usual opener would follow file: and ftp: as well.
        self._opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.ProxyHandler,
            urllib.request.HTTPHandler,
            urllib.request.HTTPSHandler,
            urllib.request.HTTPRedirectHandler,
            urllib.request.HTTPDefaultErrorHandler,
            urllib.request.HTTPErrorProcessor,
        ):
            self._opener.add_handler(handler())

    def fetch(
        self, url: str, target: Path, *, size_bytes: int, sha256: str, progress: Progress | None = None
    ) -> Path:
        """`target`, holding exactly the bytes with this hash. A partial file of an earlier call is continued.

        Raises `WeightsUnavailable` if the file cannot be fetched or stored, `WeightsRejected` if another file
        came.
        """
        if urlsplit(url).scheme not in ("http", "https"):
            raise WeightsUnavailable(f"{url} is not an HTTP address", url=url)
        deadline = time.monotonic() + self._limits.total_seconds
        job = _Job(
            url, target, target.with_name(target.name + ".part"), size_bytes, sha256, progress, deadline
        )
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with file_lock(target.with_name(target.name + ".lock"), deadline):
                if not _has_hash(target, size_bytes, sha256):
                    self._fetch(job)
        except TimeoutError as error:
            raise WeightsUnavailable(f"another process is still fetching {target}", url=url) from error
        except OSError as error:
            raise WeightsUnavailable(
                f"{target} cannot be written: {error.strerror or error}", url=url
            ) from error
        if progress is not None:
            progress(size_bytes, size_bytes)
        return target

    def _fetch(self, job: _Job) -> None:
        resumed = job.part.is_file() and job.part.stat().st_size > 0
        with job.part.open("ab") as file:
            self._fill(job, file)
            file.flush()
            os.fsync(file.fileno())
        digest = _sha256(job.part)
        if digest != job.sha256:
            job.part.unlink()
            if resumed:
                # The part may be of an older file or half-written before a power cut: once more, from the
                # beginning.
                return self._fetch(job)
            raise WeightsRejected(
                f"{job.url} gave another file: SHA-256 {digest} instead of {job.sha256}",
                url=job.url,
                sha256=digest,
            )
        job.part.replace(job.target)
        _sync_folder(job.target.parent)
        return None

    def _fill(self, job: _Job, file: BinaryIO) -> None:
        """Attempt after attempt until the part has its full length."""
        failures = 0
        while True:
            before = file.seek(0, os.SEEK_END)
            if before > job.size_bytes:
                before = file.truncate(0)
            if before == job.size_bytes:
                return
            try:
                self._attempt(job, file, before)
            except _StartOverError as error:
                file.truncate(0)
                failures, problem = failures + 1, str(error)
            except _TryAgainError as error:
                failures = 1 if file.seek(0, os.SEEK_END) > before else failures + 1
                problem = str(error)
            else:
                continue
            if failures >= self._limits.attempts:
                raise WeightsUnavailable(f"{job.url} could not be fetched: {problem}", url=job.url)
            if time.monotonic() + self._limits.pause_seconds * failures > job.deadline:
                raise WeightsUnavailable(f"{job.url} could not be fetched in time: {problem}", url=job.url)
            time.sleep(self._limits.pause_seconds * failures)

    def _attempt(self, job: _Job, file: BinaryIO, offset: int) -> None:
        headers = {"User-Agent": "upscaled", "Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        request = urllib.request.Request(job.url, headers=headers)
        try:
            with self._opener.open(request, timeout=self._limits.idle_seconds) as response:
                offset = _check_head(response, job, offset)
                if offset == 0:
                    file.truncate(0)
                self._copy(response, job, file, offset)
        except urllib.error.HTTPError as error:
            with error:
                status = error.code
            if status == 416:
                raise _StartOverError("the server has no such range") from None
            if status in _RETRY_STATUSES:
                raise _TryAgainError(f"the server answered {status}") from None
            raise WeightsUnavailable(
                f"{job.url} could not be fetched: the server answered {status}", url=job.url
            ) from None
        except (HTTPException, urllib.error.URLError, TimeoutError, ConnectionError) as error:
            raise _TryAgainError(str(getattr(error, "reason", error)) or type(error).__name__) from error

    def _copy(self, response: HTTPResponse, job: _Job, file: BinaryIO, offset: int) -> None:
        limits = self._limits
        window_start, window_bytes = time.monotonic(), 0
        # read1 returns what one receive brought, so that a server which drips is noticed.
        while chunk := response.read1(_CHUNK_BYTES):
            if offset + len(chunk) > job.size_bytes:
                raise WeightsRejected(f"{job.url} gives more than {job.size_bytes} bytes", url=job.url)
            file.write(chunk)
            offset += len(chunk)
            window_bytes += len(chunk)
            if job.progress is not None:
                job.progress(offset, job.size_bytes)
            now = time.monotonic()
            if now > job.deadline:
                raise WeightsUnavailable(
                    f"{job.url} took longer than {limits.total_seconds:.0f} s", url=job.url
                )
            if now - window_start > limits.slow_seconds:
                if window_bytes < limits.slowest_bytes_per_second * limits.slow_seconds:
                    raise _TryAgainError(f"only {window_bytes} bytes in {limits.slow_seconds:.0f} s")
                window_start, window_bytes = now, 0
        if offset < job.size_bytes:
            file.flush()
            raise _TryAgainError(f"the connection ended after {offset} of {job.size_bytes} bytes")


@dataclass(frozen=True, slots=True)
class _Job:
    url: str
    target: Path
    part: Path
    size_bytes: int
    sha256: str
    progress: Progress | None
    deadline: float


def _check_head(response: HTTPResponse, job: _Job, offset: int) -> int:
    """Where the body begins in the file: at `offset`, or at 0 if the server ignored the range."""
    if response.status == 206:
        unit, _, spec = response.headers.get("Content-Range", "").partition(" ")
        span, _, total = spec.partition("/")
        if unit != "bytes" or span.partition("-")[0] != str(offset):
            raise _StartOverError("the server gave another range than was asked for")
        if total not in ("*", str(job.size_bytes)):
            raise _StartOverError(f"the file there has {total} bytes instead of {job.size_bytes}")
        return offset
    length = response.headers.get("Content-Length")
    if length is not None and length != str(job.size_bytes):
        raise WeightsRejected(f"{job.url} has {length} bytes instead of {job.size_bytes}", url=job.url)
    return 0


def _has_hash(path: Path, size_bytes: int, sha256: str) -> bool:
    return path.is_file() and path.stat().st_size == size_bytes and _sha256(path) == sha256


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
