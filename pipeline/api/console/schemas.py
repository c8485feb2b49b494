"""What the console's calls answer, as types: handlers build them, and the OpenAPI document is made of them."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from pipeline.api.schemas import Statistics, Time, Uuid

State = Literal["ok", "degraded", "down"]
ProofState = Literal["ok", "degraded", "down", "unknown"]
PerSecond = Annotated[float | None, Meta(description="null if it is not known")]
Positions = Annotated[int, Meta(description="positions of the log, of which transaction markers are some")]


class Edge(msgspec.Struct, frozen=True):
    """The HTTP edge, as far as this replica knows: of several each tells of its own."""

    state: State
    reason: str
    replica: Annotated[str, Meta(description="the host that answers")]
    accepted_per_second: PerSecond
    refused_per_second: PerSecond
    accepted_total: int
    refused_total: int


class Log(msgspec.Struct, frozen=True):
    """The topic in Kafka."""

    state: State
    reason: str
    records_per_second: PerSecond
    records_total: Annotated[int | None, Meta(description="the ends of its logs, added up")]
    partitions: int | None


class Server(msgspec.Struct, frozen=True):
    """PostgreSQL."""

    state: State
    reason: str


class Counters(msgspec.Struct, frozen=True):
    """Redis, and by how much it is behind PostgreSQL."""

    state: State
    reason: str
    behind_records: int | None


class Epoch(msgspec.Struct, frozen=True):
    """The last epoch of a group."""

    events: int
    trigger: str | None
    at: Time


class Partition(msgspec.Struct, frozen=True):
    """Where a group stands in one partition; null if it is not known."""

    partition: int
    first: int
    end: int | None
    postgres: Annotated[int, Meta(description="the watermark: all below it is counted")]
    redis: int | None
    committed: Annotated[int | None, Meta(description="Kafka's committed offset, a hint; not asked for yet")]
    lag_records: int | None
    updated_at: Time


class Group(msgspec.Struct, frozen=True):
    """One consumer group."""

    group: str
    state: State
    reason: str
    records_per_second: PerSecond
    lag_records: int | None
    lag_seconds: Annotated[
        float | None, Meta(description="age of the oldest record that PostgreSQL has not; 0 for none")
    ]
    freshness_seconds: Annotated[float | None, Meta(description="the same of PostgreSQL and Redis together")]
    epoch: Epoch | None
    admitted: int
    duplicates: int
    dead_lettered: int
    partitions: list[Partition]


class DeadLetters(msgspec.Struct, frozen=True):
    """Dead letters that wait for somebody to redrive or drop them."""

    waiting: int | None
    by_code: dict[str, int]
    at_least: Annotated[bool, Meta(description="whether there are more: counting a code ends at a bound")]


class Proof(msgspec.Struct, frozen=True):
    """How far the verifier has come, of the group that is worst; unknown until one has proven everything once."""

    state: ProofState
    reason: Annotated[str, Meta(description="why it is neither ok nor down")]
    differences: int
    behind_records: Annotated[int, Meta(description="between what is proven and where the consumers stand")]
    age_seconds: Annotated[
        float | None, Meta(description="since all that was counted was proven; null if it never was")
    ]
    unproven: Annotated[
        dict[str, int],
        Meta(
            description="what cannot be proven any more: `records` gone from the log; `sums` of days that were dropped"
        ),
    ]


class Overview(msgspec.Struct, frozen=True):
    """The pipeline at one moment: each hop with its state, and the reason if that is not ok."""

    at: Time
    uptime_seconds: float
    topic: str
    edge: Edge
    kafka: Log
    groups: list[Group]
    postgres: Server
    redis: Counters
    dead_letters: DeadLetters
    proof: Proof | None


class Series(msgspec.Struct, frozen=True):
    """The last quarter of an hour, the newest value last; null if it was not known."""

    accepted: list[float | None]
    counted: list[float | None]
    lag_records: list[float | None]
    freshness_seconds: list[float | None]
    dead_letters: list[float | None]


class History(msgspec.Struct, frozen=True):
    """Series of values, one a step."""

    step_seconds: int
    series: Series


class Games(msgspec.Struct, frozen=True):
    """Games that have boards, in the order of their bytes."""

    games: list[str]
    next: Annotated[str | None, Meta(description="`after` of the next page; null after the last")]


Day = Annotated[str, Meta(extra_json_schema={"format": "date"})]


class Dated(msgspec.Struct, frozen=True):
    """A board that ends: of a day, or of a week."""

    period: str
    stamp: Annotated[str, Meta(description="Which day or week, as its key ends")]
    first_day: Day
    last_day: Day


class Days(msgspec.Struct, frozen=True):
    """The days on which a game has scores, the newest first, and the boards that these are of, period by period."""

    game_id: str
    days: list[Day]
    boards: list[Dated]


class Counted(msgspec.Struct, frozen=True):
    """An event that was counted."""

    event_id: Uuid
    event_type: str
    game_id: str
    timestamp: Time
    ingested_at: Time
    counted_at: Time
    data: Annotated[dict[str, Any], Meta(description="as it was sent, an object")]


class Player(msgspec.Struct, frozen=True):
    """A player: statistics, the newest events, and the games these are of."""

    player_id: str
    statistics: Statistics | None
    events: list[Counted]
    games: list[str]


class Letter(msgspec.Struct, frozen=True):
    """A dead letter. `event` is the record as text, its beginning in a list."""

    id: int
    code: str
    error: str
    event: str
    topic: str
    partition: int
    offset: int
    record_timestamp: Time
    created_at: Time
    redriven_at: Time | None
    dropped_at: Time | None
    service: str


class Letters(msgspec.Struct, frozen=True):
    """Dead letters, the newest first, and how many wait by code."""

    letters: list[Letter]
    next: Annotated[int | None, Meta(description="`before` of the next page; null after the last")]
    by_code: dict[str, int]


class WholeLetter(Letter, frozen=True):
    """A dead letter in full, with its bytes: of a record longer than an event may be, its beginning."""

    key: str | None
    value_base64: str | None


class Change(msgspec.Struct, frozen=True):
    """What was done to dead letters, or would be: how many, and the first of them.

    Not `done` if more are left: ask again.
    """

    count: int
    letters: list[Letter]
    done: bool
    unfit: Annotated[int, Meta(description="of those asked for, how many can never be sent again")] = 0


class AuditEntry(msgspec.Struct, frozen=True):
    """A change that somebody made."""

    at: Time
    actor: str
    action: str
    reason: str
    count: int


class Audit(msgspec.Struct, frozen=True):
    """The changes that were made, the newest first."""

    entries: list[AuditEntry]


class Bounds(msgspec.Struct, frozen=True):
    """Where the log of a partition begins and ends."""

    partition: int
    first: int
    end: Positions


class Topic(msgspec.Struct, frozen=True):
    """The topic's partitions."""

    topic: str
    partitions: list[Bounds]


class Record(msgspec.Struct, frozen=True):
    """One record of the topic; `value` is null, and `value_base64` given, if it is no UTF-8 text."""

    offset: int
    timestamp: Annotated[Time | None, Meta(description="null if the record's own is none")]
    key: str | None
    value: str | None
    value_base64: str | None
    headers: Annotated[list[list[str]], Meta(description="names and values")]
    bytes: Annotated[int, Meta(description="of the whole value, of which a long one's beginning is shown")]


class Records(msgspec.Struct, frozen=True):
    """Part of a partition: the newest first, or from an offset on, the oldest first."""

    partition: int
    first: int
    end: int
    records: list[Record]
    next: Annotated[int | None, Meta(description="`before`, or `offset`, of the next page; null after the last")]
    scanned: Annotated[int, Meta(description="records looked at, most of which a filter may leave out")]
