"""What the Dockerfile promises, read from the file; `make container-check` runs it."""

from __future__ import annotations

import re

import pytest
from tests.conftest import REPO
from tests.container.dockerfile import read

DOCKERFILE = read(REPO / "deploy" / "docker" / "Dockerfile")
IMAGES = ("cpu", "cuda")


def test_every_base_has_a_version_and_can_be_given_with_its_digest() -> None:
    bases = {stage.base for stage in DOCKERFILE.stages.values()} - set(DOCKERFILE.stages)
    assert bases == {"${PYTHON_IMAGE}"}
    tag = DOCKERFILE.arguments["PYTHON_IMAGE"].partition(":")[2]
    assert re.fullmatch(r"3\.\d+-slim-\w+", tag)


@pytest.mark.parametrize("image", IMAGES)
def test_it_runs_as_a_numeric_user_that_is_not_root(image: str) -> None:
    user, _, group = DOCKERFILE.last(image, "USER").value.partition(":")
    assert int(user) >= 10_000
    assert int(group) >= 10_000


@pytest.mark.parametrize("image", IMAGES)
def test_it_checks_its_health_with_what_is_in_it(image: str) -> None:
    check = DOCKERFILE.last(image, "HEALTHCHECK")
    assert check.value.endswith('CMD ["upscaled", "health"]')
    assert check.flag("timeout") == "10s"
    assert DOCKERFILE.last(image, "ENTRYPOINT").words == ["upscaled"]
    assert DOCKERFILE.last(image, "CMD").words == ["serve"]


@pytest.mark.parametrize("image", IMAGES)
def test_the_last_stage_gets_nothing_but_the_tree_and_the_weights(image: str) -> None:
    copies = [each for part in DOCKERFILE.lineage(image) for each in part.all("COPY")]
    assert [(each.flag("from"), each.words[-1]) for each in copies] == [
        (f"tree-{image}", "/opt/upscaled/"),
        ("weights", "/models/"),
    ]


def test_what_is_copied_from_the_repository_is_named_and_there() -> None:
    sources = [
        source
        for stage in DOCKERFILE.stages.values()
        for each in stage.all("COPY")
        if each.flag("from") is None
        for source in each.words[:-1]
    ]
    assert sources
    for source in sources:
        assert source not in (".", "./", "/")
        assert (REPO / source).exists(), source


def test_the_context_holds_nothing_but_what_is_copied() -> None:
    lines = (REPO / ".dockerignore").read_text().splitlines()
    allowed = {line[1:] for line in lines if line.startswith("!")}
    copied = {
        source.rstrip("/")
        for stage in DOCKERFILE.stages.values()
        for each in stage.all("COPY")
        if each.flag("from") is None
        for source in each.words[:-1]
    }
    assert "*" in lines
    assert allowed == copied


def test_nothing_is_fetched_but_by_the_hashed_install_step() -> None:
    for stage in DOCKERFILE.stages.values():
        for each in (*stage.all("RUN"), *stage.all("ADD")):
            assert each.name == "RUN", "ADD fetches without a hash"
            fetches = re.search(r"\b(curl|wget|git|apt-get|pip install|pip3 install)\b", each.value)
            assert not fetches, each.value
    script = (REPO / "deploy" / "docker" / "install.sh").read_text()
    joined = script.replace("\\\n", " ").splitlines()
    installs = [line for line in joined if re.search(r"-m pip .*\b(install|wheel)\b", line)]
    assert len(installs) == 3
    for line in installs:
        assert ("--require-hashes" in line) != ("--no-index" in line), line


@pytest.mark.parametrize("image", IMAGES)
def test_every_setting_it_gives_is_one_that_the_server_knows(image: str) -> None:
    from upscaled_server import app
    from upscaled_server.settings import PREFIX, Settings

    given = {name: value for name, value in DOCKERFILE.environment(image).items() if name.startswith(PREFIX)}
    assert {"UPSCALED_DATA_DIR", "UPSCALED_LISTEN", "UPSCALED_MODEL_DIR"} <= set(given)
    Settings(app.SETTINGS, given)  # refuses what it does not know


def test_a_build_without_a_target_makes_the_cpu_image() -> None:
    assert list(DOCKERFILE.stages)[-1] == "cpu"


def test_the_cuda_image_asks_for_a_card_and_no_more() -> None:
    environ = DOCKERFILE.environment("cuda")
    assert environ["NVIDIA_DRIVER_CAPABILITIES"] == "compute,utility"
    assert "NVIDIA_VISIBLE_DEVICES" not in DOCKERFILE.environment("cpu")
