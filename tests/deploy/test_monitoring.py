"""Rules hold by promtool; alerts lead to runbooks; dashboards and rules ask only for metrics that someone exports."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from pipeline import metrics as consumer_metrics
from pipeline.api.metrics import EdgeMetrics
from pipeline.verify import metrics as proof_metrics
from scripts.write_rules import SOURCE, TARGET, prometheus_rule
from tests.deploy.rendering import of_kind, rendered
from tests.deploy.tools import DEPLOY, ROOT, output, program, run

DASHBOARDS: Final = sorted((DEPLOY / "k8s" / "components" / "monitoring" / "dashboards").glob("*.json"))
RULES: Final = yaml.safe_load(SOURCE.read_text(encoding="utf-8"))["groups"]
ALERTS: Final = [rule for group in RULES for rule in group["rules"] if "alert" in rule]

CONSUMERS: Final = [
    one
    for module in (consumer_metrics, proof_metrics)
    for one in vars(module).values()
    if isinstance(one, MetricWrapperBase)
]

ELSEWHERE: Final = {
    "up", "ALERTS", "process_resident_memory_bytes", "process_cpu_seconds_total",
    "kubelet_volume_stats_available_bytes", "kubelet_volume_stats_capacity_bytes",
    "certmanager_certificate_expiration_timestamp_seconds", "strimzi_certificate_expiration_timestamp_ms",
    "cnpg_collector_last_available_backup_timestamp", "cnpg_pg_stat_archiver_seconds_since_last_archival",
    "ingest_in_flight_bytes", "ingest_in_flight_bytes_limit", "kafka_reachable", "http_connections",
    "reads_from_postgresql",
}  # fmt: skip
"""Of Prometheus, Kubernetes, cert-manager, Strimzi, CloudNativePG; and the edge's gauges, made at run time."""


def exported() -> set[str]:
    """The names of every sample that the consumers and the edge export, and every recording rule."""
    families = [
        *(metric for one in CONSUMERS for metric in one.collect()),
        *EdgeMetrics(lambda: 0).collect(),
    ]
    names = {rule["record"] for group in RULES for rule in group["rules"] if "record" in rule}
    for family in families:
        suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""])
        names |= {family.name + suffix for suffix in suffixes}
    return names | ELSEWHERE


def asked_for(query: str) -> set[str]:
    """The names of metrics in a query: what stands before a selector or alone, less PromQL's own words."""
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]|\b(by|on|group_left|without|ignoring) \([^)]*\)', " ", query)
    words = set(re.findall(r"(?<![\w:.])[a-zA-Z_:][\w:]*(?!\s*\()(?![\w:])", bare))
    return words - {"and", "or", "unless", "offset", "bool", "on", "by", "group_left"}


def queries(dashboard: Path) -> Iterator[tuple[str, str]]:
    for panel in json.loads(dashboard.read_text(encoding="utf-8"))["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]


def test_the_rules_are_well_formed_and_do_what_they_say(tmp_path: Path) -> None:
    output(program("promtool"), "check", "rules", str(SOURCE))
    (tmp_path / SOURCE.name).write_text(SOURCE.read_text(encoding="utf-8"), encoding="utf-8")
    cases = (Path(__file__).parent / "rules_test.yaml").read_text(encoding="utf-8")
    (tmp_path / "rules_test.yaml").write_text(cases, encoding="utf-8")
    assert "SUCCESS" in output(program("promtool"), "test", "rules", "rules_test.yaml", cwd=tmp_path)


def test_every_alert_is_tested_and_has_a_runbook() -> None:
    cases = (Path(__file__).parent / "rules_test.yaml").read_text(encoding="utf-8")
    tested = set(re.findall(r"alertname: (\w+)", cases))
    assert {rule["alert"] for rule in ALERTS} == tested
    for rule in ALERTS:
        page, _, anchor = rule["annotations"]["runbook"].partition("#")
        headings = re.findall(r"^## (\w+)$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
        assert anchor in {heading.lower() for heading in headings}, rule["alert"]
        assert rule["labels"]["severity"] in {"warning", "critical"}


def test_the_prometheus_rule_is_the_same_rules() -> None:
    assert TARGET.read_text(encoding="utf-8") == prometheus_rule(), "run `make rules`"
    (manifest,) = of_kind(rendered("overlays/prod"), "PrometheusRule")
    assert manifest["spec"]["groups"] == RULES


def test_composes_prometheus_finds_its_configuration_sound(tmp_path: Path) -> None:
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / SOURCE.name).write_text(SOURCE.read_text(encoding="utf-8"), encoding="utf-8")
    configuration = (DEPLOY / "compose" / "prometheus.yaml").read_text(encoding="utf-8")
    (tmp_path / "prometheus.yml").write_text(configuration, encoding="utf-8")
    output(program("promtool"), "check", "config", str(tmp_path / "prometheus.yml"))


def test_rules_ask_only_for_what_is_exported() -> None:
    for group in RULES:
        for rule in group["rules"]:
            assert asked_for(rule["expr"]) - exported() == set(), rule


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_asks_only_for_what_is_exported(dashboard: Path) -> None:
    found = list(queries(dashboard))
    assert found
    for title, query in found:
        assert asked_for(query) - exported() == set(), title


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboards_queries_are_promql(dashboard: Path, tmp_path: Path) -> None:
    rules = [{"record": f"query:{number}", "expr": one} for number, (_, one) in enumerate(queries(dashboard))]
    (tmp_path / "queries.yaml").write_text(
        yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}), encoding="utf-8"
    )
    finished = run(program("promtool"), "check", "rules", str(tmp_path / "queries.yaml"))
    assert finished.returncode == 0, finished.stderr


def test_a_dashboard_has_a_name_of_its_own_and_only_the_chosen_data_source() -> None:
    boards = [json.loads(path.read_text(encoding="utf-8")) for path in DASHBOARDS]
    assert [board["uid"] for board in boards] == [path.stem for path in DASHBOARDS]
    for panel in (panel for board in boards for panel in board["panels"] if panel["type"] != "row"):
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
