"""The commands and the SDK's jobs against a real server: submitted, followed, fetched, chained, cancelled."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.e2e.conftest import RunningServer
from tests.e2e.keyed import FAST, command, picture
from upscaled import Client, InvalidRequestError, NotFoundError, Tiles


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(picture(48, 40))
    return path


def test_a_file_goes_in_and_the_same_bytes_as_of_a_call_come_out(
    server: RunningServer, photo: Path, tmp_path: Path
) -> None:
    at = {"UPSCALED_SERVER": server.address, "NO_COLOR": "1"}
    label = f"run={tmp_path.name}"
    done = command("jobs", "submit", str(photo), "-m", FAST, "--scale", "2", "--label", label, "--wait", **at)
    assert done.returncode == 0, done.stderr
    job = done.stdout.strip()
    assert "photo.jpg: succeeded, 96x80" in done.stderr
    listed = command("jobs", "list", "--label", label, "--state", "succeeded", "--since", "1h", **at)
    assert job in listed.stdout
    shown = json.loads(command("jobs", "get", job, "--json", **at).stdout)
    assert (shown["state"], shown["input"]["size_bytes"]) == (
        "JOB_STATE_SUCCEEDED",
        str(photo.stat().st_size),
    )
    output = tmp_path / "out.png"
    fetched = command("jobs", "download", job, "-o", str(output), **at)
    assert fetched.returncode == 0, fetched.stderr
    with Client(server.address) as client:
        assert output.read_bytes() == client.upscale(photo, model=FAST, scale=2).data
    assert command("jobs", "delete", job, **at).returncode == 0
    gone = command("jobs", "get", job, **at)
    assert gone.returncode == 1
    assert "Traceback" not in gone.stderr


def test_a_large_file_is_uploaded_and_used_twice(server: RunningServer, tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    # Bytes behind the end of a JPEG are of no consequence, and make it large without making it slow.
    photo.write_bytes(picture(48, 40) + os.urandom(12 * 1024 * 1024))
    with Client(server.address, timeout=120) as client:
        stored = client.inputs.upload(photo)
        plans = [client.jobs.create(stored, model=FAST, scale=s, validate_only=True).plan for s in (2, 3)]
        assert [plan.output_width for plan in plans if plan] == [96, 144]
        job = client.jobs.create(photo, model=FAST, request_id="twice")
        assert job.wait(60).width == 192
        assert client.jobs.create(photo, model=FAST, request_id="twice").id == job.id


def test_a_job_is_made_of_another_s_output_and_its_tiles_cover_it(
    server: RunningServer, photo: Path, tmp_path: Path
) -> None:
    with Client(server.address, timeout=120) as client:
        first = client.jobs.create(photo, model=FAST, scale=2, wait=60)
        assert first.done
        second = client.jobs.create(first, model=FAST, scale=1, tiles=Tiles(size=64), format="jpeg")
        assert second.wait(60).content_type == "image/jpeg"
        area = sum(tile.width * tile.height for tile in second.tiles())
        assert area == 96 * 80
        assert second.download(tmp_path).suffix == ".jpg"
        events = list(second.watch())
        assert [events[0].state, events[-1].state] == ["queued", "succeeded"]
        assert list(second.watch(after=events[-2].number)) == events[-1:]


def test_what_is_refused_says_why(server: RunningServer, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not an image")
    at = {"UPSCALED_SERVER": server.address, "NO_COLOR": "1"}
    done = command("jobs", "submit", str(tmp_path / "notes.txt"), "--wait", **at)
    assert done.returncode == 1
    assert "notes.txt" in done.stderr
    assert "Traceback" not in done.stderr
    inside = command("jobs", "submit", "http://127.0.0.1:9/a.png", "--wait", **at)
    assert inside.returncode == 1
    with Client(server.address, timeout=60) as client:
        with pytest.raises(NotFoundError):
            client.jobs.get("01ARZ3NDEKTSV4RRFFQ69G5FAV")
        with pytest.raises(NotFoundError):
            client.outputs.download("01ARZ3NDEKTSV4RRFFQ69G5FAV", tmp_path / "x.png")
        with pytest.raises(InvalidRequestError):
            client.jobs.create(picture(8, 8), model=FAST, retention=10**9)
    assert not (tmp_path / "x.png").exists()


def test_a_cancelled_job_ends_as_one(server: RunningServer, tmp_path: Path) -> None:
    with Client(server.address, timeout=120) as client:
        # A network that is slow enough to be caught at work.
        slow = "real-esrgan-x4-plus-anime"
        jobs = [client.jobs.create(picture(400, 400), model=slow, request_id=f"c{n}") for n in range(6)]
        at = {"UPSCALED_SERVER": server.address, "NO_COLOR": "1"}
        assert command("jobs", "cancel", *(job.id for job in jobs), **at).returncode == 0
        watched = command("jobs", "watch", jobs[-1].id, **at)
        assert watched.returncode == 1
        assert jobs[-1].refresh().state == "cancelled"
        done = command("jobs", "download", jobs[-1].id, "-o", str(tmp_path / "x.png"), **at)
        assert "cancelled, so there is nothing to fetch" in done.stderr
