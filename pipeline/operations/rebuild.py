"""`gamemetrics cache rebuild`: the counters in Redis anew from PostgreSQL, while consumers wait."""

from contextlib import closing

from pipeline.config import Settings
from pipeline.epoch.epoch import plan_for
from pipeline.sinks.connection import connect, translated
from pipeline.sinks.level import Cache
from pipeline.sinks.redis import RedisSink
from pipeline.verify.groups import read_groups


def rebuild(settings: Settings) -> dict[str, int]:
    """Refill Redis for every group that keeps counters there; returns how many rows each was given.

    Raises UnavailableError: calling again starts again, and until then consumers refill what they find missing.
    """
    with translated(), connect(settings, "gamemetrics-rebuild") as connection:
        groups = [group for group in read_groups(connection, settings.kafka_topic) if group.role.uses_redis]
    rows = {}
    for group in groups:
        plan = plan_for(group.role, settings)
        with closing(RedisSink(settings, group.id)) as sink, closing(Cache(settings, plan, group.id, sink)) as cache:
            sink.open()
            rows[group.id] = cache.rebuild()
    return rows
