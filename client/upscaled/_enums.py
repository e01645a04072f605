"""Short names of the contract's enums: `png` for FORMAT_PNG, `keep` for METADATA_KEEP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from google.protobuf.descriptor import EnumDescriptor

from upscaled._errors import InvalidOptionError
from upscaled.v1 import jobs_pb2, options_pb2, result_pb2


class NameTable:
    """Both ways between short names and an enum's numbers. The zero value (unspecified) has no name."""

    def __init__(self, enum: EnumDescriptor, prefix: str, aliases: Mapping[str, str] | None = None) -> None:
        self._numbers = {
            value.name.removeprefix(prefix).lower(): value.number for value in enum.values if value.number
        }
        self._names = {number: name for name, number in self._numbers.items()}
        self._aliases = dict(aliases or {})

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._numbers)

    def number(self, option: str, name: object) -> int:
        """The number of a name in any case; InvalidOptionError names the choices."""
        known = name.strip().lower().replace("-", "_") if isinstance(name, str) else ""
        known = self._aliases.get(known, known)
        if known not in self._numbers:
            raise InvalidOptionError(f"{option}: one of {', '.join(self._numbers)} is expected; got {name!r}")
        return self._numbers[known]

    def name(self, number: int) -> str:
        """The name of a number; "" for unspecified, digits for a value that only a newer contract knows."""
        return self._names.get(number, str(number) if number else "")


_OPTIONS: Final = options_pb2.DESCRIPTOR.enum_types_by_name
_RESULT: Final = result_pb2.DESCRIPTOR.enum_types_by_name
_JOBS: Final = jobs_pb2.DESCRIPTOR.enum_types_by_name

FIT: Final = NameTable(_OPTIONS["Fit"], "FIT_")
FORMAT: Final = NameTable(_OPTIONS["Format"], "FORMAT_", {"jpg": "jpeg", "tif": "tiff"})
COMPRESSION: Final = NameTable(_OPTIONS["Compression"], "COMPRESSION_")
CHROMA_SUBSAMPLING: Final = NameTable(
    _OPTIONS["ChromaSubsampling"], "CHROMA_SUBSAMPLING_", {"4:2:0": "420", "4:4:4": "444"}
)
ALPHA: Final = NameTable(_OPTIONS["Alpha"], "ALPHA_")
METADATA: Final = NameTable(_OPTIONS["Metadata"], "METADATA_")
COLOR_SPACE: Final = NameTable(_OPTIONS["ColorSpace"], "COLOR_SPACE_")
TILE_ENCODING: Final = NameTable(_OPTIONS["TileEncoding"], "TILE_ENCODING_", {"jpg": "jpeg"})
DELIVERY: Final = NameTable(_OPTIONS["Delivery"], "DELIVERY_")
PRIORITY: Final = NameTable(_OPTIONS["Priority"], "PRIORITY_")
STAGE: Final = NameTable(_RESULT["Stage"], "STAGE_")
JOB_STATE: Final = NameTable(_JOBS["JobState"], "JOB_STATE_", {"canceled": "cancelled"})
CALLBACK_STATE: Final = NameTable(_JOBS["CallbackState"], "CALLBACK_STATE_")
