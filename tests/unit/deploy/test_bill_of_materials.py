"""The SBOMs: valid CycloneDX, and of the very packages that the locks pin."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from tests.conftest import REPO
from tests.unit.deploy.locked import pins_of

SBOMS = REPO / "deploy" / "docker" / "sbom"
# Its metadata names none: it holds no files, only the names of NVIDIA's packages.
WITHOUT_LICENCE = {"cuda": {"cuda-toolkit"}, "cpu": set[str]()}


def _bill(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((SBOMS / f"{name}.cdx.json").read_text())
    return content


@pytest.mark.parametrize("name", ["cpu", "cuda"])
def test_it_is_valid_cyclonedx(name: str) -> None:
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    assert validator.validate_str((SBOMS / f"{name}.cdx.json").read_text()) is None
    broken = _bill(name) | {"bomFormat": "Other"}
    assert validator.validate_str(json.dumps(broken)) is not None


@pytest.mark.parametrize("name", ["cpu", "cuda"])
def test_it_lists_what_the_lock_pins_with_a_hash_that_stands_there(name: str) -> None:
    pins = {pin.name: pin for pin in pins_of(name) if pin.holds("3.11")}
    components = {each["name"]: each for each in _bill(name)["components"]}
    assert {each: found["version"] for each, found in components.items()} == {
        each: pin.version for each, pin in pins.items()
    }
    for each, found in components.items():
        (digest,) = found["hashes"]
        assert digest["alg"] == "SHA-256"
        assert digest["content"] in pins[each].hashes
        assert found["purl"] == f"pkg:pypi/{each}@{found['version']}"


@pytest.mark.parametrize("name", ["cpu", "cuda"])
def test_it_says_under_which_licence_each_package_is(name: str) -> None:
    without = {each["name"] for each in _bill(name)["components"] if not each.get("licenses")}
    assert without == WITHOUT_LICENCE[name]


@pytest.mark.parametrize("name", ["cpu", "cuda"])
def test_it_names_no_address_of_an_index(name: str) -> None:
    text = (SBOMS / f"{name}.cdx.json").read_text()
    assert {line.strip() for line in text.splitlines() if "://" in line} == {
        '"$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",'
    }
