"""`gamemetrics serve`: put the edge together, run it, and stop it without losing what it has accepted."""

import asyncio
import contextlib
import gc
import ipaddress
import logging
import resource
import signal
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final

import structlog
import uvloop

from pipeline.api.access.key_store import KeyStore
from pipeline.api.access.keyring import Keyring, static_keys
from pipeline.api.access.limits import Limits
from pipeline.api.boards.arrivals import Arrivals
from pipeline.api.boards.postgres import PostgresBoards
from pipeline.api.boards.reads import Boards
from pipeline.api.boards.redis import RedisBoards
from pipeline.api.console.console import make_console
from pipeline.api.context import Context
from pipeline.api.database import Database
from pipeline.api.edge import Edge, monitoring_routes, public_routes
from pipeline.api.events.pressure import Pressure
from pipeline.api.events.short_cut import ShortCut
from pipeline.api.http.connection import patience
from pipeline.api.http.listener import Listener
from pipeline.api.metrics import EdgeMetrics
from pipeline.api.refusals.refusals import Refusals
from pipeline.api.refusals.shared import SharedRefusals
from pipeline.api.valkey import Valkey
from pipeline.config import Settings
from pipeline.contract.event import load_scoring
from pipeline.errors import ConfigurationError, HaltError, UnavailableError
from pipeline.kafka.facts import TopicFacts
from pipeline.kafka.producer import EventProducer
from pipeline.tasks import cancel, watched
from pipeline.trail.tracer import Tracer

_GRACE_SECONDS: Final = 10.0
_FIRST_KEYS_SECONDS: Final = 1.0

_log = structlog.get_logger("edge")


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Raises ConfigurationError when it cannot start."""
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)  # what it warns of, the key store and the reads report
    _allow_descriptors(settings.max_connections)
    uvloop.run(_serve(settings))


class FaultWatch:
    """What the loop calls if a callback or a task raised: nobody would do its work, so the process ends in order.

    Not if it was a connection's own, which is closed then, nor if a server was only away.
    """

    def __init__(self) -> None:
        self.stopping = asyncio.Event()
        self.faults = 0
        self.fatal: BaseException | None = None

    def gauges(self) -> list[tuple[str, str, float]]:
        """Return what was counted, for the metrics."""
        return [("edge_faults", "Callbacks and tasks that raised, since the start", self.faults)]

    def __call__(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Count and log a fault; end the process if it is one of the program's."""
        error = context.get("exception")
        if isinstance(error, UnavailableError):
            _log.warning(context["message"], error=str(error))
            return
        self.faults += 1
        _log.error(context["message"], exc_info=error)
        if error is not None and not context.keys() & {"transport", "protocol"}:
            self.fatal = error
            self.stopping.set()


async def _serve(settings: Settings) -> None:
    watch = FaultWatch()
    stopping = watch.stopping
    asyncio.get_running_loop().set_exception_handler(watch)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with _running(settings, watch):
        # What lives now lives as long as the process, and the collector need not look at it again. The requests make
        # no cycles, so that a higher threshold costs no memory.
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)
        await stopping.wait()
        _log.info("stopping")
    if watch.fatal is not None:
        raise HaltError(f"a part of the edge ended: {type(watch.fatal).__name__}: {watch.fatal}") from watch.fatal


@contextlib.asynccontextmanager
async def _running(settings: Settings, watch: FaultWatch) -> AsyncIterator[None]:
    """Run the edge, from the first connection to the last reply."""
    database, valkey = Database(settings), Valkey(settings)
    aside = Valkey(settings)  # for replies of megabytes, behind which no limit and no read shall wait
    private = _is_loopback(settings.host)
    keyring = Keyring(static_keys(settings), may_be_open=settings.api_open or private, private=private)
    tasks = set[asyncio.Task[None]]()
    producer = EventProducer(settings, settings.max_in_flight_bytes, others=tasks)
    metrics = EdgeMetrics(lambda: keyring.wrong)
    context = Context(
        producer=producer,
        short_cut=ShortCut(load_scoring(settings.scoring_file)),
        keyring=keyring,
        limits=Limits(valkey, settings.rate_limit_rps, settings.rate_limit_bytes_per_second),
        metrics=metrics,
        pressure=Pressure(settings.max_in_flight_bytes),
        boards=Boards(RedisBoards(valkey), PostgresBoards(database)),
        refusals=Refusals(SharedRefusals(aside)),
        console=make_console(settings, producer, metrics, aside),
        tracer=Tracer(settings, database, valkey.hash),
        arrivals=Arrivals(settings.kafka_topic, database, valkey.hash, TopicFacts(settings).ask),
        tasks=tasks,
    )
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(database.close)
        stack.push_async_callback(valkey.aclose)
        stack.push_async_callback(aside.aclose)
        await database.open()
        stack.push_async_callback(context.tracer.close)
        stack.push_async_callback(context.arrivals.close)
        stack.push_async_callback(_stop_producer, producer)
        await asyncio.gather(producer.start(), _admit_somebody(settings, keyring, KeyStore(database, keyring), stack))
        keeping = watched(context.refusals.keep())
        stack.push_async_callback(_stop_refusals, context.refusals, keeping)
        await context.console.start(stack)
        context.metrics.gauges(watch.gauges)
        context.metrics.gauges(context.refusals.gauges)
        await _listen(settings, context, stack)
        yield


