"""Packages from npm, checked against the digest that npm tells of them."""

import base64
import hashlib
import json
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Packed:
    """A package: its name, version and digest as npm writes them, and the bytes of the files that were asked for."""

    name: str
    version: str
    integrity: str
    contents: dict[str, bytes]


def pack(wanted: str, names: Iterable[str]) -> Packed:
    """Fetch a package such as `preact` or `preact@11.2.0`, and read files of it. Raises SystemExit."""
    with tempfile.TemporaryDirectory() as directory:
        command = ["npm", "pack", "--json", "--pack-destination", directory, wanted]
        packed = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        [told] = packed if isinstance(packed, list) else packed.values()
        archive = Path(directory) / told["filename"]
        digest = "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if digest != told["integrity"]:
            raise SystemExit(f"{archive.name} is not what npm says it is")
        with tarfile.open(archive) as files:
            contents = {name: _read(files, f"package/{name}") for name in names}
    return Packed(told["name"], told["version"], digest, contents)


def _read(files: tarfile.TarFile, name: str) -> bytes:
    found = files.extractfile(name)
    if found is None:
        raise SystemExit(f"{name} is no file")
    return found.read()
