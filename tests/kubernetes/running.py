"""Runs on this machine what the manifests run in a pod: the same commands and settings, other paths."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.e2e.conftest import RunningServer, running_server
from tests.e2e.keyed import command
from tests.kubernetes.installation import Installation, environ_of
from tests.kubernetes.rendering import Object, named, pods
from tests.ports import free_address


@dataclass(frozen=True)
class Pod:
    """The server of an installation. `metrics`: its address for probes; `log`: what it says."""

    installation: Installation
    server: RunningServer
    metrics: str
    key: str
    log: Path
    environ: Mapping[str, str]


@contextmanager
def running_pod(
    installation: Installation, folder: Path, files: Mapping[str, Path] | None = None
) -> Iterator[Pod]:
    """`files`: paths in the pod and what lies there, beside keys and the data folder."""
    (folder / "data").mkdir()
    generated = command("keys", "generate").stdout.strip()
    keys = folder / "keys.yaml"
    keys.write_text(f"smoke-test:\n  keys: [{generated}]\n")
    metrics = free_address()
    moved = {
        "/var/lib/upscaled/models": folder / "data" / "models",
        "/var/lib/upscaled": folder / "data",
        "/etc/upscaled/keys/keys.yaml": keys,
        **(files or {}),
    }
    environ = {
        name: str(moved.get(value, value))
        for name, value in installation.environ.items()
        if name != "HOME"  # where this machine's Python finds its packages
    }
    assert not [
        value for value in environ.values() if value.startswith(("/var/lib/upscaled", "/etc/upscaled"))
    ]
    environ |= {"UPSCALED_METRICS_LISTEN": metrics}
    log = folder / "server.log"
    with running_server(log, **environ) as server:
        yield Pod(installation, server, metrics, generated, log, environ)


def ask(address: str, path: str) -> httpx.Response:
    """A page of the port for probes; no proxy of the machine has a part in it."""
    return httpx.get(f"http://{address}{path}", timeout=10, trust_env=False)


def run_job(
    objects: list[Object], folder: Path, server: str, key: str, **files: Path
) -> subprocess.CompletedProcess[str]:
    """The smoke test's one container. `files`: what its Secrets hold, by name."""
    (pod,) = pods(objects)
    (container,) = pod["spec"]["containers"]
    volumes = {each["name"]: each for each in pod["spec"]["volumes"]}
    moved: dict[str, Path] = {}
    for mount in container["volumeMounts"]:
        here = folder / mount["name"]
        here.mkdir()
        moved[mount["mountPath"]] = here
        volume = volumes[mount["name"]]
        if "configMap" in volume:
            content = named(objects, "ConfigMap", volume["configMap"]["name"])["binaryData"]
            for name, blob in content.items():
                (here / name).write_bytes(base64.b64decode(blob))
        for item in volume.get("secret", {}).get("items", ()):
            (here / item["path"]).write_bytes(files[item["key"].replace(".", "_")].read_bytes())

    def local(argument: str) -> str:
        for path, here in moved.items():
            if argument.startswith(f"{path}/"):
                return str(here / argument.removeprefix(f"{path}/"))
        return argument

    program, *arguments = [*container["command"], *container.get("args", ())]
    assert program == "upscaled"
    environ = environ_of(container, objects)
    assert environ["UPSCALED_SERVER"] == "upscaled:50051"
    return command(*map(local, arguments), UPSCALED_SERVER=server, UPSCALED_API_KEY=key)