async def _admit_somebody(
    settings: Settings, keyring: Keyring, store: KeyStore, stack: contextlib.AsyncExitStack
) -> None:
    """Start to read the keys. Raises ConfigurationError if nobody could ever be let in."""
    loading = watched(store.keep_loading())
    stack.push_async_callback(cancel, loading)
    with contextlib.suppress(TimeoutError):  # a database that is away must not keep the edge from starting
        await asyncio.wait_for(store.asked.wait(), _FIRST_KEYS_SECONDS)
    if store.refused:
        raise ConfigurationError(store.refused)
    if keyring.open:
        _log.warning("open: no API key is needed", make_one="gamemetrics keys create NAME")
    elif store.known and not keyring:
        raise ConfigurationError(
            f"API_KEYS: there is no API key, and HOST {settings.host} is not loopback. Make one with "
            "`gamemetrics keys create NAME`, or set API_OPEN=true to let everybody in"
        )


async def _listen(settings: Settings, context: Context, stack: contextlib.AsyncExitStack) -> None:
    public = Edge(context, public_routes(context))
    listeners = [await _open(settings, settings.port, public, stack)]
    if settings.metrics_port != settings.port:
        monitoring = Edge(context, monitoring_routes(context))
        listeners.append(await _open(settings, settings.metrics_port, monitoring, stack))
    context.metrics.gauges(lambda: _gauges(context, listeners))
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    _log.info("serving", url=f"http://{host}:{settings.port}", docs=f"http://{host}:{settings.port}/docs")


async def _open(settings: Settings, port: int, edge: Edge, stack: contextlib.AsyncExitStack) -> Listener:
    listener = Listener(
        edge,
        connections=settings.max_connections,
        arriving_bytes=settings.max_in_flight_bytes,
        patience=patience(
            head=settings.http_head_timeout_seconds,
            body=settings.http_body_timeout_seconds,
            idle=settings.http_idle_timeout_seconds,
        ),
    )
    try:
        await listener.listen(settings.host, port)
    except OSError as error:
        raise ConfigurationError(
            f"HOST, PORT, METRICS_PORT: cannot listen on {settings.host}:{port}: {error}"
        ) from error
    stack.push_async_callback(listener.drain, _GRACE_SECONDS)
    return listener


def _gauges(context: Context, listeners: Iterable[Listener]) -> list[tuple[str, str, float]]:
    return [
        ("ingest_in_flight_bytes", "Bytes of events that Kafka has not yet confirmed", context.pressure.used),
        ("ingest_in_flight_bytes_limit", "Past this, 503", context.pressure.limit),
        ("ingest_in_flight_events", "Events that Kafka has not yet confirmed", context.producer.in_flight()),
        ("kafka_reachable", "Whether the topic has its leaders", float(context.producer.reachable)),
        ("http_connections", "Open connections", sum(map(len, listeners))),
        (
            "rate_limits_local",
            "Whether limits are kept by this process alone, Valkey being away",
            float(context.limits.local),
        ),
        ("api_keys_required", "Whether a key is needed", float(not context.keyring.open)),
        ("reads_from_postgresql", "Reads that Redis could not answer, since the start", context.boards.fell_back),
        ("reads_waiting", "Reads that wait for what they name by after", context.arrivals.waiting),
    ]


async def _stop_producer(producer: EventProducer) -> None:
    left = await producer.close(_GRACE_SECONDS)
    if left:
        _log.error("events were left unconfirmed; their senders were told so", events=left)


async def _stop_refusals(refusals: Refusals, keeping: asyncio.Task[None]) -> None:
    await cancel(keeping)
    await refusals.flush()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _allow_descriptors(connections: int) -> None:
    """Raise the soft limit of open files as far as the connections need and the hard limit lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + 256
    if soft < wanted and soft != resource.RLIM_INFINITY:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
