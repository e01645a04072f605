"""The command, run as a person runs it, against the fake server."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import grpc
import pytest
from fake_server import Failure, FakeServer
from running import run

import upscaled

pytest.importorskip("typer", reason="needs the extra cli")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"an image")
    return path


def test_the_version_is_printed() -> None:
    assert run("--version").stdout == f"upscaled {upscaled.__version__}\n"


def test_the_help_names_every_command_and_option() -> None:
    assert all(word in run("--help").stdout for word in ("upscale", "models", "jobs", "usage", "--version"))
    text = run("upscale", "--help").stdout
    for option in [
        "--output",
        "--model",
        "--scale",
        "--width",
        "--height",
        "--fit",
        "--format",
        "--quality",
        "--keep-colors",
        "--preview",
        "--server",
        "--overwrite",
    ]:
        assert option in text


def test_a_file_is_enlarged_beside_itself(server: FakeServer, photo: Path) -> None:
    done = run("upscale", photo, server=server)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{photo.parent / 'photo_x4.png'}\n"
    assert (photo.parent / "photo_x4.png").read_bytes() == server.file
    assert "4x3 to 16x12" in done.stderr
    assert "\x1b" not in done.stderr


def test_options_reach_the_server(server: FakeServer, photo: Path) -> None:
    done = run(
        *(
            "upscale",
            photo,
            "-m",
            "real-esrgan-animevideo-v3",
            "--width",
            "2048",
            "--height",
            "1024",
            "--fit",
            "cover",
        ),
        *("-q", "80", "-o", photo.parent / "out.jpg", "--api-key", "k", "--timeout", "50"),
        "--keep-colors",
        server=server,
    )
    assert done.returncode == 0, done.stderr
    call = server.called("UpscaleStream")[0]
    options = call.request.options
    assert (options.model, options.width, options.height) == ("real-esrgan-animevideo-v3", 2048, 1024)
    assert (options.fit, options.format, options.quality) == (2, 2, 80)
    assert options.keep_colors
    assert call.metadata["authorization"] == "Bearer k"
    assert call.time_remaining is not None
    assert call.time_remaining < 51


def test_a_folder_is_enlarged_and_a_second_run_goes_on(server: FakeServer, photo: Path) -> None:
    folder = photo.parent / "photos"
    folder.mkdir()
    photo.rename(folder / "a.jpg")
    (folder / "b.png").write_bytes(b"another")
    server.fail("UpscaleStream", Failure(grpc.StatusCode.INVALID_ARGUMENT, "not an image"))
    first = run("upscale", folder, "-s", "2", server=server)
    assert first.returncode == 1
    assert "a.jpg: not an image." in first.stderr
    assert "1 of 2 images failed" in first.stderr
    second = run("upscale", folder, "-s", "2", server=server)
    assert second.returncode == 0
    assert "b.png: skipped," in second.stderr
    assert sorted(path.name for path in (folder.parent / "photos_x2").iterdir()) == ["a.png", "b.png"]
    assert len(server.called("UpscaleStream")) == 3


def test_an_existing_file_is_kept_unless_told(server: FakeServer, photo: Path) -> None:
    target = photo.parent / "photo_x4.png"
    target.write_bytes(b"precious")
    refused = run("upscale", photo, server=server)
    assert refused.returncode == 1
    assert "--overwrite replaces it" in refused.stderr
    assert target.read_bytes() == b"precious"
    assert run("upscale", photo, "--overwrite", server=server).returncode == 0
    assert target.read_bytes() == server.file


def test_json_has_one_line_per_image_and_nothing_else(server: FakeServer, photo: Path) -> None:
    other = photo.parent / "other.jpg"
    other.write_bytes(b"image")
    failure = Failure(
        grpc.StatusCode.RESOURCE_EXHAUSTED, "too large", "LIMIT_EXCEEDED", {"limit": "5", "actual": "9"}
    )
    server.fail("UpscaleStream", failure)
    done = run("upscale", photo, other, "-o", photo.parent / "out", "--json", server=server)
    first, second = map(json.loads, done.stdout.splitlines())
    assert done.returncode == 1
    assert first["error"]["code"] == "RESOURCE_EXHAUSTED"
    assert first["error"]["metadata"] == {"limit": 5, "actual": 9}
    assert (second["width"], second["size_bytes"]) == (16, len(server.file))


def test_long_work_is_announced_with_the_faster_model(server: FakeServer, photo: Path) -> None:
    server.plan.input_width, server.plan.input_height, server.plan.estimated_seconds = 4000, 3000, 1860
    done = run("upscale", photo, server=server)
    assert "12 megapixels with real-esrgan-x4-plus will take about 31 min" in done.stderr
    assert "--model real-esrgan-animevideo-v3" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing.png"], "no such file"),
        (["photo.jpg", "-s", "2", "--width", "64"], "exclude each other"),
        (["photo.jpg", "--fit", "fill"], "one of contain, cover, stretch"),
        (["photo.jpg", "-o", "x.xyz"], ".xyz"),
        ([], "Missing argument"),
    ],
)
def test_wrong_usage_is_code_2_and_calls_nobody(
    server: FakeServer, photo: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    monkeypatch.chdir(photo.parent)
    done = run("upscale", *arguments, server=server)
    assert done.returncode == 2
    assert words in done.stderr
    assert not server.calls


def test_nobody_there_is_code_1_and_one_line(photo: Path) -> None:
    done = run("upscale", photo, "--server", "127.0.0.1:1")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "upscaled serve --listen" in done.stderr


def test_the_catalogue_is_listed(server: FakeServer) -> None:
    done = run("models", "list", server=server)
    assert done.returncode == 0
    assert "real-esrgan-x4-plus (default)" in done.stdout
    assert json.loads(run("models", "list", "--json", server=server).stdout.splitlines()[1])["scale"] == 4


def test_on_a_terminal_there_is_a_bar_with_rows(server: FakeServer, photo: Path) -> None:
    server.hang_after_events = 3
    terminal, end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "upscaled", "upscale", photo],
        stdout=subprocess.PIPE,
        stderr=end,
        env={**os.environ, "UPSCALED_SERVER": server.target, "TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(end)
    seen = b""
    try:
        while b"rows" not in seen:
            seen += os.read(terminal, 4096)
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):
            while piece := os.read(terminal, 4096):
                seen += piece
        assert process.wait(20) == 130
    finally:
        process.kill()
        process.communicate()
        os.close(terminal)
    assert b"6/12 rows" in seen
    assert b"50%" in seen
    assert b"Traceback" not in seen
    assert b"interrupted" in seen


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_is_code_130_and_leaves_nothing(
    server: FakeServer, photo: Path, by: signal.Signals
) -> None:
    server.hang_after_events = 3
    process = subprocess.Popen(
        [sys.executable, "-m", "upscaled", "upscale", photo],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "UPSCALED_SERVER": server.target},
    )
    try:
        for _ in range(1000):
            if server.called("UpscaleStream"):
                break
            threading.Event().wait(0.01)
        process.send_signal(by)
        _, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Traceback" not in stderr
    assert server.called("UpscaleStream")[0].cancelled.wait(5)
    assert [path.name for path in photo.parent.iterdir()] == ["photo.jpg"]


# Other packages' commands, and the server that the command starts for itself: both played by a small package.

PLAYED_SERVER = """
    import os, sys, time
    sys.path.insert(0, {tests!r})
    import typer
    from fake_server import FakeServer

    def register(app, models_app):
        @app.command("serve")
        def serve(listen: str = ""):
            {before}
            fake = FakeServer()
            fake.start(listen)
            with open({note!r}, "w") as file:
                file.write(str(os.getpid()) + " " + os.environ["UPSCALED_DATA_DIR"])
            print("upscaled listening on " + fake.target, flush=True)
            time.sleep(600)

        @models_app.command("pull")
        def pull():
            typer.echo("pulled")
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder for PYTHONPATH with a distribution that offers `serve`, and without the real server's."""
    folder = tmp_path / "site"
    (folder / "played-1.dist-info").mkdir(parents=True)
    (folder / "played-1.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: played\nVersion: 1\n"
    )
    (folder / "played-1.dist-info" / "entry_points.txt").write_text(
        "[upscaled.commands]\nserve = played:register\n"
    )
    # Metadata found first wins; this one hides the entry of the installed distribution.
    (folder / "upscaled-0.dist-info").mkdir()
    (folder / "upscaled-0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: upscaled\nVersion: 0\n"
    )
    return folder


