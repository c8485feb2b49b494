"""A real Prometheus, run beside a test with the project's own rules."""

import json
import os
import signal
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.write_rules import SOURCE
from tests.deploy.tools import program
from tests.edges import free_port
from tests.waiting import eventually


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus."""

    port: int

    def ask(self, path: str, **parameters: str) -> Any:
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]

    def samples(self, query: str) -> list[Any]:
        return list(self.ask("query", query=query)["result"])

    def answers(self) -> bool:
        try:
            return bool(self.samples("vector(1)"))
        except OSError:
            return False

    def scrapes(self) -> dict[str, str]:
        """Say of each target why its last scrape failed, if it did."""
        return {one["scrapeUrl"]: one["lastError"] for one in self.ask("targets")["activeTargets"]}

    def firing(self) -> set[str]:
        alerts = self.ask("alerts")["alerts"]
        return {one["labels"]["alertname"] for one in alerts if one["state"] == "firing"}


@contextmanager
def process(*command: str, environment: dict[str, str], log: Path) -> Iterator[None]:
    with log.open("w", encoding="utf-8") as stream:
        started = subprocess.Popen(command, env=environment, stdout=stream, stderr=stream)
        try:
            yield
        finally:
            started.send_signal(signal.SIGTERM)
            started.wait(60)


@contextmanager
def prometheus(directory: Path, targets: Mapping[str, Sequence[int]], *, pace: int = 20_000) -> Iterator[Prometheus]:
    """Run Prometheus on the rules, with every interval of theirs a second and every patience five.

    `pace` takes the place of the records a second that a consumer is counted on to write.
    """
    rules = SOURCE.read_text(encoding="utf-8")
    assert "/ 20000" in rules
    rules = rules.replace("/ 20000", f"/ {pace}")
    for slow in ("interval: 15s", "interval: 30s"):
        rules = rules.replace(slow, "interval: 1s")
    for patience in ("for: 1m", "for: 2m", "for: 5m"):
        rules = rules.replace(patience, "for: 5s")
    (directory / "pipeline.rules.yaml").write_text(rules, encoding="utf-8")
    jobs = [
        {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in ports]}]}
        for job, ports in targets.items()
    ]
    configuration = {
        "global": {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "1s"},
        "rule_files": ["pipeline.rules.yaml"],
        "scrape_configs": jobs,
    }
    (directory / "prometheus.yml").write_text(json.dumps(configuration), encoding="utf-8")
    port = free_port()
    command = [
        program("prometheus"), f"--config.file={directory / 'prometheus.yml'}",
        f"--storage.tsdb.path={directory / 'tsdb'}", f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    with process(*command, environment=dict(os.environ), log=directory / "prometheus.log"):
        running = Prometheus(port)
        eventually(running.answers, timeout=30)
        yield running
