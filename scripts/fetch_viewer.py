"""Fetch swagger-ui's files into pipeline/api/viewer, by npm: `python scripts/fetch_viewer.py [VERSION]`.

Run when a newer viewer is wanted (`make viewer`); nothing else needs npm. The files are kept compressed, as they are
served. viewer.lock tells the version and npm's digest of the package they were taken from, and each file's SHA-256.
"""

import base64
import gzip
import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

TARGET = Path(__file__).resolve().parents[1] / "pipeline" / "api" / "viewer"
SERVED = ("swagger-ui-bundle.js", "swagger-ui.css")
LICENCES = ("LICENSE", "NOTICE", "swagger-ui-bundle.js.LICENSE.txt")


def main() -> None:
    """Write the files and the lock."""
    wanted = f"swagger-ui-dist@{sys.argv[1]}" if len(sys.argv) > 1 else "swagger-ui-dist"
    TARGET.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        command = ["npm", "pack", "--json", "--pack-destination", directory, wanted]
        packed = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        [told] = packed if isinstance(packed, list) else packed.values()
        archive = Path(directory) / told["filename"]
        digest = "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if digest != told["integrity"]:
            raise SystemExit(f"{archive.name} is not what npm says it is")
        with tarfile.open(archive) as files:
            contents = {name: _read(files, f"package/{name}") for name in (*SERVED, *LICENCES)}
    lock = {"package": told["name"], "version": told["version"], "integrity": digest, "files": {}}
    for name, content in contents.items():
        if name in SERVED:
            (TARGET / f"{name}.gz").write_bytes(gzip.compress(content, 9, mtime=0))
        else:
            (TARGET / name).write_bytes(content)
        lock["files"][name] = hashlib.sha256(content).hexdigest()
    (TARGET / "viewer.lock").write_text(json.dumps(lock, indent=2) + "\n")
    print(f"{told['name']} {told['version']}: {', '.join(contents)}")


def _read(files: tarfile.TarFile, name: str) -> bytes:
    found = files.extractfile(name)
    if found is None:
        raise SystemExit(f"{name} is no file")
    return found.read()


if __name__ == "__main__":
    main()