def write_server(site: Path, before: str = "") -> Path:
    note = site / "note"
    source = PLAYED_SERVER.format(tests=os.fspath(Path(__file__).parent), note=os.fspath(note), before=before)
    (site / "played.py").write_text(textwrap.dedent(source))
    return note


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def gone(pid: int) -> bool:
    for _ in range(1000):
        if not alive(pid):
            return True
        threading.Event().wait(0.01)
    return False


def test_commands_of_other_packages_are_found(site: Path) -> None:
    write_server(site)
    assert "serve" in run("--help", PYTHONPATH=os.fspath(site)).stdout
    assert run("models", "pull", PYTHONPATH=os.fspath(site)).stdout == "pulled\n"


def test_a_package_that_cannot_be_loaded_takes_nothing_else_away(site: Path) -> None:
    (site / "played.py").write_text("import a_package_that_is_not_there\n")
    done = run("serve", PYTHONPATH=os.fspath(site))
    assert done.returncode == 1
    assert "a_package_that_is_not_there" in done.stderr
    assert "Traceback" not in done.stderr
    assert run("--version", PYTHONPATH=os.fspath(site)).returncode == 0


def test_a_missing_extra_is_named(site: Path, photo: Path) -> None:
    (site / "played.py").write_text("import a_package_that_is_not_there\n")
    metadata = site / "upscaled-0.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text() + 'Requires-Dist: absent-package>=1; extra == "server"\n')
    done = run("serve", PYTHONPATH=os.fspath(site))
    assert done.stderr == "upscaled serve: needs absent-package: pip install 'upscaled[server]'\n"
    # Without the extra no server is started: the default address is tried, and the way out is said.
    there = run("upscale", photo, PYTHONPATH=os.fspath(site), UPSCALED_SERVER="")
    assert there.returncode in (0, 1)
    assert "starting a server" not in there.stderr


