"""A fault of ours is counted each time, and logged at once and then rarely."""

import pytest
from prometheus_client import REGISTRY

from pipeline.epoch.narrowing import Fault, Unforeseen
from pipeline.sinks.faults import QUIET_SECONDS, FaultReport


def fault(stage: str, error: Exception, records: int) -> Fault:
    return Fault(stage, Unforeseen(error), records)


def test_a_kind_is_logged_once_and_again_after_a_while(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    report = FaultReport(lambda: now[0])
    for _ in range(100):
        report.of_lanes([fault("layout", ValueError("odd"), 0)])
    report.of_lanes([fault("typed", ValueError("odd"), 0), fault("layout", KeyError("other"), 0)])
    said = capsys.readouterr().out
    assert said.count("a lane raised") == 3
    now[0] = QUIET_SECONDS
    report.of_lanes([fault("layout", ValueError("odd"), 0)])
    assert "untold=99" in capsys.readouterr().out.replace("'", "")


def test_every_fault_is_counted_by_lane_or_by_records() -> None:
    def counted(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(name, labels) or 0

    lanes, records = (
        counted("pipeline_lane_faults_total", lane="x"),
        counted("pipeline_internal_faults_total", stage="x"),
    )
    report = FaultReport()
    report.of_lanes([fault("x", ValueError(), 0)] * 3)
    report.of_records([fault("x", ValueError(), 5), fault("x", KeyError(), 0)])
    assert counted("pipeline_lane_faults_total", lane="x") == lanes + 3
    assert counted("pipeline_internal_faults_total", stage="x") == records + 6, (
        "one that did not come again counts, too"
    )
    assert REGISTRY.get_sample_value("pipeline_internal_faults_total", {"stage": "judge"}) is not None, "from the start"
