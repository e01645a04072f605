"""Generate the Python stubs of the contract: `python scripts/generate_stubs.py OUT_DIR`.

Writes `OUT_DIR/upscaled/v1/*_pb2.py`, `*_pb2_grpc.py` and their `.pyi`. Message and service stubs
come from protoc, types from mypy-protobuf (protoc's own leave the services untyped).
`--dependencies DIR` instead copies the google/ protos there, for buf, which has no module registry offline.
`--descriptors FILE` instead writes the contract as a descriptor set, for Envoy.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from google.api import annotations_pb2

REPO = Path(__file__).resolve().parents[1]


def google_protos() -> Path:
    """The folder that holds `google/api/*.proto`, of the installed googleapis-common-protos."""
    return Path(annotations_pb2.__file__).parents[2]


def copy_dependencies(target: Path) -> None:
    """Copy the google/ protos the contract imports into `target`, and nothing else."""
    for name in (
        "api/annotations",
        "api/field_behavior",
        "api/http",
        "api/httpbody",
        "rpc/status",
        "rpc/error_details",
    ):
        copy = target / "google" / f"{name}.proto"
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(google_protos() / "google" / f"{name}.proto", copy)


def generate(out: Path) -> None:
    """The stubs of every file of the contract."""
    out.mkdir(parents=True, exist_ok=True)
    plugins = Path(sys.executable).parent
    _protoc(
        f"--plugin=protoc-gen-mypy={plugins / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={plugins / 'protoc-gen-mypy_grpc'}",
        f"--python_out={out}",
        f"--grpc_python_out={out}",
        f"--mypy_out=quiet:{out}",
        f"--mypy_grpc_out=quiet:{out}",
    )


def write_descriptors(target: Path, *, comments: bool = False) -> None:
    """The contract and what it imports as one descriptor set. The details of errors are in it too: without
    them Envoy answers an error that has details with an empty body. Envoy reads no comments, and without
    them the file fits into what `kubectl apply` can send as a ConfigMap."""
    target.parent.mkdir(parents=True, exist_ok=True)
    _protoc(
        "--include_imports",
        *(["--include_source_info"] if comments else []),
        f"--descriptor_set_out={target}",
        more=("google/rpc/status.proto", "google/rpc/error_details.proto"),
    )


def _protoc(*options: str, more: tuple[str, ...] = ()) -> None:
    protos = sorted(path.relative_to(REPO / "proto") for path in (REPO / "proto").rglob("*.proto"))
    paths = (f"-I{REPO / 'proto'}", f"-I{google_protos()}")
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", *paths, *options, *map(str, protos), *more], check=True
    )


if __name__ == "__main__":
    if sys.argv[1] == "--dependencies":
        copy_dependencies(Path(sys.argv[2]))
    elif sys.argv[1] == "--descriptors":
        write_descriptors(Path(sys.argv[2]))
    else:
        generate(Path(sys.argv[1]))
