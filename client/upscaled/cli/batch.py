"""Images one after the other: each is upscaled, perhaps compared, and reported."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from upscaled import (
    AuthenticationError,
    CallCancelledError,
    Client,
    ConnectError,
    Model,
    Options,
    PermissionDeniedError,
    Plan,
    Progress,
    QuotaExceededError,
    Result,
    UpscaledError,
)
from upscaled.cli import compare, estimate
from upscaled.cli.display import Display
from upscaled.cli.preview import upscale_with_preview
from upscaled.cli.report import error_summary, size_text, summary
from upscaled.cli.targets import Target

# What would end everything else of the same command in the same way.
HOPELESS = (ConnectError, AuthenticationError, PermissionDeniedError, QuotaExceededError, CallCancelledError)


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the command line asks for, beside the options of the call. `compare_with` is a backend."""

    timeout: float | None
    overwrite: bool
    as_json: bool
    preview: Path | None
    compare_with: str | None


class Batch:
    """Does one image after the other and reports each."""

    def __init__(
        self, client: Client, models: list[Model], options: Options, wishes: Wishes, display: Display
    ) -> None:
        self._client = client
        self._models = models
        self._options = options
        self._wishes = wishes
        self._display = display

    def do(self, target: Target) -> bool:
        """Whether it went well. What would fail for every other image as well is raised instead."""
        files = self._files(target)
        existing = [path for path in files if path.exists()]
        if existing and not self._wishes.overwrite:
            return self._exists(target, existing[0], skip=target.listed and len(existing) == len(files))
        target.output.parent.mkdir(parents=True, exist_ok=True)
        self._display.begin(target.source.name)
        try:
            self._do(target)
        except (UpscaledError, OSError) as error:
            self._report_failure(target, error)
            if isinstance(error, HOPELESS):
                raise
            return False
        finally:
            self._display.end()
        return True

    def _do(self, target: Target) -> None:
        backend = self._wishes.compare_with
        if backend is not None:
            # What cannot be compared is told before the first of the two is computed.
            asked: Options = {**self._options, "backend": backend}
            self._client.upscale(target.source, validate_only=True, timeout=self._wishes.timeout, **asked)
        start = time.monotonic()
        result = self._upscale(target)
        seconds = time.monotonic() - start
        if backend is None:
            self._display.end()
            self._report(target, result, seconds)
            return
        files = compare.Files.of(target.output, backend)
        start = time.monotonic()
        other = self._client.upscale(
            target.source,
            output=files.other,
            on_progress=self._on_progress(target),
            timeout=self._wishes.timeout,
            **asked,
        )
        compared = compare.compare(files, (result, seconds), (other, time.monotonic() - start))
        self._display.end()
        self._report(target, result, seconds, compared)

    def _files(self, target: Target) -> list[Path]:
        if self._wishes.compare_with is None:
            return [target.output]
        return compare.Files.of(target.output, self._wishes.compare_with).all

    def _upscale(self, target: Target) -> Result:
        shown = self._on_progress(target)
        if self._wishes.preview is None:
            return self._client.upscale(
                target.source,
                output=target.output,
                on_progress=shown,
                timeout=self._wishes.timeout,
                **self._options,
            )
        return upscale_with_preview(
            self._client,
            target.source,
            target.output,
            self._wishes.preview,
            on_progress=shown,
            timeout=self._wishes.timeout,
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

    def _exists(self, target: Target, existing: Path, *, skip: bool) -> bool:
        remark = f"{existing} exists; --overwrite replaces it"
        if self._wishes.as_json:
            key = "skipped" if skip else "error"
            self._print_json(target, {key: remark if skip else {"message": remark}})
        else:
            self._display.say(f"{target.source}: {'skipped, ' if skip else ''}{remark}")
        return skip

    def _report(
        self, target: Target, result: Result, seconds: float, compared: compare.Comparison | None = None
    ) -> None:
        if self._wishes.as_json:
            more = {} if compared is None else {"comparison": compared.summary()}
            self._print_json(target, {**summary(result, seconds), **more})
            return
        for remark in result.warnings:
            self._display.say(f"{target.source.name}: {remark}")
        speed = result.width * result.height / 1e6 / seconds
        self._display.say(
            f"{target.source.name}: {result.width}x{result.height}, {size_text(result.size_bytes)}, "
            f"{seconds:.1f} s ({speed:.3g} MP/s), {result.settings.model}"
        )
        for line in [] if compared is None else compared.table():
            self._display.say(line)
        for path in self._files(target):
            self._display.result(str(path))

    def _report_failure(self, target: Target, error: UpscaledError | OSError) -> None:
        if self._wishes.as_json:
            self._print_json(target, {"error": error_summary(error)})
        elif not isinstance(error, HOPELESS):
            self._display.say(f"{target.source}: {error}")

    def _print_json(self, target: Target, more: dict[str, Any]) -> None:
        self._display.result(json.dumps({"input": str(target.source), "output": str(target.output), **more}))
