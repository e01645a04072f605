"""A finished piece of work."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TypeAlias

from upscaled._errors import NoDataError
from upscaled._files import PartialFile
from upscaled._results.output import Output
from upscaled._results.pieces import Chunk, Tile
from upscaled._results.plan import Plan, Progress
from upscaled._results.settings import Settings
from upscaled._results.work import Credits, Provenance, Timings
from upscaled.v1 import result_pb2


@dataclass(frozen=True, slots=True)
class Result:
    """A finished piece of work. `outputs` is empty when nothing was made: after `validate_only` or
    `omit_file`.
    """

    outputs: tuple[Output, ...]
    settings: Settings
    plan: Plan
    timings: Timings
    credits: Credits
    provenance: Provenance
    request_id: str
    warnings: tuple[str, ...]

    @classmethod
    def from_message(
        cls, message: result_pb2.UpscaleResult, *, data: bytes | None = None, path: Path | None = None
    ) -> Result:
        """`data` or `path` is where the chunks of the first output went."""
        outputs = tuple(
            Output.from_message(output, data=data if first else None, path=path if first else None)
            for first, output in zip([True, *[False] * len(message.outputs)], message.outputs, strict=False)
        )
        return cls(
            outputs=outputs,
            settings=Settings.from_message(message.settings),
            plan=Plan.from_message(message.plan),
            timings=Timings.from_message(message.timings),
            credits=Credits.from_message(message.credits),
            provenance=Provenance.from_message(message.provenance),
            request_id=message.request_id,
            warnings=tuple(message.warnings),
        )

    @property
    def output(self) -> Output:
        """The first output. NoDataError when there is none."""
        if not self.outputs:
            raise NoDataError(
                "the result has no output: the request only asked for a check, or for tiles without the file"
            )
        return self.outputs[0]

    @property
    def data(self) -> bytes:
        """The encoded file. NoDataError, which says where it is, when it is not in memory."""
        output = self.output
        if output.data is None:
            raise NoDataError(_elsewhere(output))
        return output.data

    @property
    def width(self) -> int:
        """Width of the output in pixels; of the planned one when nothing was made."""
        return self.outputs[0].width if self.outputs else self.plan.output_width

    @property
    def height(self) -> int:
        """Height of the output in pixels; of the planned one when nothing was made."""
        return self.outputs[0].height if self.outputs else self.plan.output_height

    @property
    def content_type(self) -> str:
        return self.outputs[0].content_type if self.outputs else self.plan.content_type

    @property
    def file_name(self) -> str:
        """The name the server suggests, with extension."""
        return self.outputs[0].file_name if self.outputs else self.plan.file_name

    @property
    def size_bytes(self) -> int:
        return self.output.size_bytes

    @property
    def sha256(self) -> bytes:
        return self.output.sha256

    @property
    def path(self) -> Path | None:
        """Where the SDK wrote the file, if `output=` asked for it."""
        return self.outputs[0].path if self.outputs else None

    @property
    def id(self) -> str:
        """The stored output's id; empty if it was not stored."""
        return self.outputs[0].id if self.outputs else ""

    @property
    def url(self) -> str:
        """Serves the stored file until it expires; empty if it was not stored."""
        return self.outputs[0].url if self.outputs else ""

    def save(self, path: str | PathLike[str]) -> Path:
        """Writes the file; what was at `path` is replaced in one step. An OSError if that cannot be done."""
        output = self.output
        if output.data is None and output.path is None:
            raise NoDataError(_elsewhere(output))
        with PartialFile(Path(path)) as part:
            if output.data is not None:
                part.write(output.data)
            elif output.path is not None:
                with output.path.open("rb") as source:
                    shutil.copyfileobj(source, part.file, 1024 * 1024)
            return part.publish()


@dataclass(frozen=True, slots=True)
class Done:
    """The last event: the file is whole and proven by size and SHA-256."""

    result: Result


Event: TypeAlias = Plan | Progress | Tile | Chunk | Done


def _elsewhere(output: Output) -> str:
    if output.path is not None:
        return f"the file was written to {output.path}; read it there"
    if output.url or output.id:
        return f"the server keeps the file as output {output.id!r}; client.outputs.download() fetches it" + (
            f", or GET {output.url}" if output.url else ""
        )
    return "the answer carried no bytes"
