"""`upscaled calibrate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from upscaled_server.commands.messages import needing_the_extra, plain_errors

if TYPE_CHECKING:
    from upscaled_server.engine.calibration import Calibration, Speed
    from upscaled_server.engine.device import Device


def calibrate(
    model: Annotated[str | None, typer.Option(help="Name or alias. Default: the server's default.")] = None,
    seconds: Annotated[
        float, typer.Option(min=0.1, max=600, help="How long to measure, beside loading the model.")
    ] = 15.0,
) -> None:
    """Measure how many bands of an image this machine's CPU should compute at a time, and how high.

    Prints the settings that pin both; replicas that have them cut every image alike. Nothing else should be
    running meanwhile.
    """
    with needing_the_extra("calibrating"):
        from upscaled_server import app
        from upscaled_server.engine.calibration import calibrate as measure
        from upscaled_server.engine.catalogue import Catalogue
        from upscaled_server.engine.device import choose_device
        from upscaled_server.engine.engine import Engine
        from upscaled_server.engine.weights.settings import WeightSettings
        from upscaled_server.engine.weights.store import WeightStore
        from upscaled_server.settings import Settings

    with plain_errors():
        store = WeightStore(Settings(app.SETTINGS)[WeightSettings].store_options())
        name = Catalogue().resolve(model or "").name
        engine = Engine(choose_device("cpu", "ncnn"), store)
        try:
            engine.load(name)
            found = measure(engine, name, seconds)
        finally:
            engine.close()
    _print(name, engine.device, found)


def _print(model: str, device: Device, found: Calibration) -> None:
    typer.echo(f"{model} on {device.parallel} cores of {device.name}, images {found.width} pixels wide\n")
    typer.echo("bands at a time   megapixels/s")
    for speed in found.by_parallel:
        typer.echo(_line(speed.parallel, speed, chosen=speed.parallel == found.parallel))
    typer.echo(f"\nrows of a band    megapixels/s, {found.parallel} at a time")
    for speed in found.by_band_rows:
        typer.echo(_line(speed.band_rows, speed, chosen=speed.band_rows == found.band_rows))
    typer.echo(f"\nUPSCALED_THREADS={found.parallel}\nUPSCALED_BAND_ROWS={found.band_rows}")


def _line(number: int, speed: Speed, *, chosen: bool) -> str:
    return f"{number:15}   {speed.pixels_per_second / 1e6:12.4f}{'  <' if chosen else ''}"
