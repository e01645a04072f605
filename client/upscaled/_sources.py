"""Which image a call is about: one that is sent from here, or one that the server reads itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from upscaled._errors import SourceError
from upscaled._jobs import JobFacts
from upscaled._results import Output, Result
from upscaled._stored import Input
from upscaled._types import Url
from upscaled.v1 import options_pb2

URL_BEGINS: Final = ("https://", "http://", "s3://", "gs://")


@dataclass(frozen=True, slots=True)
class Chosen:
    """Either `local`, an image on this side, or `message`, which names one to the server."""

    local: Any = None
    message: options_pb2.Source | None = None


def choose_source(
    source: object, *, url: str | None = None, input_id: str | None = None, output_id: str | None = None
) -> Chosen:
    """SourceError unless exactly one image is named."""
    named = {"url": url, "input_id": input_id, "output_id": output_id}
    given = [name for name, value in named.items() if value is not None]
    if len(given) + (source is not None) != 1:
        listed = ", ".join(([] if source is None else ["source"]) + given) or "none"
        raise SourceError(
            f"source: exactly one of an image, url=, input_id= and output_id= is expected; got {listed}"
        )
    if source is not None:
        return _choose(source)
    return Chosen(message=options_pb2.Source(**{given[0]: named[given[0]]}))  # type: ignore[arg-type]


def output_of(source: object) -> Output | None:
    """The output that a result or a job stands for; `None` for what is neither.

    SourceError for a job that has no result yet, NoDataError for a result without output.
    """
    if isinstance(source, JobFacts):
        if source.result is None:
            raise SourceError(f"job {source.id} is {source.state} and has no output; wait() for it first")
        source = source.result
    if isinstance(source, Result):
        source = source.output
    return source if isinstance(source, Output) else None


def _choose(source: object) -> Chosen:
    if isinstance(source, Url):
        return Chosen(message=options_pb2.Source(url=source.url))
    if isinstance(source, str) and source.startswith(URL_BEGINS):
        return Chosen(message=options_pb2.Source(url=source))
    if isinstance(source, Input):
        return Chosen(message=options_pb2.Source(input_id=source.id))
    output = output_of(source)
    if output is None:
        return Chosen(local=source)
    if output.id:
        return Chosen(message=options_pb2.Source(output_id=output.id))
    local = output.data if output.data is not None else output.path
    if local is None:
        raise SourceError("source: the result was neither stored by the server nor kept here")
    return Chosen(local=local)
