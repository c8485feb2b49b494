"""What `gamemetrics verify --watch` tells Prometheus."""

from prometheus_client import Counter, Gauge

offset = Gauge("pipeline_proof_offset", "Below it every record has its fate", ["group", "partition"])
age = Gauge("pipeline_proof_age_seconds", "Since all that was counted was proven", ["group"])
behind = Gauge("pipeline_proof_behind_records", "Records between what is proven and the watermarks", ["group"])
records = Counter("pipeline_proof_records_total", "Records proven", ["group"])
differences = Gauge("pipeline_proof_differences", "What differs, by kind", ["group", "kind"])
waiting = Gauge(
    "pipeline_proof_waiting", "What seems to differ and is looked at soon: players, keys", ["group", "what"]
)
unproven = Gauge("pipeline_proof_unproven", "What cannot be proven any more, by reason", ["group", "reason"])
rounds = Gauge("pipeline_proof_round_seconds", "How long the last round over what is old took", ["group", "store"])
