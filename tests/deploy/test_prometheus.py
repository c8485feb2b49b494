"""A real Prometheus scrapes the real pipeline: every dashboard's query has data under load, and an alert fires."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.deploy.test_monitoring import DASHBOARDS, queries
from tests.deploy.tools import ROOT
from tests.deploy.watching import process, prometheus
from tests.edges import EdgeUnderTest, free_port, running_edge
from tests.place import Place
from tests.waiting import eventually

pytestmark = pytest.mark.real

SAMPLE_SECONDS: Final = 300
TABLE: Final = ROOT / "build" / "prometheus-queries.md"


@contextmanager
def load(place: Place, edge: EdgeUnderTest, directory: Path) -> Iterator[None]:
    """Send 500 events a second, in posts of 20, with some reads and some bad records among them."""
    command = [
        sys.executable, "-m", "pipeline", "load", str(500 * SAMPLE_SECONDS), "--rate", "500", "--batch", "20",
        "--players", "50", "--url", f"http://127.0.0.1:{edge.port}",
    ]  # fmt: skip
    with process(*command, environment=place.environment(), log=directory / "load.log"):
        yield


@pytest.mark.timeout(600)
def test_every_query_has_data_under_load_and_a_lost_redis_is_an_alert(place: Place, tmp_path: Path) -> None:
    metrics = free_port()
    consumer = [sys.executable, "-m", "pipeline", "consume", "all"]
    environment = {**place.environment(), "METRICS_PORT": str(metrics)}
    with (
        running_edge(place) as edge,
        process(*consumer, environment=environment, log=tmp_path / "consumer.log"),
        prometheus(tmp_path, {"event-ingestion": [edge.metrics_port], "event-consumer": [metrics]}) as watcher,
        load(place, edge, tmp_path),
    ):
        wanted = [(board.stem, title, query) for board in DASHBOARDS for title, query in queries(board)]
        seen: dict[str, list[Any]] = {}

        def all_seen() -> bool:
            place.produce([b"no event"])
            edge.get("/api/v1/leaderboards/game-1?period=alltime")
            edge.get("/api/v1/players/player-1/stats")
            for _, _, query in wanted:
                if not seen.get(query):
                    seen[query] = [one for one in watcher.samples(query) if one["value"][1] != "NaN"]
            return all(seen.get(query) for _, _, query in wanted)

        try:
            eventually(all_seen, timeout=120, interval=1)
        except AssertionError:
            lacking = [(board, title) for board, title, query in wanted if not seen.get(query)]
            pytest.fail(f"scrapes: {watcher.scrapes()}; no data for {lacking}")
        finally:
            _write_table(wanted, seen)
        # Nothing else is wrong; a burn over what is a minute here, of a first slow post, passes.
        eventually(lambda: watcher.firing() <= {"PipelineDeadLetters"}, timeout=60)
        place.stack.valkey.stop()
        eventually(lambda: "PipelineSinkAway" in watcher.firing(), timeout=60)
        place.stack.valkey.start()
        eventually(lambda: "PipelineSinkAway" not in watcher.firing(), timeout=60)


def _write_table(wanted: list[tuple[str, str, str]], seen: dict[str, list[Any]]) -> None:
    """Keep what was seen, for docs/monitoring.md."""
    lines = ["| Dashboard | Panel | Query | Series | First value |", "|---|---|---|---|---|"]
    for board, title, query in wanted:
        found = seen.get(query) or []
        value = found[0]["value"][1] if found else "-"
        lines.append(f"| {board} | {title} | `{query.replace('|', chr(92) + '|')}` | {len(found)} | {value[:8]} |")
    TABLE.parent.mkdir(exist_ok=True)
    TABLE.write_text("\n".join(lines) + "\n", encoding="utf-8")
