"""The page of settings says of each what it is."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
from pydantic.fields import FieldInfo
from tests.conftest import REPO

from upscaled_server.api.listen import ListenSettings
from upscaled_server.app import SETTINGS
from upscaled_server.jobs.callbacks.settings import CallbackSettings
from upscaled_server.pipeline.limits import LimitSettings
from upscaled_server.pool.settings import PoolSettings
from upscaled_server.settings import Settings

RENDER = runpy.run_path(str(REPO / "scripts" / "render_settings.py"))
PAGE = REPO / "docs" / "settings.md"
FIELDS = [(name, field) for kind in SETTINGS for name, field in kind.model_fields.items()]

# What a number counts stands in its name, or is one of these.
COUNTS = re.compile(
    r"threads|band_rows|max_(scale|passes|calls|open_runs|waiting_runs|running_jobs|job_restarts)"
    r"|max_queued_jobs(_per_caller)?|max_concurrent_\w+|max_files_per_caller|decode_parallel"
    r"|steps_ahead|worker_nice|fetch_max_redirects|\w+_ratio|cluster_replicas|cluster_max_deliveries"
)


def test_every_setting_is_on_the_page_once() -> None:
    page = PAGE.read_text()
    for name, _ in FIELDS:
        assert page.count(f"| `UPSCALED_{name.upper()}` |") == 1


@pytest.mark.parametrize(("name", "field"), FIELDS, ids=[name for name, _ in FIELDS])
def test_every_setting_says_what_it_is(name: str, field: FieldInfo) -> None:
    assert (field.description or "").strip().endswith("."), "a description, as a sentence"
    value = RENDER["value_of"](name, field)
    assert value
    if value.startswith("number"):
        assert COUNTS.fullmatch(name), "a number's name ends in its unit, or it is a known count"


def test_bounds_and_defaults_are_those_that_are_enforced() -> None:
    fields = PoolSettings.model_fields | LimitSettings.model_fields | CallbackSettings.model_fields
    rendered = {
        name: (RENDER["default_of"](name, f), RENDER["value_of"](name, f)) for name, f in fields.items()
    }
    assert rendered["band_rows"] == ("", "rows, from 4, to 4096, in steps of 4")
    assert rendered["max_input_bytes"] == ("`67108864` (64 MiB)", "bytes, from 1")
    assert rendered["callback_seconds"] == ("`15`", "seconds, above 0, to 300")
    assert rendered["callback_ports"] == ("`80,443`", "list")
    assert rendered["limits"] == ("`default`", "`default` or `hosted`")


def test_the_file_that_the_page_shows_is_read(tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    file = tmp_path / "upscaled.yaml"
    file.write_text(example + "callback_ports: [443, 8443]\n")
    settings = Settings(SETTINGS, {"UPSCALED_CONFIG": str(file)})
    assert settings[ListenSettings].listen == "0.0.0.0:50051"
    assert settings[LimitSettings].max_input_pixels == 25_000_000
    assert settings[CallbackSettings].callback_ports == {443, 8443}
