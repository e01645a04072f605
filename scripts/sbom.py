"""`make sbom`: what is in the images, as CycloneDX JSON: every package with version, hash and licence.

    python scripts/sbom.py

Writes `deploy/docker/sbom/cpu.cdx.json` and `cuda.cdx.json` from the locks. Licences come from the metadata
of the very files that pip would install, which it asks the package index for. The same locks give the same
bytes.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import Requirement

REPO = Path(__file__).resolve().parents[1]
LOCKS = REPO / "deploy" / "docker" / "locks"
SBOMS = REPO / "deploy" / "docker" / "sbom"
INDEX = "https://pypi.org/simple"
# What the image runs on, Debian 12 with glibc 2.36; it decides which of a package's files is installed.
_TAGS = [*(f"manylinux_2_{minor}_x86_64" for minor in range(36, 4, -1)), "manylinux2014_x86_64"]
_PLATFORM = ["--python-version=3.11", "--implementation=cp", *(f"--platform={tag}" for tag in _TAGS)]

Metadata = Mapping[str, Any]


def bill(name: str, project: Metadata, packages: list[Metadata]) -> Bom:
    """The bill of one image. `packages`: what pip reports it would install."""
    root = Component(
        name=project["name"],
        version=project["version"],
        type=ComponentType.APPLICATION,
        bom_ref=f"{project['name']}-{name}",
        licenses=[LicenseFactory().make_from_string(project["license"])],
    )
    components = {_normal(each["metadata"]["name"]): _component(each) for each in packages}
    bom = Bom(components=components.values())
    bom.metadata.component = root
    bom.register_dependency(root, components.values())
    for each in packages:
        needed = {_normal(found.name) for found in _requirements(each["metadata"])}
        here = components[_normal(each["metadata"]["name"])]
        bom.register_dependency(here, [components[other] for other in sorted(needed) if other in components])
    return bom


def _component(package: Metadata) -> Component:
    metadata, file = package["metadata"], package["download_info"]
    name, version = _normal(metadata["name"]), metadata["version"]
    return Component(
        name=name,
        version=version,
        type=ComponentType.LIBRARY,
        bom_ref=f"{name}=={version}",
        purl=PackageURL("pypi", None, name, version),
        description=metadata.get("summary"),
        licenses=_licences(metadata),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=file["archive_info"]["hashes"]["sha256"])],
        properties=[Property(name="pip:file", value=unquote(Path(file["url"]).name))],
    )


def _licences(metadata: Metadata) -> list[Any]:
    """An SPDX expression where there is one, else what the classifiers or the free text say."""
    factory = LicenseFactory()
    if expression := metadata.get("license_expression"):
        return [factory.make_from_string(expression)]
    named = [
        classifier.rpartition(" :: ")[2]
        for classifier in metadata.get("classifier", [])
        if classifier.startswith("License :: ") and not classifier.endswith("OSI Approved")
    ]
    text = (metadata.get("license") or "").strip()
    if text and "\n" not in text and len(text) < 100:
        return [factory.make_from_string(text)]
    return [factory.make_with_name(each) for each in sorted(set(named))]


def _requirements(metadata: Metadata) -> Iterator[Requirement]:
    return map(Requirement, metadata.get("requires_dist", []))


def _reported(lock: Path) -> list[Metadata]:
    with tempfile.TemporaryDirectory() as folder:
        report, target = Path(folder) / "report.json", Path(folder) / "target"
        command = [sys.executable, "-m", "pip", "--isolated", "install", "--quiet", "--dry-run"]
        command += ["--disable-pip-version-check"]
        command += ["--ignore-installed", "--no-deps", "--only-binary=:all:", f"--index-url={INDEX}"]
        command += [*_PLATFORM, f"--target={target}"]
        command += ["--require-hashes", f"--requirement={lock}", f"--report={report}"]
        environ = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
        subprocess.run(command, check=True, env={**environ, "PIP_CONFIG_FILE": os.devnull})
        found: list[Metadata] = json.loads(report.read_text())["install"]
    return sorted(found, key=lambda each: _normal(each["metadata"]["name"]))


def _project() -> Metadata:
    version = re.search(r'__version__ = "(.+)"', (REPO / "client" / "upscaled" / "_version.py").read_text())
    if version is None:
        raise ValueError("client/upscaled/_version.py names no version")
    return {"name": "upscaled", "version": version[1], "license": "Apache-2.0"}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def written(name: str, bom: Bom) -> str:
    """The bill as JSON, without what differs from run to run."""
    content = json.loads(JsonV1Dot6(bom).output_as_string())
    content["metadata"].pop("timestamp", None)
    content["metadata"].pop("tools", None)
    content.pop("serialNumber", None)
    body = json.dumps(content, sort_keys=True)
    content["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{name} {body}')}"
    return json.dumps(content, indent=1, sort_keys=True) + "\n"


def main() -> int:
    SBOMS.mkdir(exist_ok=True)
    for name in ("cpu", "cuda"):
        packages = _reported(LOCKS / f"{name}.txt")
        (SBOMS / f"{name}.cdx.json").write_text(written(name, bill(name, _project(), packages)))
        print(f"deploy/docker/sbom/{name}.cdx.json: {len(packages)} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
