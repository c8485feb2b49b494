"""What the consumer tells Prometheus."""

from prometheus_client import Counter, Gauge, Histogram

EPOCH_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

events = Counter("pipeline_events_total", "Records by what became of them", ["outcome"])
epochs = Counter("pipeline_epochs_total", "Epochs by what made them due", ["trigger"])
epoch_events = Histogram(
    "pipeline_epoch_events", "Records in an epoch", buckets=(1, 10, 100, 1_000, 10_000, 50_000, 100_000, 1_000_000)
)
stage_seconds = Histogram("pipeline_stage_seconds", "Time an epoch spends in a stage", ["stage"], buckets=EPOCH_SECONDS)
freshness = Histogram(
    "pipeline_freshness_seconds", "From the record's time to both sinks, oldest of the epoch", buckets=EPOCH_SECONDS
)
retries = Counter("pipeline_retries_total", "Waits for a server that was away", ["sink"])
sink_up = Gauge("pipeline_sink_up", "1 while the last attempt on a sink succeeded", ["sink"])
sink_refused = Gauge("pipeline_sink_refused", "1 while a server denies the account a right that is needed", ["sink"])
flights = Gauge("pipeline_flights", "Epochs between poll and commit")
position = Gauge("pipeline_watermark_offset", "Next offset to write, in PostgreSQL", ["partition"])
lag = Gauge("pipeline_lag_records", "Records between the watermark and the end of the log", ["partition"])
log_end = Gauge("pipeline_log_end_offset", "End of the log, as Kafka tells it", ["partition"])
lag_seconds = Gauge("pipeline_lag_seconds", "Age of the newest record in both sinks; 0 without lag", ["partition"])
outbox_rows = Gauge("pipeline_outbox_rows", "Calls that Redis has not been seen to have applied yet")
partition_days = Gauge("pipeline_partition_days_left", "Days ahead for which the ledger has partitions", ["ledger"])
housekeeping_failures = Counter(
    "pipeline_housekeeping_failures_total",
    "Housekeeping put off: somebody was in its way, or PostgreSQL away",
    ["chore"],
)
housekeeping_late = Gauge(
    "pipeline_housekeeping_late_seconds", "For how long housekeeping has been put off; 0 while it is done", ["chore"]
)
refused_keys = Counter("pipeline_redis_refused_keys_total", "Redis keys of a wrong type that were refilled")
lane_faults = Counter("pipeline_lane_faults_total", "Slices of records that a fast lane could not read", ["lane"])
internal_faults = Counter(
    "pipeline_internal_faults_total", "Records dead-lettered for a fault of the pipeline's own", ["stage"]
)
for _server in ("kafka", "postgres", "redis"):
    sink_refused.labels(_server)
for _lane in ("columns", "layout", "typed"):
    lane_faults.labels(_lane)
for _stage in ("judge", "prepare", "write"):  # there from the start, or the first one would be no increase
    internal_faults.labels(_stage)
