"""`upscaled upscale`: files and folders, one image after the other."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from upscaled import (
    AuthenticationError,
    CallCancelledError,
    Client,
    ConnectError,
    InvalidOptionError,
    Model,
    Options,
    PermissionDeniedError,
    Plan,
    Progress,
    QuotaExceededError,
    Result,
    UpscaledError,
)
from upscaled import _enums as enums
from upscaled.cli import estimate
from upscaled.cli.connect import ApiKeyOption, CaOption, ServerOption, TlsOption, connect
from upscaled.cli.display import Display, open_display
from upscaled.cli.extras import install_hint, missing
from upscaled.cli.preview import SUFFIXES as PREVIEW_SUFFIXES
from upscaled.cli.preview import upscale_with_preview
from upscaled.cli.targets import SUFFIX_OF_FORMAT, Target, UsageError, find_targets, format_of, size_tag

# What would end every other image of the same command in the same way.
_HOPELESS = (ConnectError, AuthenticationError, PermissionDeniedError, QuotaExceededError, CallCancelledError)


def _named(table: enums.NameTable) -> Callable[[str | None], str | None]:
    def check(value: str | None) -> str | None:
        if value is None:
            return None
        try:
            return table.name(table.number("", value))
        except InvalidOptionError:
            raise typer.BadParameter(f"one of {', '.join(table.names)} is expected; got {value!r}") from None

    return check


def upscale(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="IN", help="Images, or folders whose images are taken (not those further down)."
        ),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="File for one image, folder for several. Default: photo_x4.png beside photo.jpg, "
            "photos_x4/ beside the folder photos.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Network, see `upscaled models list`. Default: the server's."),
    ] = None,
    scale: Annotated[
        float | None, typer.Option("--scale", "-s", help="Factor per side. Default: the network's own.")
    ] = None,
    width: Annotated[int | None, typer.Option("--width", help="Width of the result in pixels.")] = None,
    height: Annotated[int | None, typer.Option("--height", help="Height of the result in pixels.")] = None,
    fit: Annotated[
        str | None,
        typer.Option(
            "--fit",
            callback=_named(enums.FIT),
            help="With width and height of another ratio: contain (default), cover or stretch.",
        ),
    ] = None,
    format_: Annotated[
        str | None,
        typer.Option(
            "--format",
            "-f",
            callback=_named(enums.FORMAT),
            help="png, jpeg, webp, tiff or avif. Default: by the suffix of OUT, else png.",
        ),
    ] = None,
    quality: Annotated[
        int | None, typer.Option("--quality", "-q", help="Of lossy formats, 1 to 100. Default: 90.")
    ] = None,
    preview: Annotated[
        Path | None,
        typer.Option(
            "--preview",
            metavar="FILE",
            help="Picture (png, jpg or webp) that is kept up to date while the result arrives.",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite/--no-overwrite", help="Whether existing files are replaced.")
    ] = False,
    server: ServerOption = None,
    api_key: ApiKeyOption = None,
    tls: TlsOption = False,
    ca: CaOption = None,
    timeout: Annotated[
        float | None, typer.Option("--timeout", metavar="SECONDS", help="Bound for each image.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object per image on standard output.")
    ] = False,
) -> None:
    """Enlarge images.

    Existing files are never replaced without --overwrite: a named image is then an error, an image of a
    folder is skipped, so that a second run goes on where the first one stopped.
    """
    if scale is not None and (width is not None or height is not None):
        raise typer.BadParameter("--scale and --width/--height exclude each other")
    try:
        format_ = format_of(output, format_)
        _check_inputs(inputs)
        _check_preview(preview)
    except UsageError as error:
        raise typer.BadParameter(str(error)) from error
    options: Options = {"model": model, "scale": scale, "width": width, "height": height, "quality": quality}
    options["fit"] = fit  # type: ignore[typeddict-item]  # checked by the option's callback
    options["format"] = format_  # type: ignore[typeddict-item]
    with open_display() as display:
        with connect(server, api_key, tls=tls, ca=ca, say=display.say) as client:
            models = client.models.list()
            tag = size_tag(scale, width, height, _own_scale(model, models))
            try:
                targets = find_targets(inputs, output, tag, SUFFIX_OF_FORMAT[format_ or "png"])
            except UsageError as error:
                raise typer.BadParameter(str(error)) from error
            batch = _Batch(client, models, options, timeout, overwrite, as_json, display, preview)
            failed = [target for target in targets if not batch.do(target)]
        if failed and len(targets) > 1:
            display.say(f"{len(failed)} of {len(targets)} images failed")
    if failed:
        raise typer.Exit(1)


def _check_inputs(inputs: list[Path]) -> None:
    """Before a server is started for nothing."""
    for path in inputs:
        if not path.exists():
            raise UsageError(f"{path}: no such file or folder")


def _check_preview(path: Path | None) -> None:
    """Likewise. Raises UsageError for another suffix, and where the package for it is missing."""
    if path is None:
        return
    if names := missing("images"):
        raise UsageError(f"--preview needs {', '.join(names)}: {install_hint('images')}")
    if path.suffix.lower() not in PREVIEW_SUFFIXES:
        raise UsageError(f"--preview: a file ending in {', '.join(PREVIEW_SUFFIXES)}; got {path.name!r}")


def _own_scale(model: str | None, models: list[Model]) -> int:
    for known in models:
        if (model is None and known.is_default) or model in (known.name, *known.aliases):
            return known.scale
    return 4  # the server will refuse the name; until then it only names a file


class _Batch:
    """Does one image after the other and reports each."""

    def __init__(
        self,
        client: Client,
        models: list[Model],
        options: Options,
        timeout: float | None,
        overwrite: bool,
        as_json: bool,
        display: Display,
        preview: Path | None,
    ) -> None:
        self._client = client
        self._models = models
        self._options = options
        self._timeout = timeout
        self._overwrite = overwrite
        self._as_json = as_json
        self._display = display
        self._preview = preview

    def do(self, target: Target) -> bool:
        """Whether it went well. What would fail for every other image as well is raised instead."""
        if target.output.exists() and not self._overwrite:
            return self._exists(target)
        target.output.parent.mkdir(parents=True, exist_ok=True)
        self._display.begin(target.source.name)
        start = time.monotonic()
        try:
            result = self._upscale(target)
        except (UpscaledError, OSError) as error:
            self._report_failure(target, error)
            if isinstance(error, _HOPELESS):
                raise
            return False
        finally:
            self._display.end()
        self._report(target, result, time.monotonic() - start)
        return True

    def _upscale(self, target: Target) -> Result:
        shown = self._on_progress(target)
        if self._preview is None:
            return self._client.upscale(
                target.source,
                output=target.output,
                on_progress=shown,
                timeout=self._timeout,
                **self._options,
            )
        return upscale_with_preview(
            self._client,
            target.source,
            target.output,
            self._preview,
            on_progress=shown,
            timeout=self._timeout,
            options=self._options,
        )

    def _on_progress(self, target: Target) -> Callable[[Plan | Progress], None]:
        def show(event: Plan | Progress) -> None:
            if isinstance(event, Progress):
                self._display.progress(event)
                return
            self._display.plan(event)
            remark = estimate.warning(event, self._options.get("model") or "", self._models)
            if remark:
                self._display.say(f"{target.source.name}: {remark}")

        return show

    def _exists(self, target: Target) -> bool:
        remark = f"{target.output} exists; --overwrite replaces it"
        if self._as_json:
            key = "skipped" if target.listed else "error"
            self._print_json(target, {key: remark if target.listed else {"message": remark}})
        else:
            self._display.say(f"{target.source}: {'skipped, ' if target.listed else ''}{remark}")
        return target.listed

    def _report(self, target: Target, result: Result, seconds: float) -> None:
        if self._as_json:
            self._print_json(target, _summary(result, seconds))
            return
        for remark in result.warnings:
            self._display.say(f"{target.source.name}: {remark}")
        speed = result.width * result.height / 1e6 / seconds
        self._display.say(
            f"{target.source.name}: {result.width}x{result.height}, {_bytes(result.size_bytes)}, "
            f"{seconds:.1f} s ({speed:.3g} MP/s), {result.settings.model}"
        )
        self._display.result(str(target.output))

    def _report_failure(self, target: Target, error: UpscaledError | OSError) -> None:
        if self._as_json:
            self._print_json(target, {"error": _error(error)})
        elif not isinstance(error, _HOPELESS):
            self._display.say(f"{target.source}: {error}")

    def _print_json(self, target: Target, more: dict[str, Any]) -> None:
        self._display.result(json.dumps({"input": str(target.source), "output": str(target.output), **more}))


def _summary(result: Result, seconds: float) -> dict[str, Any]:
    return {
        "width": result.width,
        "height": result.height,
        "content_type": result.content_type,
        "size_bytes": result.size_bytes,
        "sha256": result.sha256.hex(),
        "seconds": round(seconds, 3),
        "stages": {name: round(value, 3) for name, value in result.timings.stages.items()},
        "model": result.settings.model,
        "backend": result.provenance.backend,
        "precision": result.provenance.precision,
        "warnings": list(result.warnings),
        "request_id": result.request_id,
    }


def _error(error: UpscaledError | OSError) -> dict[str, Any]:
    if isinstance(error, UpscaledError):
        return {
            "code": error.code.name,
            "reason": error.reason,
            "message": str(error),
            "metadata": dict(error.metadata),
            "request_id": error.request_id,
        }
    return {"code": "", "reason": "", "message": str(error), "metadata": {}, "request_id": ""}


def _bytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"
