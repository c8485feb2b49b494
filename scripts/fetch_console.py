"""Fetch the libraries of the console's pages, by npm: `python scripts/fetch_console.py [PACKAGE@VERSION ...]`.

Run when newer ones are wanted (`make console-libs`); nothing else needs npm. They are ES modules as they were
published, but for two things: a module is imported by its path, for a page under a policy without inline scripts can
have no import map; and the line that names a source map, which is not served, is left out. libraries.lock tells each
package's version and npm's digest of it, and each file's SHA-256 as it is kept.
"""

import hashlib
import json
import re
import sys
from pathlib import Path

from npm_packages import pack

TARGET = Path(__file__).resolve().parents[1] / "pipeline" / "api" / "console" / "pages"
PACKAGES = {
    "preact": {"dist/preact.mjs": "preact.js", "hooks/dist/hooks.mjs": "hooks.js", "LICENSE": "LICENSE.preact"},
    "htm": {"dist/htm.mjs": "htm.js", "LICENSE": "LICENSE.htm"},
}


def main() -> None:
    """Write the files and the lock."""
    wanted = {spec.rpartition("@")[0]: spec for spec in sys.argv[1:]}
    lock = {}
    for package, names in PACKAGES.items():
        told = pack(wanted.get(package, package), names)
        kept = {names[name]: _by_path(content) for name, content in told.contents.items()}
        for name, content in kept.items():
            (TARGET / name).write_bytes(content)
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in kept.items()}
        lock[told.name] = {"version": told.version, "integrity": told.integrity, "files": digests}
        print(f"{told.name} {told.version}: {', '.join(kept)}")
    (TARGET / "libraries.lock").write_text(json.dumps(lock, indent=2) + "\n")


def _by_path(content: bytes) -> bytes:
    imported = re.sub(rb'from"preact"', b'from"./preact.js"', content)
    return re.sub(rb"\n?//# sourceMappingURL=\S*\s*\Z", b"\n", imported)


if __name__ == "__main__":
    main()
