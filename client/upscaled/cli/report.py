"""What a command tells about one image: a summary for programs, and sizes for people."""

from __future__ import annotations

from typing import Any

from upscaled import Result, UpscaledError


def summary(result: Result, seconds: float) -> dict[str, Any]:
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


def error_summary(error: UpscaledError | OSError) -> dict[str, Any]:
    if isinstance(error, UpscaledError):
        return {
            "code": error.code.name,
            "reason": error.reason,
            "message": str(error),
            "metadata": dict(error.metadata),
            "request_id": error.request_id,
        }
    return {"code": "", "reason": "", "message": str(error), "metadata": {}, "request_id": ""}


def size_text(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"
