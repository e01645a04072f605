"""What tells whether two requests with one id ask for the same."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from pydantic import TypeAdapter

from upscaled_server.access.caller import Caller
from upscaled_server.jobs.job import InputSummary, JobSource
from upscaled_server.pipeline.request import Bytes, Options

_OPTIONS = TypeAdapter(Options)


@dataclass(frozen=True, slots=True)
class NewJob:
    """What a caller asks for; `image` is the encoded file where it came along. `retention` in seconds."""

    caller: Caller
    source: JobSource
    options: Options
    image: Bytes | None = None
    request_id: str = ""
    callback_url: str = ""
    retention: float | None = None


def payload_of(new: NewJob, image: InputSummary | None) -> str:
    """SHA-256, hexadecimal, of everything that makes the job what it is.

    Defaults are left out, so that a later version, which knows more options, finds the same.
    """
    options = json.loads(_OPTIONS.dump_json(new.options, exclude_defaults=True))
    content = {
        "source": [new.source.origin.value, new.source.value, "" if image is None else image.sha256],
        "options": options,
        "callback_url": new.callback_url,
        "retention": new.retention,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
