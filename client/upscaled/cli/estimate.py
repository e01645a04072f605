"""What is said before something long begins."""

from __future__ import annotations

from typing import Final

from upscaled import Model, Plan

LONG_SECONDS: Final = 30.0
# A hint is worth a line only where the difference is.
_WORTHWHILE: Final = 2.0
# For photographs first; both are a tenth of the default's work or less.
_FASTER_MODELS: Final = ("real-esrgan-x4-v3", "real-esrgan-animevideo-v3")


def seconds_for(plan: Plan, model: Model | None) -> float:
    """The server's estimate of device time; where it has none, its figure for the model times the pixels."""
    if plan.estimated_seconds > 0 or model is None:
        return plan.estimated_seconds
    return model.seconds_per_megapixel * plan.input_width * plan.input_height / 1e6


def warning(plan: Plan, model: str, models: list[Model]) -> str | None:
    """A remark on work that will take long, naming faster models; `None` for work that will not."""
    known = {m.name: m for m in models} | {alias: m for m in models for alias in m.aliases}
    chosen = known.get(model) or next((m for m in models if m.is_default), None)
    seconds = seconds_for(plan, chosen)
    if seconds < LONG_SECONDS:
        return None
    megapixels = plan.input_width * plan.input_height / 1e6
    name = chosen.name if chosen else model
    text = f"{megapixels:.3g} megapixels with {name} will take about {duration(seconds)} on this server"
    faster = _faster(chosen, known, seconds)
    return f"{text}; {faster}" if faster else text


def _faster(chosen: Model | None, known: dict[str, Model], seconds: float) -> str:
    if chosen is None or not chosen.seconds_per_megapixel:
        return ""
    parts = []
    for name in _FASTER_MODELS:
        other = known.get(name)
        if (
            other is None
            or not other.available
            or not other.seconds_per_megapixel
            or other.scale != chosen.scale
        ):
            continue
        if chosen.seconds_per_megapixel >= _WORTHWHILE * other.seconds_per_megapixel:
            there = seconds * other.seconds_per_megapixel / chosen.seconds_per_megapixel
            parts.append(f"--model {name} about {duration(there)}")
    return "faster: " + ", ".join(parts) if parts else ""


def duration(seconds: float) -> str:
    """`8 s`, `2 min`, `1 h 10 min`: as exact as an estimate deserves."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"
