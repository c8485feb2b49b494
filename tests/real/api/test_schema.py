"""schemathesis, against the OpenAPI document that the edge serves."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.edges import running_edge
from tests.place import Place

pytestmark = pytest.mark.real
BATCH_JUDGES_EACH = """
[[operations]]
include-name = "POST /api/v1/events/batch"
checks.negative_data_rejection.enabled = false
"""


def test_schemathesis_finds_nothing(place: Place, tmp_path: Path) -> None:
    with running_edge(place) as edge:
        document = edge.get("/openapi.json").json()
        # It can't write NDJSON, and no JSON Schema says "at most 24 hours ahead", that 1.0 is no integer, or that a
        # text has no NUL. A batch with a bad event is a 200 that says so. All of these have tests of their own.
        del document["paths"]["/api/v1/events/batch"]["post"]["requestBody"]["content"]["application/x-ndjson"]
        event = document["components"]["schemas"]["Event"]
        event["properties"]["timestamp"]["enum"] = ["2024-01-15T10:35:00Z"]
        for rule in event["allOf"]:
            for score in rule["then"]["properties"]["data"]["properties"].values():
                score["enum"] = [0, 1500, -(2**53)]
        (tmp_path / "schemathesis.toml").write_text(BATCH_JUDGES_EACH)
        (tmp_path / "openapi.json").write_text(json.dumps(document))
        done = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "run", str(tmp_path / "openapi.json")),
                *("--url", f"http://127.0.0.1:{edge.port}", "--max-examples", "30", "--seed", "7", "--no-color"),
                *("--phases", "examples,coverage,fuzzing", "--generation-allow-x00", "false"),
            ],
            cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-16000:]
        assert edge.get("/health/ready").status == 200
