"""Keys from a file that is mounted."""

from __future__ import annotations

from pathlib import Path

import pytest

from upscaled_server.access.caller import Caller, Priority
from upscaled_server.access.keys import digest, generate
from upscaled_server.access.mounted import read_mounted
from upscaled_server.errors import FailedPrecondition

# The same in every process: the names of tests are made of it.
KEY = f"upk_{'a' * 12}_{'b' * 43}"


def _file(folder: Path, text: str) -> Path:
    path = folder / "keys.yaml"
    path.write_text(text)
    return path


def test_callers_keys_and_limits_are_read(tmp_path: Path) -> None:
    other = generate()
    path = _file(
        tmp_path,
        f"thumbs:\n  keys: [{KEY}, {other}]\n  weight: 2\n  max_priority: batch\n"
        f"  allowed_models: [real-esrgan-x4-v3]\nops:\n  keys: ['{generate()}']\n  admin: true\n",
    )
    found = read_mounted(path)
    assert found.callers["thumbs"] == Caller(
        "thumbs", weight=2.0, max_priority=Priority.BATCH, allowed_models=("real-esrgan-x4-v3",)
    )
    key = found.keys[KEY[:16]]
    assert (key.caller, key.digest, key.admin, key.mounted) == ("thumbs", digest(KEY), False, True)
    assert sorted((each.caller, each.admin) for each in found.keys.values()) == [
        ("ops", True),
        ("thumbs", False),
        ("thumbs", False),
    ]


def test_an_empty_file_has_nobody(tmp_path: Path) -> None:
    assert read_mounted(_file(tmp_path, "")).keys == {}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("- a", "must hold callers by name"),
        ("a: {", r"is not YAML \(line"),
        (f"anna:\n  keys: [{KEY}x]", r"anna\.keys\[0\] is not a key; `upscaled keys generate` makes one"),
        (f"anna: {{keys: [{KEY}, {KEY}]}}", r"anna\.keys\[1\] is there twice"),
        (f"anna: {{keys: {KEY}}}", r"anna\.keys: Input should be a valid list"),
        ("anna: {keys: []}", r"anna\.keys: List should have at least 1 item"),
        (f"anna: {{keys: [{KEY}], wieght: 2}}", r"anna\.wieght: Extra inputs are not permitted"),
        (f"anna: {{keys: [{KEY}], weight: 0}}", r"anna\.weight: is out of range"),
        (f"anna: {{keys: [{KEY}], admin: {KEY}}}", r"anna\.admin"),
        (f"Anna: {{keys: [{KEY}]}}", r"Anna\.name: is not a caller's name"),
        (KEY, "must hold callers by name"),
        (f"anna: {KEY}", r"anna: Input should be"),
    ],
)
def test_what_is_wrong_is_named_and_no_key_is_repeated(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(FailedPrecondition, match=f"UPSCALED_API_KEYS_FILE: .*{problem}") as caught:
        read_mounted(_file(tmp_path, text))
    assert KEY[16:] not in caught.value.message


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="cannot be read: No such file"):
        read_mounted(tmp_path / "none.yaml")
