"""The bench's arithmetic: percentiles, peaks, metrics, the deployment table, the regression check, the tables."""

from dataclasses import replace
from pathlib import Path

import pytest

from bench import load_tables, regression, report, table
from bench.alone import Alone, Cost
from bench.beside import Limited, Pair
from bench.chaos import Chaos
from bench.deployment import Assumptions, costs_of, one_postgres_ends, plan
from bench.findings import MANY, SHAPES, Findings, Machine, load, newest_with, save, write
from bench.flat import Flat
from bench.freshness import Freshness, percentile
from bench.guide import Guide
from bench.limit import Limit
from bench.many import Compared, Many
from bench.meter import Reading, parse_peak
from bench.progress import reached
from bench.service import logged_event, parse_metrics
from bench.shaped import Job, Shaped, Shapes
from bench.sweep import SizePoint, Sweep, WaitPoint
from bench.throughput import Shared, Throughput

RUN = Throughput(
    events=1_000_000,
    seconds=10.0,
    seconds_since_assigned=8.0,
    cpu={"consumer": 6.0, "postgres": 6.0, "valkey": 1.5, "kafka": 0.5},
    startup_cpu_seconds=1.0,
    peak_rss_bytes=500 << 20,
    stage_seconds={"prepare": 5.0, "postgres": 8.0, "redis": 2.0},
    epochs={"events": 9, "bytes": 0, "wait": 1},
    wal_bytes_per_event=500.0,
    table_bytes_per_event=400.0,
    value_bytes_per_event=268.0,
)
LIMIT = Limit(1_000_000, 9.0, {"client": 0.2, "postgres": 5.8, "valkey": 1.0}, 350.0)
FRESHNESS = Freshness(5_000, 4_990, [0.08, 0.1], [0.07, 0.09], [0.004, 0.005], {"edge": 50.0})
FINDINGS = Findings("2026-01-01T00:00:00+00:00", Machine(2, 8 << 30, "Linux x86_64", "3.11.0", 0.1), RUN, LIMIT)
SCALED = ((1, 10.0), (3, 99.0), (3, 10.5), (1, 1.0), (1, 12.0), (3, 10.2))
MIXED = replace(RUN, seconds=16.0, value_bytes_per_event=412.0)
EVERYTHING = replace(
    FINDINGS,
    mixed=MIXED,
    mixed_limit=replace(LIMIT, seconds=12.8),
    freshness=FRESHNESS,
    guide=Guide(5_000, 25.0, {"consumer": 900.0}),
    flat=Flat(50_000_000, 5_000_000, 91, replace(RUN, seconds=11.0), replace(RUN, seconds=8.8)),
    scale=[
        Shared(processes, 1_000_000, {"consumer": cpu}, [1_000_000 // processes] * processes)
        for processes, cpu in SCALED
    ],
    chaos=Chaos(1_000_000, 3, 30_000, 100.0, {"consumer": 20.0}),
    sweep=Sweep([SizePoint(1_000, 9_000.0, 50.0, 1 << 28, 900.0)], [WaitPoint(100, 0.06, 0.11, 90.0)], 5_000.0),
)

PAIR = Pair(MIXED, replace(RUN, cpu={"consumer": 5.0, "postgres": 5.0}), 0.81, 0.83)
FOUND_SHAPES = Shapes(
    FINDINGS.at, FINDINGS.machine, 300_000,
    [
        Shaped(
            "mixed", "the mix",
            Alone(Cost(9.0, 300.0), Cost(6.0, 225.0), Cost(4.0, 400.0), Cost(2.0, 250.0), Cost(2.5, 400.0)),
            Job(PAIR, Limited(MIXED, replace(LIMIT, seconds=12.8))),
        ),
        Shaped("offset", "times with an offset", Alone(Cost(45.0, 230.0), Cost(6.0, 225.0), None, None, None)),
    ],
)  # fmt: skip
FOUND_MANY = Many(
    FINDINGS.at, FINDINGS.machine, 300_000,
    [Compared("20,000 games", by_bytes=False, pair=PAIR), Compared("events of 4 KiB", by_bytes=True, pair=PAIR)],
)  # fmt: skip


def test_a_rate_counts_from_the_first_poll_and_a_total_over_every_process() -> None:
    assert RUN.rate == 100_000
    assert RUN.rate_when_running == 125_000
    assert RUN.cpu_total == 14.0


@pytest.mark.parametrize(
    ("seconds", "share", "expected"),
    [
        ([0.3], 0.99, 0.3),
        ([0.2, 0.1], 0.5, 0.1),
        ([float(number) for number in range(1, 101)], 0.99, 99.0),
        ([float(number) for number in range(1, 101)], 1.0, 100.0),
        ([float(number) for number in range(1, 402)], 0.95, 381.0),
    ],
)
def test_a_percentile_is_the_nearest_rank(seconds: list[float], share: float, expected: float) -> None:
    assert percentile(seconds, share) == expected


def test_a_reading_is_subtracted_process_by_process() -> None:
    earlier, later = Reading(1.0, {"kafka": 2.0, "valkey": 1.0}), Reading(3.0, {"kafka": 2.5, "valkey": 1.0})
    assert later.since(earlier) == {"kafka": 0.5, "valkey": 0.0}


def test_the_peak_is_read_from_the_systems_status() -> None:
    assert parse_peak("Name:\tpython\nVmHWM:\t  2048 kB\nVmRSS:\t 1024 kB\n") == 2 << 20
    assert parse_peak("") is None


def test_a_group_has_reached_the_end_only_with_every_partition() -> None:
    assert reached({0: 5, 1: 7}, {0: 5, 1: 7, 2: 0})
    assert not reached({0: 5, 1: None}, {0: 5, 1: 7})
    assert not reached({0: 5}, {0: 5, 1: 1})


def test_metrics_are_found_by_name_and_labels() -> None:
    text = '# TYPE pipeline_stage_seconds histogram\npipeline_stage_seconds_sum{stage="redis"} 1.5\nup 1\n'
    assert parse_metrics(text) == {'pipeline_stage_seconds_sum{stage="redis"}': 1.5, "up": 1.0}


def test_only_a_json_line_logs_an_event() -> None:
    assert logged_event('{"event":"consuming","role":"all"}\n') == "consuming"
    assert logged_event("%6|BGQUEUE\n") == ""
    assert logged_event("{broken\n") == ""


def test_a_deployment_grows_with_the_rate_and_names_where_one_postgres_ends() -> None:
    costs, given = costs_of(RUN, LIMIT), Assumptions(utilisation=0.5, postgres_cores=30, wal_megabytes=1000)
    end, why = one_postgres_ends(costs, given)
    assert (end, why) == (2_000_000, "WAL")
    assert one_postgres_ends(costs, replace(given, wal_megabytes=5_000)) == (2_500_000, "cores")
    small, large = plan(100_000, costs, given), plan(10_000_000, costs, given)
    assert (small.postgres_cores, small.postgres_servers, small.wal_megabytes) == (2, 1, 50.0)
    assert (large.postgres_cores, large.postgres_servers, large.wal_megabytes) == (120, 5, 5_000.0)
    assert small.partitions == max(3, 2 * small.consumers)
    assert large.consumers == 120
    assert large.table_gigabytes_a_day == 345_600


def test_findings_survive_the_file_and_the_newest_with_a_part_is_found(tmp_path: Path) -> None:
    save("full", FINDINGS, tmp_path)
    later = replace(EVERYTHING, at="2026-02-01T00:00:00+00:00", freshness=None)
    save("sweep", later, tmp_path)
    save("old", replace(EVERYTHING, at="2025-01-01T00:00:00+00:00"), tmp_path)
    regression.record([FINDINGS], tmp_path)
    assert load(tmp_path / "full.json") == FINDINGS
    assert newest_with("sweep", tmp_path) == later
    fresh = newest_with("freshness", tmp_path)
    assert fresh is not None
    assert fresh.at.startswith("2025")
    assert newest_with("freshness", tmp_path / "nowhere") is None


def test_the_regression_check_compares_ratios_and_not_times(tmp_path: Path) -> None:
    known = regression.record([FINDINGS], tmp_path)
    assert regression.recorded(tmp_path) == known
    slower_machine = replace(
        FINDINGS,
        throughput=replace(RUN, seconds=90.0, cpu={"consumer": 56.0}),
        limit=replace(LIMIT, seconds=80.0, cpu={"postgres": 28.0}),
    )
    assert not regression.worse([slower_machine], known)
    dearer = replace(FINDINGS, throughput=replace(RUN, cpu={"consumer": 17.0}))
    assert regression.worse([dearer], known)


def test_one_run_out_of_three_decides_no_regression_check(tmp_path: Path) -> None:
    dear = replace(FINDINGS, throughput=replace(RUN, cpu={"consumer": 28.0}))
    known = regression.record([dear, FINDINGS, FINDINGS], tmp_path)
    assert known.cpu_ratio == round(regression.cpu_ratio([FINDINGS]), 3)
    assert not regression.worse([FINDINGS, dear, FINDINGS], known)
    assert regression.worse([dear, dear, FINDINGS], known)


def test_findings_without_a_limit_have_no_ratio() -> None:
    with pytest.raises(ValueError, match="limit"):
        regression.cpu_ratio([replace(FINDINGS, limit=None)])


def test_the_table_says_everything_that_was_found() -> None:
    text = "\n".join([*table.lines(EVERYTHING), *table.deployment_lines(EVERYTHING)])
    for phrase in (
        "100,000", "0.90", "14.0  consumer 6.0, postgres 6.0, valkey 1.5, kafka 0.5", "500 times slower",
        "peak RSS 500 MiB", "9 by events, 1 by wait", "500 B of WAL", "0.80 of the rate into an empty", "+5.0%",
        "3 kills", "whole job, mixed shapes of 412 bytes", "62,500", "78,125", "BATCH_MAX_WAIT_MS",
        "one PostgreSQL ends at",
    ):  # fmt: skip
        assert phrase in text, phrase
    assert "kills" not in "\n".join(table.lines(FINDINGS))
    mixed, limit = next(row for row in table.rates(EVERYTHING) if "mixed" in row[0]), table.rates(EVERYTHING)[-2]
    assert (mixed[1], mixed[2], limit[1]) == ("62,500", "0.80", "78,125")
    assert not any("mixed" in row[0] for row in table.rates(FINDINGS))


def test_shapes_are_told_beside_flat_and_padded_ones() -> None:
    mixed, offset = load_tables.alone(FOUND_SHAPES)
    assert mixed == ("mixed", "400", "4.0", "10.0", "1.25", "1.60", "9.0", "1.50")
    assert offset == ("offset", "", "", "", "", "", "45.0", "7.50")
    assert load_tables.jobs(FOUND_SHAPES) == [("mixed", "412", "62,500", "0.81", "14.0", "1.40", "500")]
    lines = load_tables.shape_lines(FOUND_SHAPES)
    assert "mixed: 62,500 events/s are 0.80 of its limit (78,125)." in lines
    alone_only = replace(FOUND_SHAPES, shapes=[replace(shape, job=None) for shape in FOUND_SHAPES.shapes])
    assert "whole job" not in "\n".join(load_tables.shape_lines(alone_only))


def test_many_and_large_are_told_beside_the_reference() -> None:
    reference, games, large = load_tables.many(FOUND_MANY)
    assert reference == ("reference", "1,000,000", "268", "100,000", "1", "26.8", "10.0", "500")
    assert games == ("20,000 games", "1,000,000", "412", "62,500", "0.81", "25.8", "14.0", "500")
    assert (large[0], large[4]) == ("events of 4 KiB", "0.83 by byte")
    assert "300,000 events" in "\n".join(load_tables.many_lines(FOUND_MANY))


def test_a_paper_is_filled_between_its_marks_only(tmp_path: Path) -> None:
    names = ("rates", "freshness", "flat", "scale", "chaos", "sweep", "deployment", "shapes", "many")
    paper = tmp_path / "performance.md"
    paper.write_text("before\n" + "".join(f"<!-- bench:{name} -->\nold\n<!-- end -->\n" for name in names) + "after\n")
    save("full", EVERYTHING, tmp_path)
    write(tmp_path / SHAPES, FOUND_SHAPES)
    write(tmp_path / MANY, FOUND_MANY)
    assert report.write(paper, tmp_path) == list(names)
    text = paper.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "| mixed | 412 | 62,500 | 0.81 |" in text
    assert "| 20,000 games | 1,000,000 | 412 |" in text
    assert "With 50,000,000 events of 5,000,000 players" in text
    with pytest.raises(KeyError, match="missing"):
        report.fill(text, "missing", "")


def test_the_papers_of_the_repository_have_every_place() -> None:
    text = report.PAPER.read_text()
    for name in ("rates", "freshness", "flat", "scale", "chaos", "sweep", "deployment", "shapes", "many"):
        assert f"<!-- bench:{name} -->" in text
