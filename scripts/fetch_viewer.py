"""Fetch swagger-ui's files into pipeline/api/viewer, by npm: `python scripts/fetch_viewer.py [VERSION]`.

Run when a newer viewer is wanted (`make viewer`); nothing else needs npm. The files are kept compressed, as they are
served. viewer.lock tells the version and npm's digest of the package they were taken from, and each file's SHA-256.
"""

import gzip
import hashlib
import json
import sys
from pathlib import Path

from npm_packages import pack

TARGET = Path(__file__).resolve().parents[1] / "pipeline" / "api" / "viewer"
SERVED = ("swagger-ui-bundle.js", "swagger-ui.css")
LICENCES = ("LICENSE", "NOTICE", "swagger-ui-bundle.js.LICENSE.txt")


def main() -> None:
    """Write the files and the lock."""
    wanted = f"swagger-ui-dist@{sys.argv[1]}" if len(sys.argv) > 1 else "swagger-ui-dist"
    TARGET.mkdir(exist_ok=True)
    told = pack(wanted, (*SERVED, *LICENCES))
    lock = {"package": told.name, "version": told.version, "integrity": told.integrity, "files": {}}
    for name, content in told.contents.items():
        if name in SERVED:
            (TARGET / f"{name}.gz").write_bytes(gzip.compress(content, 9, mtime=0))
        else:
            (TARGET / name).write_bytes(content)
        lock["files"][name] = hashlib.sha256(content).hexdigest()
    (TARGET / "viewer.lock").write_text(json.dumps(lock, indent=2) + "\n")
    print(f"{told.name} {told.version}: {', '.join(told.contents)}")


if __name__ == "__main__":
    main()
