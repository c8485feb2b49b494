"""The console's files: small, whole, of this host alone, and nothing that a record holds is ever markup."""

import gzip
import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[4] / "pipeline" / "api" / "console" / "pages"
LOCK = json.loads((FOLDER / "libraries.lock").read_text())
LIBRARIES = {name for package in LOCK.values() for name in package["files"]}
OWN = sorted(path for path in FOLDER.glob("*.js") if path.name not in LIBRARIES)
MAX_BYTES = 200 * 1024
MAX_LINES = 400
MARKUP = re.compile(
    r"innerHTML|outerHTML|insertAdjacent|document\.write|dangerously|\beval\b|Function\(|srcdoc|setAttribute|javascript:"
)
"""The ways by which a text becomes markup or script."""


def imported(path: Path) -> set[str]:
    return set(re.findall(r'(?:from|import) ?"\./([\w.-]+)"', path.read_text(encoding="utf-8")))


def test_all_of_it_is_small() -> None:
    assert sum(len(gzip.compress(path.read_bytes(), mtime=0)) for path in FOLDER.iterdir()) <= MAX_BYTES


def test_the_libraries_are_those_of_the_lock_with_their_licences() -> None:
    for package, locked in LOCK.items():
        assert f"LICENSE.{package}" in locked["files"]
        for name, digest in locked["files"].items():
            assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == digest, name


def test_the_page_has_nothing_inline_and_asks_only_for_what_is_there() -> None:
    html = (FOLDER / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)|javascript:", html, re.IGNORECASE)
    asked = re.findall(r'(?:src|href)="([^"]+)"', html)
    files = [path.removeprefix("/console/") for path in asked if path.startswith("/console/")]
    assert {path for path in asked if not path.startswith("/console/")} == {"/openapi.json"}
    assert files
    assert all((FOLDER / name).is_file() for name in files)


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_a_file_is_short_and_makes_no_markup_of_texts(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("//"), "say what it is"
    assert text.count("\n") <= MAX_LINES
    assert not MARKUP.search(text)
    assert not re.search(r"https?://(?!www\.w3\.org/)", text)


@pytest.mark.parametrize("style", sorted(FOLDER.glob("*.css")), ids=lambda path: path.name)
def test_a_style_comes_from_here_alone(style: Path) -> None:
    text = style.read_text(encoding="utf-8")
    assert text.count("\n") <= MAX_LINES
    assert not re.search(r"@import|url\(|https?:", text)


def test_every_module_is_there_and_used() -> None:
    found, left = set[str](), ["app.js"]
    while left:
        name = left.pop()
        assert (FOLDER / name).is_file(), name
        if name not in found:
            found.add(name)
            left.extend(imported(FOLDER / name))
    assert found == {path.name for path in FOLDER.glob("*.js")}


def test_only_the_choice_of_colours_and_zone_is_kept() -> None:
    keeps = re.compile(r"localStorage|sessionStorage|cookie|indexedDB")
    keepers = {path.name for path in OWN if keeps.search(path.read_text(encoding="utf-8"))}
    assert keepers == {"store.js"}
    assert re.findall(r"localStorage\.setItem\((.*)\)", (FOLDER / "store.js").read_text()) == [
        'name === "theme" ? THEME : ZONE, value'
    ]


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_a_module_parses(path: Path, tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node here: the tests in a browser load every module")
    module = tmp_path / f"{path.stem}.mjs"
    shutil.copyfile(path, module)
    done = subprocess.run([node, "--check", str(module)], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
