"""The bill of materials: every file of a frozen directory with its hashes, every module inside the library, and the
packages and foreign libraries that they come from, with versions. CycloneDX 1.6, as JSON.

It is made from what lies there, after signing. The same directory gives the same bytes: there is no time in it.
"""

from __future__ import annotations

import hashlib
import json
import uuid
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

from agent.pe import identify
from installer.binaries import LIBRARY
from installer.frozen import Frozen
from tests.windows.bench.places import DOWNLOADS

SPEC_VERSION = "1.6"
NAME = "sbom.cdx.json"
# Foreign code inside Python's own binaries: (purl, cpe's vendor and product, licence).
_FOREIGN = {
    "python": ("pkg:generic/cpython", "python:python", "Python-2.0.1"),
    "openssl": ("pkg:generic/openssl", "openssl:openssl", "Apache-2.0"),
    "expat": ("pkg:generic/expat", "libexpat_project:libexpat", "MIT"),
    "zlib": ("pkg:generic/zlib", "zlib:zlib", "Zlib"),
}
Component = dict[str, Any]


def write_sbom(frozen: Frozen) -> Path:
    """Write the bill of materials into the directory that it describes, itself excepted. Returns its path."""
    target = frozen.directory / NAME
    target.unlink(missing_ok=True)
    ours: Component = {
        "type": "application",
        "bom-ref": "wayleave-agent",
        "name": "wayleave-agent",
        "version": frozen.version,
        "description": "Tries which places uv may run programs from, and reports it.",
    }
    sources = [*_packages(frozen), *_foreign(frozen)]
    components = [*sources, *_files(frozen.directory)]
    # Named after what it says, so that two builds of the same have one name.
    digest = hashlib.sha256(json.dumps([ours, components], sort_keys=True).encode()).hexdigest()
    bill = {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPEC_VERSION}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPEC_VERSION,
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, digest)}",
        "version": 1,
        "metadata": {"component": ours},
        "components": components,
        "dependencies": [{"ref": "wayleave-agent", "dependsOn": [source["bom-ref"] for source in sources]}],
    }
    target.write_text(json.dumps(bill, indent=1) + "\n", encoding="utf-8")
    return target


def _packages(frozen: Frozen) -> Iterator[Component]:
    """The packages of which modules are inside."""
    inside = {place.split("/")[0].removesuffix(".py") for place in frozen.contents["modules"]}
    for package in sorted(distributions(path=[str(DOWNLOADS / "site-packages")]), key=lambda package: package.name):
        tops = {file.parts[0].removesuffix(".py") for file in package.files or () if file.suffix == ".py"}
        if tops & inside:
            purl = f"pkg:pypi/{package.name.lower().replace('_', '-')}@{package.version}"
            yield {
                "type": "library",
                "bom-ref": purl,
                "name": package.name,
                "version": package.version,
                "purl": purl,
                **_licence(package),
            }


def _licence(package: Distribution) -> Component:
    metadata = package.metadata.json
    if metadata.get("license_expression"):
        return {"licenses": [{"expression": metadata["license_expression"]}]}
    if metadata.get("license"):
        return {"licenses": [{"license": {"name": metadata["license"]}}]}
    return {}


def _foreign(frozen: Frozen) -> Iterator[Component]:
    versions = {"python": frozen.contents["python"], **frozen.contents["libraries"]}
    for name, (purl, product, licence) in _FOREIGN.items():
        version = versions[name]
        yield {
            "type": "library",
            "bom-ref": f"{purl}@{version}",
            "name": name,
            "version": version,
            "cpe": f"cpe:2.3:a:{product}:{version}:*:*:*:*:*:*:*",
            "purl": f"{purl}@{version}",
            "licenses": [{"license": {"id": licence}}],
        }


def _files(directory: Path) -> Iterator[Component]:
    for path in sorted(directory.rglob("*")):
        if not path.is_file():
            continue
        name = path.relative_to(directory).as_posix()
        component = _file(name, path.read_bytes())
        if path.suffix in (".exe", ".dll", ".pyd"):
            identity = identify(path)
            component |= {"version": identity.version} if identity.version else {}
            # What AppLocker's hash rules compare; signing does not change it.
            component["properties"] = [
                {"name": "wayleave:authenticode-sha256", "value": identity.authenticode_sha256},
                {"name": "wayleave:signature", "value": identity.signature},
            ]
        if name == LIBRARY:
            with zipfile.ZipFile(path) as library:
                component["components"] = [
                    _file(f"{LIBRARY}/{inside}", library.read(inside)) for inside in library.namelist()
                ]
        yield component


def _file(name: str, content: bytes) -> Component:
    digest = hashlib.sha256(content).hexdigest()
    return {"type": "file", "bom-ref": name, "name": name, "hashes": [{"alg": "SHA-256", "content": digest}]}
