"""What is in the installed tree, and what is not."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.container.image import Image

# What the C library, the compiler's run-time libraries and Python's base image bring.
BASE_LIBRARIES = re.compile(
    r"(libc|libm|libmvec|libpthread|libdl|librt|libutil|libgcc_s|libstdc\+\+|libz|ld-linux-x86-64)\.so\.\d+"
)
# The driver's, which the NVIDIA container toolkit brings.
DRIVER_LIBRARIES = re.compile(r"(libcuda|libnvidia-ml)\.so\.1")
# For several machines over InfiniBand or MPI, and for reading from remote disks: opened only where such a
# network is asked for.
CLUSTER_PLUGINS = re.compile(r"nvshmem_(transport|bootstrap)_.+|libcufile_rdma.+")


def _files(image: Image) -> list[Path]:
    return [Path(at) / name for at, _, names in os.walk(image.prefix) for name in names]


def test_its_size_is_the_documented_one(image: Image, capsys: pytest.CaptureFixture[str]) -> None:
    """`deploy/docker/README.md` states it in MB of 10^6 bytes; a tenth more or less is news."""
    size = sum(path.lstat().st_size for path in _files(image)) / 1e6
    with capsys.disabled():
        print(f"\ninstalled tree of the {image.stage} image: {size:.0f} MB")
    readme = Path(__file__).resolve().parents[2] / "deploy" / "docker" / "README.md"
    stated = re.search(rf"^\| `{image.stage}` \| ([\d,]+) MB", readme.read_text(), re.MULTILINE)
    assert stated is not None
    assert size == pytest.approx(float(stated[1].replace(",", "")), rel=0.1)


def test_nothing_in_it_installs_or_compiles(image: Image) -> None:
    packages = next(image.prefix.glob("lib/python*/site-packages"))
    assert not [found.name for found in packages.glob("pip*")]
    names = {path.name for path in (image.prefix / "bin").iterdir()}
    assert {re.sub(r"[\d.]+$", "", name) for name in names} == {"python", "upscaled"}
    for layer in image.layers[:-1]:  # those above the base image
        tools = re.compile(r"(pip|easy_install|gcc|g\+\+|cc|clang|ld|make|uv)([\d.-].*)?")
        for folder in ("usr/bin", "usr/local/bin", "opt/upscaled/bin"):
            there = (layer / folder).iterdir() if (layer / folder).is_dir() else []
            # What a layer takes away from those below is a device there.
            found = [path.name for path in there if not path.is_char_device()]
            assert not [name for name in found if tools.fullmatch(name)]


def test_pip_is_gone_from_the_base(image: Image) -> None:
    done = subprocess.run(
        image.command("python", "-m", "pip", "--version"), capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "No module named pip" in done.stderr
    done = subprocess.run(
        image.command("/usr/local/bin/python3", "-m", "pip", "--version"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "No module named pip" in done.stderr


@pytest.mark.parametrize("left_over", ["tests", "*.a", "*.pyx"])
def test_nothing_for_developers_is_left(image: Image, left_over: str) -> None:
    packages = next(image.prefix.glob("lib/python*/site-packages"))
    whole = ("torch", "triton", "nvidia")
    found = [path.relative_to(packages) for path in packages.rglob(left_over)]
    assert not [path for path in found if not path.parts[0].startswith(whole)]


def test_its_files_are_compiled_and_belong_to_root(image: Image) -> None:
    packages = next(image.prefix.glob("lib/python*/site-packages"))
    for module in ("upscaled_server/app", "upscaled/__init__", "typer/main", "numpy/__init__"):
        source = packages / f"{module}.py"
        assert list((source.parent / "__pycache__").glob(f"{source.stem}.*.pyc"))
    assert {path.lstat().st_uid for path in _files(image)} == {0}
    assert not [path for path in _files(image) if not path.is_symlink() and path.stat().st_mode & 0o022]


def test_every_library_it_needs_is_in_it_or_in_the_base_image(image: Image) -> None:
    found = [path for path in _files(image) if re.search(r"\.so(\.|$)", path.name)]
    libraries = [path for path in found if not CLUSTER_PLUGINS.fullmatch(path.name)]
    own = {path.name for path in libraries}
    needed = {name: path for path in libraries for name in _needed(path)}
    assert needed, "nothing was looked at"
    foreign = {name: path for name, path in needed.items() if name not in own}
    base = {name for name in foreign if BASE_LIBRARIES.fullmatch(name) or DRIVER_LIBRARIES.fullmatch(name)}
    assert not {name: str(path) for name, path in foreign.items() if name not in base}


def _needed(library: Path) -> list[str]:
    done = subprocess.run(["readelf", "--dynamic", str(library)], capture_output=True, text=True, check=False)
    return re.findall(r"\(NEEDED\).*\[(.+)\]", done.stdout)


def test_models_are_where_the_volume_may_take_their_place(image: Image) -> None:
    """Nothing is fetched unless the build is told so; the folder is there all the same."""
    folder = image.layers[0] / "models"
    assert folder.is_dir()
    assert list(folder.iterdir()) == []
    assert image.environment["UPSCALED_MODEL_DIR"] == "/models"


def test_torch_is_in_the_cuda_image_alone_and_can_be_imported(image: Image) -> None:
    done = subprocess.run(
        image.command("python", "-c", "import torch, torchvision, spandrel; print(torch.version.cuda)"),
        capture_output=True,
        text=True,
        check=False,
    )
    if image.stage == "cuda":
        assert done.returncode == 0, done.stderr
        assert re.fullmatch(r"\d+\.\d+\n", done.stdout)
    else:
        assert "No module named 'torch'" in done.stderr


def test_it_can_share_its_state_with_other_servers(image: Image) -> None:
    modules = ("store", "news", "credentials", "work.queue")
    wanted = ", ".join(f"upscaled_server.state.nats.{name}" for name in modules)
    done = subprocess.run(
        image.command("python", "-c", f"import {wanted}"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
