"""The lag that a consumer tells Prometheus: none when it has caught up, all that waits when PostgreSQL does."""

import pytest
from prometheus_client import REGISTRY

from pipeline.contract.event import RECORD_TIMES
from pipeline.engine.lag import Ages, ages
from pipeline.sinks.postgres import CACHE_LOCK
from tests.consuming import caught_up, consuming
from tests.events import encoded, records_of
from tests.place import Place
from tests.waiting import eventually

pytestmark = pytest.mark.real


def gauge(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


def test_lag_rises_while_postgres_holds_and_falls_to_nothing_after(place: Place) -> None:
    place.produce([("p", encoded(player_id="p"))], partition=1)
    with consuming(place), place.pg() as holder:
        caught_up(place)
        eventually(lambda: gauge("pipeline_lag_records", partition="1") == 0)
        assert gauge("pipeline_lag_seconds", partition="1") == 0
        assert gauge("pipeline_watermark_offset", partition="1") == 1
        holder.execute("SELECT pg_advisory_lock(%s)", (CACHE_LOCK,))
        place.produce([("p", encoded(player_id="p"))] * 50, partition=1)
        eventually(lambda: gauge("pipeline_lag_records", partition="1") == 50)
        eventually(lambda: (gauge("pipeline_lag_seconds", partition="1") or 0) > 1)
        holder.execute("SELECT pg_advisory_unlock(%s)", (CACHE_LOCK,))
        eventually(lambda: gauge("pipeline_lag_records", partition="1") == 0)
        assert gauge("pipeline_lag_seconds", partition="1") == 0
    assert gauge("pipeline_lag_records", partition="1") is None, "a partition that was given up is told of no more"


def test_the_day_partitions_ahead_are_told(place: Place) -> None:
    place.produce([encoded()])
    with consuming(place, partition_days_ahead=9):
        caught_up(place)

        # Housekeeping makes them beside the epochs, and later if one is in its way; who writes then looks.
        def told() -> bool:
            place.produce([encoded()])
            return 9 < (gauge("pipeline_partition_days_left", ledger="events") or 0) <= 10

        eventually(told, timeout=60)


def test_an_epoch_is_as_old_as_its_oldest_record_and_each_partition_as_new_as_its_last() -> None:
    day = RECORD_TIMES.start
    records = records_of([(0, 5, day + 30, b""), (0, 6, day + 20, b""), (1, 1, day + 10, b""), (0, 7, day + 40, b"")])
    assert ages(records) == Ages(oldest=day + 10, newest={0: day + 40, 1: day + 10})
