"""Reading a weight file of any format into the neutral form, without running anything in it."""

from __future__ import annotations

import os
from pathlib import Path

from upscaled_server.engine.architectures import Architecture
from upscaled_server.engine.weights.state import StateDict, check_state
from upscaled_server.errors import WeightsRejected

PICKLED = (".pth", ".pt", ".ckpt")
"""Of torch; never read by the plain unpickler, see `pth_file`."""

TENSOR_FILES = (".safetensors", *PICKLED)
"""In this order; of several files of one name the first is taken."""

# The largest official file has 67 MB; custom ones stay well below this.
MAX_FILE_BYTES = 1 << 30


def read_bounded(path: Path) -> bytes:
    """The bytes of a file of at most 1 GiB. Raises `WeightsRejected` if it is larger or cannot be read."""
    try:
        with path.open("rb") as file:
            # Not simply the bound: Python makes room for all that is asked for before it reads.
            data = file.read(min(os.fstat(file.fileno()).st_size, MAX_FILE_BYTES) + 1)
    except OSError as error:
        raise WeightsRejected(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > MAX_FILE_BYTES:
        raise WeightsRejected(f"{path} is larger than any weights we know", limit=MAX_FILE_BYTES)
    return data


def read_state(data: bytes, path: Path, architecture: Architecture) -> StateDict:
    """The tensors of a file with one of `TENSOR_FILES`' endings, checked against the architecture. Raises
    `WeightsRejected`."""
    if path.suffix == ".safetensors":
        from upscaled_server.engine.weights.safetensors_file import read_safetensors

        return check_state(read_safetensors(data, str(path)), architecture, str(path))
    if path.suffix in PICKLED:
        from upscaled_server.engine.weights.pth_file import read_pth

        return check_state(read_pth(data, str(path)), architecture, str(path))
    raise WeightsRejected(f"{path} has none of the endings {', '.join(TENSOR_FILES)}")
