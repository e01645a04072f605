"""Targets that libFuzzer drives by coverage, each in a process of its own: `python -m tests.fuzz.guided.run`.

A target is a module here with `seeds()`, inputs to begin with, and `one_input(data)`, which raises or crashes
on what must not happen. Atheris comes with the extra `fuzz`.
"""

TARGETS = (
    "url_guard",
    "webhooks",
    "weights_ncnn",
    "weights_pth",
    "weights_safetensors",
    "image_metadata",
    "codec_wire",
)
