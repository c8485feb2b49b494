"""Write the PrometheusRule of deploy/k8s from the rules as Prometheus reads them. `make rules` runs it."""

import textwrap
from pathlib import Path

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
SOURCE = DEPLOY / "prometheus" / "pipeline.rules.yaml"
TARGET = DEPLOY / "k8s" / "components" / "monitoring" / "rules.yaml"
HEADER = """\
# Written by `make rules` from deploy/prometheus/pipeline.rules.yaml.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata: {name: pipeline}
spec:
"""


def prometheus_rule() -> str:
    """Return the manifest: the groups, indented under `spec`."""
    groups = SOURCE.read_text(encoding="utf-8").partition("groups:\n")[2]
    return HEADER + textwrap.indent("groups:\n" + groups, "  ", lambda line: bool(line.strip()))


if __name__ == "__main__":
    TARGET.write_text(prometheus_rule(), encoding="utf-8")
    print(TARGET)