def test_a_server_is_started_for_the_command_and_stopped_after_it(site: Path, photo: Path) -> None:
    note = write_server(site)
    done = run("upscale", photo, PYTHONPATH=os.fspath(site), UPSCALED_API_KEY="k")
    assert done.returncode == 0, done.stderr
    assert "starting a server" in done.stderr
    pid, data = note.read_text().split()
    assert gone(int(pid))
    assert not Path(data).exists()


def test_a_server_that_does_not_start_is_explained(site: Path, photo: Path) -> None:
    write_server(site, before="sys.exit('the moon is wrong')")
    done = run("upscale", photo, PYTHONPATH=os.fspath(site))
    assert done.returncode == 1
    assert "the moon is wrong" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_started_server_never_outlives_the_command(site: Path, photo: Path) -> None:
    note = write_server(site)
    # The played server answers quickly; a folder with many images keeps the command busy.
    folder = photo.parent / "many"
    folder.mkdir()
    for number in range(500):
        (folder / f"{number}.png").write_bytes(b"image")
    process = subprocess.Popen(
        [sys.executable, "-m", "upscaled", "upscale", folder],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # A killed command cannot remove its temporary folder.
        env={**os.environ, "PYTHONPATH": os.fspath(site), "TMPDIR": os.fspath(site)},
    )
    try:
        for _ in range(3000):
            if note.exists() and note.read_text():
                break
            threading.Event().wait(0.01)
        pid = int(note.read_text().split()[0])
        process.kill()
        process.wait(10)
        assert gone(pid)
    finally:
        process.kill()


def test_without_the_extra_the_command_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise ModuleNotFoundError('no typer', name='typer')\n")
    done = run("--version", PYTHONPATH=os.fspath(tmp_path))
    assert done.returncode == 1
    assert "typer" in done.stderr
    assert "pip install 'upscaled[cli]'" in done.stderr
