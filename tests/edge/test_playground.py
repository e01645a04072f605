"""The playground in a real Chromium: the whole flow, a refused key, a bad file, a cancelled run."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.e2e.conftest import running_server
from tests.edge.conftest import MODEL, Edge, running_edge, screenshots
from upscaled_server.access import keys

playwright = pytest.importorskip("playwright.sync_api", reason="the browser's driver: make edge-test")
pytestmark = pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--no-proxy-server"]
        )
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Any, edge: Edge) -> Iterator[Any]:
    """The playground, opened; nothing may be logged as an error by the end."""
    with opened(browser, edge.url) as page:
        yield page


@contextmanager
def opened(browser: Any, url: str, *, wait: bool = True, **context: Any) -> Iterator[Any]:
    """A page of the playground, none of whose scripts may fail. `wait` until it knows the models."""
    errors: list[str] = []
    with closing(browser.new_context(accept_downloads=True, **context)) as window:
        page = window.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(url)
        if wait:
            page.wait_for_selector("#model option", state="attached")
        yield page
        assert not errors


def look(page: Any, name: str) -> None:
    folder = screenshots()
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=folder / f"{name}.png", full_page=True)


def give(page: Any, path: Path) -> None:
    page.set_input_files("#file", path)
    page.select_option("#model", MODEL)


def test_a_picture_goes_in_is_watched_and_comes_out(page: Any, picture: Path, tmp_path: Path) -> None:
    look(page, "start")
    give(page, picture)
    page.fill("#scale", "4")
    page.click("#run")
    page.wait_for_selector("#result:not([hidden])", timeout=60_000)
    assert page.inner_text("#status").startswith("Done")
    assert page.evaluate(
        "[document.querySelector('#after').width, document.querySelector('#after').height]"
    ) == [
        384,
        256,
    ]
    with page.expect_download() as download:
        page.click("#download")
    saved = tmp_path / "saved.png"
    download.value.save_as(saved)
    assert download.value.suggested_filename == "picture_upscaled.png"
    image = Image.open(saved)
    assert (image.format, image.size) == ("PNG", (384, 256))
    # What was drawn tile by tile is what the file holds.
    drawn = page.evaluate(
        "[...document.querySelector('#after').getContext('2d').getImageData(100, 50, 1, 1).data].slice(0, 3)"
    )
    assert tuple(drawn) == image.convert("RGB").getpixel((100, 50))
    assert f'model="{MODEL}"' in page.inner_text("#code-python")
    page.click("#tab-curl")
    assert "/v1/upscale:file?" in page.inner_text("#code-curl")
    look(page, "done")


def test_input_and_output_are_compared_with_the_keyboard(page: Any, picture: Path) -> None:
    give(page, picture)
    page.click("#run")
    page.wait_for_selector("#compare:not([hidden])", timeout=60_000)
    page.focus("#slider")
    for _ in range(10):
        page.keyboard.press("ArrowLeft")
    assert page.input_value("#slider") == "40"
    assert "60%" in page.evaluate("document.querySelector('#before').style.clipPath")
    page.focus("#magnify")
    page.keyboard.press("Space")
    before = page.evaluate("document.querySelector('#lens').style.left")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.querySelector('#lens').style.left") != before
    look(page, "magnifier")


def test_a_file_that_is_no_picture_is_explained(page: Any, tmp_path: Path) -> None:
    bad = tmp_path / "notes.png"
    bad.write_text("these are notes")
    give(page, bad)
    page.click("#run")
    page.wait_for_selector("#error:not([hidden])", timeout=30_000)
    assert "image" in page.inner_text("#error").lower()
    assert page.is_enabled("#run")
    look(page, "error")


def test_a_run_is_cancelled(page: Any, tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    Image.effect_noise((1500, 1100), 60).convert("RGB").save(large)
    give(page, large)
    page.click("#run")
    playwright.expect(page.locator("#status")).to_contain_text("left", timeout=60_000)
    look(page, "running")
    page.click("#cancel")
    playwright.expect(page.locator("#status")).to_contain_text("Cancelled", timeout=10_000)
    assert page.is_enabled("#run")


def test_a_refused_key_asks_for_another(browser: Any, tmp_path: Path) -> None:
    key = keys.generate()
    file = tmp_path / "keys.yaml"
    file.write_text(f"page:\n  keys: [{key}]\n")
    with (
        running_server(UPSCALED_API_KEYS_FILE=str(file)) as server,
        running_edge(server) as edge,
        opened(browser, edge.url, wait=False) as page,
    ):
        page.wait_for_selector("#error:not([hidden])", timeout=30_000)
        assert page.evaluate("document.activeElement.id") == "key"
        page.fill("#key", "upk_wrong")
        page.press("#key", "Enter")
        playwright.expect(page.locator("#error")).not_to_be_empty()
        assert page.is_disabled("#run")
        look(page, "key")
        page.fill("#key", key)
        page.press("#key", "Enter")
        page.wait_for_selector("#model option", state="attached")
        assert page.is_hidden("#error")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_everything_without_scrolling_sideways(
    browser: Any, edge: Edge, picture: Path, scheme: str
) -> None:
    with opened(browser, edge.url, viewport={"width": 375, "height": 800}, color_scheme=scheme) as page:
        give(page, picture)
        page.click("#run")
        page.wait_for_selector("#result:not([hidden])", timeout=60_000)
        assert page.evaluate("document.documentElement.scrollWidth") <= 375
        look(page, f"phone-{scheme}")


def test_every_control_has_a_name(page: Any) -> None:
    unnamed = page.evaluate(
        """[...document.querySelectorAll('input, select, button, progress, a')]
             .filter((each) => !each.labels?.length && !each.ariaLabel && !each.textContent.trim())
             .map((each) => each.id || each.outerHTML)"""
    )
    assert unnamed == []


def test_a_picture_with_alpha_keeps_its_holes(page: Any, tmp_path: Path) -> None:
    source = Image.new("RGBA", (64, 64), (200, 40, 40, 255))
    source.paste((0, 0, 0, 0), (0, 0, 32, 64))
    path = tmp_path / "holes.png"
    source.save(path)
    give(page, path)
    page.click("#run")
    page.wait_for_selector("#result:not([hidden])", timeout=60_000)
    alpha = page.evaluate(
        """[20, 230].map((x) =>
             document.querySelector('#after').getContext('2d').getImageData(x, 128, 1, 1).data[3])"""
    )
    assert alpha == [0, 255]
    with page.expect_download() as download:
        page.click("#download")
    data = Path(download.value.path()).read_bytes()
    assert Image.open(io.BytesIO(data)).mode == "RGBA"
