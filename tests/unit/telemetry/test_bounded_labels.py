"""Names that strangers choose make a bounded number of series."""

from __future__ import annotations

from upscaled_server.telemetry.labels import OTHER, BoundedNames


def test_the_first_names_stand_for_themselves_and_the_rest_are_other() -> None:
    names = BoundedNames(3)
    assert [names(name) for name in ("a", "b", "c", "d", "e")] == ["a", "b", "c", OTHER, OTHER]
    assert [names(name) for name in ("a", "d")] == ["a", OTHER]


def test_reserved_names_stand_for_themselves_whatever_came_before() -> None:
    names = BoundedNames(2)
    assert names("early") == "early"
    names.reserve(["early", "model"])
    names.reserve(["model"])
    seen = {names(f"custom-{number}") for number in range(1000)}
    assert names("model") == "model"
    assert len(seen - {OTHER}) == 2
