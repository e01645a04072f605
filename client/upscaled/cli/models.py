"""`upscaled models list`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from upscaled import Model
from upscaled.cli.connect import Connection
from upscaled.cli.groups import grouped
from upscaled.cli.tables import print_table

_HEADINGS = ("model", "scale", "weights", "s per megapixel", "licence", "good for")


@grouped
def list_models(
    connection: Connection,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
) -> None:
    """List the networks a server can run, with their speed there."""
    with connection.client_of_any_server(lambda text: typer.echo(text, err=True)) as client:
        found = client.models.list()
    if as_json:
        for model in found:
            typer.echo(json.dumps(_as_dict(model)))
        return
    print_table(_HEADINGS, map(_row, found), right=["s per megapixel"])


def _row(model: Model) -> list[str]:
    speed = f"{model.seconds_per_megapixel:.3g}" if model.seconds_per_megapixel else "?"
    return [
        model.name + (" (default)" if model.is_default else ""),
        f"x{model.scale}",
        _weights(model),
        speed + ("" if model.speed_measured or speed == "?" else " (published)"),
        model.license,
        model.description,
    ]


def _weights(model: Model) -> str:
    if model.loaded:
        return "loaded"
    return "here" if model.available else "to be fetched"


def _as_dict(model: Model) -> dict[str, object]:
    return {
        "name": model.name,
        "aliases": list(model.aliases),
        "description": model.description,
        "architecture": model.architecture,
        "scale": model.scale,
        "license": model.license,
        "available": model.available,
        "loaded": model.loaded,
        "default": model.is_default,
        "denoise": model.denoise,
        "seconds_per_megapixel": model.seconds_per_megapixel,
        "speed_measured": model.speed_measured,
        "max_input_pixels": model.max_input_pixels,
        "weights_source": model.weights.source if model.weights else None,
        "weights_sha256": model.weights.sha256.hex() if model.weights else None,
    }
