"""What `pip install` gives: a wheel built from the source, and used without it, from an empty directory."""

import contextlib
import http.client
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Final

import pytest

from pipeline.local.stack import Stack
from tests.edges import free_port
from tests.place import Place
from tests.real.local.test_run import Running

pytestmark = pytest.mark.real

ROOT: Final = Path(__file__).resolve().parents[3]
PIP: Final = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
DATA: Final = {".sql", ".lua", ".html", ".js", ".css", ".svg", ".gz", ".lock", ".toml", ".typed"}
"""What the package reads beside its code."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built without network by the setuptools of this environment; nothing is left in the checkout."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.splitlines():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name, follow_symlinks=False)
    options = ("--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(target))
    subprocess.run([*PIP, "wheel", *options, str(source)], check=True, timeout=120)
    (built,) = target.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the wheel in it and nothing else; its dependencies are those of this environment."""
    target = tmp_path_factory.mktemp("installed")
    subprocess.run([*PIP, "install", "--no-deps", "--no-index", "--target", str(target), str(wheel)], check=True)
    return target


def environment(installed: Path, found: dict[str, str]) -> dict[str, str]:
    return {**found, "PYTHONPATH": str(installed)}


def typed(installed: Path, found: dict[str, str], empty: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(installed / "bin" / "gamemetrics"), *arguments],
        env=environment(installed, found), cwd=empty, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def assert_pages(port: int) -> None:
    """The console and the viewer of the API are there, with every file that they name."""
    for page, kinds in (("/", {"css", "js", "svg"}), ("/docs", {"css", "js"})):
        content = fetched(port, page)
        named = set(re.findall(r'(?:src|href)="(/[^"]+\.(\w+))"', content))
        assert {kind for _, kind in named} >= kinds, content
        for path, _ in named:
            assert fetched(port, path)


def fetched(port: int, path: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", path)
        reply = connection.getresponse()
        assert reply.status == 200, path
        return reply.read().decode()


def test_a_wheel_has_one_name_at_the_top_and_all_that_the_package_reads(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"pipeline"}
    sources = {path.relative_to(ROOT) for path in (ROOT / "pipeline").rglob("*") if path.suffix in {".py", *DATA}}
    sources |= {Path("pipeline") / path.relative_to(ROOT) for path in (ROOT / "migrations").glob("*.sql")}
    assert {suffix: sum(path.suffix == suffix for path in sources) > 0 for suffix in DATA} == dict.fromkeys(DATA, True)
    assert {str(path) for path in sources} - names == set()


def test_installed_it_runs_from_an_empty_directory(installed: Path, place: Place, tmp_path: Path) -> None:
    found = place.environment()
    where = subprocess.run(
        [sys.executable, "-c", "import pipeline; print(pipeline.__file__)"],
        env=environment(installed, found), cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert Path(where.stdout.strip()).is_relative_to(installed)
    assert "Usage: gamemetrics" in typed(installed, found, tmp_path, "--help").stdout
    checked = typed(installed, found, tmp_path, "migrate", "--check")
    assert (checked.returncode, checked.stdout) == (0, "The schema is current.\n"), checked.stderr
    with place.pg() as connection:
        connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    assert typed(installed, found, tmp_path, "migrate", "--check").returncode == 1
    migrated = typed(installed, found, tmp_path, "migrate")
    assert "applied 0001_pipeline" in migrated.stdout, migrated.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_shell_completes_its_commands(installed: Path, tmp_path: Path) -> None:
    asked = {"_GAMEMETRICS_COMPLETE": "complete_bash", "COMP_WORDS": "gamemetrics mi", "COMP_CWORD": "1"}
    assert typed(installed, {**os.environ, **asked}, tmp_path).stdout.split() == ["migrate"]


def test_installed_the_whole_pipeline_starts_in_an_empty_directory(installed: Path) -> None:
    servers = ("KAFKA_", "DB_", "REDIS_", "PORT", "METRICS_PORT", "API_KEY", "SECRETS_DIR")
    found = {name: value for name, value in os.environ.items() if not name.startswith(servers)}
    with tempfile.TemporaryDirectory(prefix="gamemetrics-wheel-") as name:
        empty = Path(name)
        empty.chmod(0o711)  # PostgreSQL runs as another account when the tests run as root, and must pass through
        port = free_port()
        running = Running(empty, {**environment(installed, found), "PORT": str(port)})
        try:
            assert "applied 0001_pipeline" in running.output
            assert "2,000 events sent through the API, and counted" in running.output
            assert_pages(port)
            assert running.end() == 0
        finally:
            running.abandon()
            Stack(empty).wipe()
        assert {path.name for path in empty.iterdir()} == {"out"}
