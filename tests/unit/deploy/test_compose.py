"""The compose file: hardened, and of files, settings and ports that are there."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from tests.conftest import REPO
from tests.container.dockerfile import read

FOLDER = REPO / "deploy" / "docker"
SERVICES: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]


@pytest.mark.parametrize("name", ["upscaled", "edge"])
def test_every_service_is_hardened(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert not any("docker.sock" in volume for volume in service["volumes"])


def test_its_ports_are_open_to_this_machine_alone() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports == ["127.0.0.1:8080:8080"]


def test_the_server_can_write_to_its_volume_and_listens_where_envoy_calls() -> None:
    dockerfile = read(FOLDER / "Dockerfile")
    server = SERVICES["upscaled"]
    data = dockerfile.environment("cpu")["UPSCALED_DATA_DIR"]
    assert server["volumes"] == [f"data:{data}"]
    assert server["build"]["target"] in dockerfile.stages
    assert SERVICES["edge"]["network_mode"] == "service:upscaled"
    host, _, port = server["environment"]["UPSCALED_LISTEN"].partition(":")
    envoy = (REPO / "deploy" / "envoy" / "envoy.yaml").read_text()
    assert re.search(rf"address: {re.escape(host)}, port_value: {port}", envoy)


def test_what_it_mounts_is_in_the_repository_or_made_by_a_target() -> None:
    made = {"../envoy/upscaled.pb"}  # by `make edge-descriptors`
    envoy = (REPO / "deploy" / "envoy" / "envoy.yaml").read_text()
    for volume in SERVICES["edge"]["volumes"]:
        source, target, mode = volume.split(":")
        assert mode == "ro"
        assert source in made or (FOLDER / source).exists()
        assert target in envoy or target.endswith("envoy.yaml")


def test_every_setting_is_one_that_the_server_knows() -> None:
    from upscaled_server import app
    from upscaled_server.settings import Settings

    Settings(app.SETTINGS, SERVICES["upscaled"]["environment"])


def test_it_is_stopped_no_sooner_than_running_calls_may_end() -> None:
    from upscaled_server.api.listen import ListenSettings

    assert int(SERVICES["upscaled"]["stop_grace_period"].removesuffix("s")) > ListenSettings().grace_seconds
