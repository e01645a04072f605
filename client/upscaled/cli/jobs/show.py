"""A job in words."""

from __future__ import annotations

from datetime import datetime

from upscaled import Job
from upscaled.cli.estimate import duration
from upscaled.cli.moments import shown
from upscaled.cli.report import size_text

HEADINGS = ("job", "state", "created", "took", "model", "pixels", "labels")


def row(job: Job) -> list[str]:
    """For a table under HEADINGS."""
    return [
        job.id, state(job), shown(job.create_time), _took(job), model(job), pixels(job), labels(job)
    ]  # fmt: skip


def lines(job: Job) -> list[str]:
    """Everything a person may want to know, one fact a line."""
    facts = {
        "job": job.id,
        "state": state(job),
        "error": str(job.error) if job.error else "",
        "input": f"{job.input.description}, {size_text(job.input.size_bytes)}" if job.input else "",
        "model": model(job),
        "pixels": pixels(job),
        "labels": labels(job),
        "request": job.request_id,
        "created": shown(job.create_time),
        "started": shown(job.start_time),
        "ended": shown(job.end_time),
        "took": _took(job),
        "attempts": str(job.attempts) if job.attempts > 1 else "",
        "kept until": shown(job.expire_time),
        "callback": _callback(job),
        **_result(job),
    }
    return [f"{name + ':':<12}{value}" for name, value in facts.items() if value]


def ending(job: Job) -> str:
    """What is said when a job has ended."""
    result = job.result
    if result is None or not result.outputs:
        return f"{job.state}: {job.error}" if job.error else job.state
    took = _took(job)
    return (
        f"{job.state}, {result.width}x{result.height}, {size_text(result.size_bytes)}"
        f"{f', {took}' if took else ''}, {result.settings.model}"
    )


def state(job: Job) -> str:
    progress = job.progress
    return f"running {progress.fraction:.0%}" if job.state == "running" and progress else job.state


def model(job: Job) -> str:
    return job.result.settings.model if job.result else job.options.model


def pixels(job: Job) -> str:
    plan = job.plan
    if plan is None:
        return ""
    return f"{plan.input_width}x{plan.input_height} to {plan.output_width}x{plan.output_height}"


def labels(job: Job) -> str:
    return " ".join(f"{key}={value}" for key, value in sorted(job.labels.items()))


def _took(job: Job) -> str:
    """From the beginning of the work to its end."""
    start: datetime | None = job.start_time
    return duration((job.end_time - start).total_seconds()) if start and job.end_time else ""


def _callback(job: Job) -> str:
    told = job.callback
    if told is None:
        return ""
    text = f"{told.state}, {told.url}"
    if told.attempts:
        text += f", {told.attempts} tried, last answer {told.last_http_status or 'none'}"
    return text + (f", next {shown(told.next_attempt_time)}" if told.next_attempt_time else "")


def _result(job: Job) -> dict[str, str]:
    result = job.result
    if result is None:
        return {}
    left = result.credits.remaining
    charged = f"{result.credits.charged:g}" + (f", {left:g} left" if left is not None else "")
    facts = {"credits": charged if result.credits.charged or left is not None else ""}
    for output in result.outputs:
        facts["output"] = f"{output.file_name}, {size_text(output.size_bytes)}, id {output.id}"
        facts["url"] = output.url
    if result.warnings:
        facts["remarks"] = "; ".join(result.warnings)
    return facts
