"""docs/tutorial.md on real servers: every `console` block is run, and its output compared but for ids and times."""

import re
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from pipeline.kafka.topic import Topic
from tests.consuming import caught_up, consuming, log_ends
from tests.edges import running_edge
from tests.papers import ROOT, shell, steps
from tests.place import Place
from tests.waiting import eventually

pytestmark = pytest.mark.real

TUTORIAL: Final = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
VARYING: Final = {
    "ID": r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
    "TIME": r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d{1,6})?(Z|\+00)?",
    "DAY": r"\d{4}-\d\d-\d\d",
    "WEEK": r"\d{4}-W\d\d",
    "SECONDS": r"\b1\d{9}\b",
    "SEED": r"seed \w+",
}
"""What is another at each run, and the word that stands for it in a comparison."""


def masked(lines: list[str]) -> list[str]:
    """Put words in place of ids and times, and one space in place of several: columns are as wide as names are long."""
    text = "\n".join(lines)
    for word, pattern in VARYING.items():
        text = re.sub(pattern, word, text)
    return re.sub(" +", " ", text).split("\n")


def committed(place: Place) -> dict[int, int]:
    """Return what the group committed to Kafka, 0 for a partition without."""
    with closing(Topic(place.settings, place.group)) as topic:
        return {partition: offset or 0 for partition, offset in topic.committed([0, 1, 2]).items()}


def test_each_command_of_the_tutorial_prints_what_it_says(place: Place, tmp_path: Path) -> None:
    found = list(steps(TUTORIAL))
    assert len(found) > 15
    settings = place.settings
    database = {
        "PGHOST": settings.db_host,
        "PGPORT": str(settings.db_port),
        "PGUSER": settings.db_user,
        "PGDATABASE": settings.db_name,
    }
    with (
        running_edge(place) as edge,
        consuming(place),
        shell(place, tmp_path, edge.port, edge.metrics_port) as environment,
    ):
        for step in found:
            caught_up(place)
            eventually(lambda: committed(place) == log_ends(place))
            printed = [
                line.replace(place.group, "event-pipeline-group")
                for line in step.run({**environment, **database}, tmp_path)
            ]
            assert masked(printed) == masked(step.expected), step.command


def test_a_comparison_passes_over_ids_and_times_and_over_nothing_else() -> None:
    assert masked(["0199b0c4-6d1e-7c53-9a51-3f0e8a4b7d21 at 2026-11-28T23:40:00Z"]) == ["ID at TIME"]
    assert masked(["2026-11-28|2026-W48", "[1767225600]   5"]) == ["DAY|WEEK", "[SECONDS] 5"]
    assert masked(["1500"]) != masked(["1501"])
