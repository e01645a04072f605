"""Reading a weight file of any format into the neutral form, without running anything in it."""

from __future__ import annotations

from pathlib import Path

from upscaled_server.engine.architectures import Architecture
from upscaled_server.engine.weights.state import StateDict, check_state
from upscaled_server.errors import WeightsRejected

# The largest official file has 67 MB; custom ones stay well below this.
MAX_FILE_BYTES = 1 << 30


def read_bounded(path: Path) -> bytes:
    """The bytes of a file of at most 1 GiB. Raises `WeightsRejected` if it is larger or cannot be read."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise WeightsRejected(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > MAX_FILE_BYTES:
        raise WeightsRejected(f"{path} is larger than any weights we know", limit=MAX_FILE_BYTES)
    return data


def read_state(data: bytes, path: Path, architecture: Architecture) -> StateDict:
    """The tensors of a `.pth` or `.safetensors` file, checked against the architecture. Raises
    `WeightsRejected`."""
    if path.suffix == ".safetensors":
        from upscaled_server.engine.weights.safetensors_file import read_safetensors

        return check_state(read_safetensors(data, str(path)), architecture, str(path))
    if path.suffix == ".pth":
        from upscaled_server.engine.weights.pth_file import read_pth

        return check_state(read_pth(data, str(path)), architecture, str(path))
    raise WeightsRejected(f"{path} is neither .pth nor .safetensors")
