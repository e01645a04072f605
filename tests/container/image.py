"""Builds and runs a stage of the Dockerfile without a container engine: one overlay of this machine's root a
stage, chroot, and the Python that runs the tests as the base image. Needs root.

What this cannot show is what the base image holds: the libraries that are needed of it are looked at instead.
"""

from __future__ import annotations

import fnmatch
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.conftest import REPO
from tests.container.dockerfile import Dockerfile, Instruction

_CHROOT = shutil.which("chroot") or "chroot"
# What the base image has installed beside Python.
_OWN = "pip", "setuptools", "_distutils_hack"


class Image:
    """A built stage: the layers that make up its root, the topmost first."""

    def __init__(self, dockerfile: Dockerfile, stage: str, layers: Sequence[Path], scratch: Path) -> None:
        self.dockerfile = dockerfile
        self.stage = stage
        self.layers = layers
        self._scratch = scratch

    def command(
        self, *command: str, user: bool = True, binds: Mapping[str, Path] | None = None, **environ: str
    ) -> list[str]:
        """What runs a command as a hardened container would: nothing writable but `/tmp` and `binds`, no
        capability, no way to get one. `user`: the image's; else root. The server's process takes the place of
        the command's, so signals reach it."""
        root = self._folder()
        mounts = [*_overlay(self._scratch, self.layers), *_kernel(root)]
        mounts.append(f"mount -t tmpfs -o mode=1777 tmpfs {root}/tmp")
        mounts += [f"mount --bind {source} {root}{target}" for target, source in (binds or {}).items()]
        who = self.dockerfile.last(self.stage, "USER").value.partition(":")
        dropped = ["--clear-groups", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
        setpriv = ["setpriv", f"--reuid={who[0]}", f"--regid={who[2]}", *dropped] if user else []
        variables = [f"{name}={value}" for name, value in (self.environment | environ).items()]
        inside = [_CHROOT, root, *setpriv, "env", "-i", "-C", "/var/lib/upscaled", *variables, *command]
        return _apart([*mounts, f"exec {shlex.join(map(str, inside))}"])

    @property
    def environment(self) -> dict[str, str]:
        return self.dockerfile.environment(self.stage)

    @property
    def prefix(self) -> Path:
        """The installed tree, as the last stage got it."""
        return self.layers[0] / "opt" / "upscaled"

    def _folder(self) -> Path:
        folder = self._scratch / "root"
        folder.mkdir(exist_ok=True)
        return folder


class Builder:
    def __init__(self, dockerfile: Dockerfile, scratch: Path) -> None:
        self._dockerfile = dockerfile
        self._scratch = scratch
        self._layers: dict[str, list[Path]] = {}
        self._ignored = (REPO / ".dockerignore").read_text().split("\n")

    def build(self, stage: str) -> Image:
        """Run every step of the stage and of those it needs. Raises CalledProcessError for one that fails."""
        return Image(self._dockerfile, stage, self._built(stage), self._scratch)

    def _built(self, name: str) -> list[Path]:
        if name not in self._dockerfile.stages:
            return [self._base()]
        if name in self._layers:
            return self._layers[name]
        stage = self._dockerfile.stages[name]
        below = self._built(stage.base)
        layer = self._scratch / name
        layer.mkdir()
        folder, arguments = "/", dict[str, str]()
        for part in self._dockerfile.lineage(name):
            for each in part.instructions:
                if each.name == "WORKDIR":
                    folder = each.value
                elif each.name == "ARG":
                    argument, _, default = each.value.partition("=")
                    arguments[argument] = os.environ.get(argument, default)
                elif part is not stage:
                    continue
                elif each.name == "COPY":
                    self._copy(each, layer, folder)
                elif each.name == "RUN":
                    self._run(each, layer, below, folder, arguments)
        self._layers[name] = [layer, *below]
        return self._layers[name]

    def _copy(self, each: Instruction, layer: Path, folder: str) -> None:
        *sources, target = each.words
        stage = each.flag("from")
        destination = Path(f"{layer}{target if target.startswith('/') else f'{folder}/{target}'}")
        for source in sources:
            if stage is None:
                origin, ignore = REPO / source, self._ignore
            else:
                found = [part / self._inside(source, stage) for part in self._built(stage)]
                origin, ignore = next(part for part in found if part.exists()), None
            if origin.is_dir():
                shutil.copytree(origin, destination, symlinks=True, dirs_exist_ok=True, ignore=ignore)
            elif not self._is_ignored(source):
                destination.mkdir(parents=True, exist_ok=True)
                shutil.copy2(origin, destination)

    def _inside(self, source: str, stage: str) -> str:
        if source.startswith("/"):
            return source.strip("/")
        folder: str = self._dockerfile.last(stage, "WORKDIR").value
        return f"{folder}/{source}".strip("/")

    def _run(
        self, each: Instruction, layer: Path, below: Sequence[Path], folder: str, arguments: Mapping[str, str]
    ) -> None:
        root, work = self._scratch / "root", self._scratch / "work"
        for made in (root, work, layer / folder.strip("/")):
            made.mkdir(parents=True, exist_ok=True)
        mounts = [*_overlay(self._scratch, below, f",upperdir={layer},workdir={work}"), *_kernel(root)]
        outside = {
            name: value for name, value in os.environ.items() if not name.startswith(("UPSCALED_", "PYTHON"))
        }
        variables = outside | arguments | {"PATH": "/usr/local/bin:/usr/bin:/bin"}
        inside = [_CHROOT, str(root), "env", "-C", folder, "sh", "-c", each.value]
        subprocess.run(
            _apart([*mounts, f"exec {shlex.join(inside)}"]), check=True, env=variables, timeout=1800
        )
        shutil.rmtree(work)

    def _base(self) -> Path:
        """This Python where the base image has it, and nothing else there."""
        base = self._scratch / "base"
        target = base / "usr" / "local"
        if target.exists():
            return base
        prefix = Path(sys.base_prefix)
        version = f"python{sysconfig.get_python_version()}"
        (target / "bin").mkdir(parents=True)
        shutil.copy2(Path(sys.executable).resolve(), target / "bin" / version)
        for name in ("python", "python3"):
            (target / "bin" / name).symlink_to(version)
        shutil.copytree(
            prefix / "lib" / version,
            target / "lib" / version,
            symlinks=True,
            ignore=lambda at, names: [
                name
                for name in names
                if name == "__pycache__"
                or (Path(at).name in ("site-packages", "dist-packages") and not name.startswith(_OWN))
            ],
        )
        # In the place of this machine's own, where the loader looks without being told.
        libraries = base / "usr" / "lib" / (sysconfig.get_config_var("MULTIARCH") or "")
        libraries.mkdir(parents=True)
        for library in (prefix / "lib").glob("libpython*.so.*"):
            shutil.copy2(library, libraries)
        os.setxattr(target, "trusted.overlay.opaque", b"y")
        return base

    def _ignore(self, folder: str, names: list[str]) -> list[str]:
        at = Path(folder).relative_to(REPO)
        return [name for name in names if self._is_ignored(str(at / name))]

    def _is_ignored(self, path: str) -> bool:
        """The last pattern that names the path, or a folder above it, decides."""
        ignored = False
        for line in self._ignored:
            pattern = line.removeprefix("!").removeprefix("**/")
            if not pattern or line.startswith("#"):
                continue
            above = ["/".join(path.split("/")[:count]) for count in range(1, path.count("/") + 2)]
            if line.startswith("**/"):
                above = [Path(each).name for each in above]
            if any(fnmatch.fnmatch(each, pattern) for each in above):
                ignored = not line.startswith("!")
        return ignored


def can_build() -> bool:
    """Whether this machine lets us mount an overlay of its root."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "setpriv", "chroot", "mount"))):
        return False
    return (
        subprocess.run(_apart(["mount -t tmpfs tmpfs /mnt"]), capture_output=True, check=False).returncode
        == 0
    )


def _apart(commands: Sequence[str]) -> list[str]:
    """Commands in a mount namespace of their own: what they mount ends with the last of them."""
    return ["unshare", "--mount", "--propagation", "private", "sh", "-euc", "\n".join(commands)]


def _overlay(scratch: Path, layers: Sequence[Path], writable: str = "") -> list[str]:
    """Mounts the layers over this machine's root, which is an overlay of its own: layers that lie within the
    root may not be beside it in one."""
    machine, top, work = (scratch / name for name in ("machine", "machine-top", "machine-work"))
    for folder in (machine, top, work):
        folder.mkdir(exist_ok=True)
    lower = ":".join(map(str, [*layers, machine]))
    return [
        f"mount -t overlay overlay -o lowerdir=/,upperdir={top},workdir={work} {machine}",
        f"mount -t overlay overlay -o lowerdir={lower}{writable} {scratch / 'root'}",
    ]


def _kernel(root: Path) -> list[str]:
    return [f"mount --bind /dev {root}/dev", f"mount -t proc proc {root}/proc"]
