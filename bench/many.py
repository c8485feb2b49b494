"""`python -m bench --many`: loads that are large or have many of something, each in turns with the reference load."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

import polars as pl

from bench.beside import Pair, Prepare, backlog, in_turns, warm_up
from bench.findings import Machine, now, this_machine
from bench.flat import settle
from bench.load import Load, reference_load
from bench.rig import Rig, running_rig
from bench.shapes import Shape, padded
from pipeline.contract.event import load_scoring
from pipeline.load.workload import draw

EVENTS: Final = 300_000
BYTES: Final = 300_000_000
"""Of all values together, if an event is large."""
_TURNS: Final = 1
_TYPES: Final = 5_000
_LATE: Final = timedelta(days=3)
_SIZES: Final = (4, 16, 60)
_KIBIBYTE: Final = 1024
_FLAT_BYTES: Final = 269
_OWN_STREAM: Final = 7

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Case:
    """A load; `by_bytes`: what is compared with the reference is bytes a second, because its events are larger."""

    name: str
    load: Load
    by_bytes: bool = False
    prepare: Prepare | None = None


@dataclass(frozen=True, slots=True)
class Compared:
    """What was found of one case, and its ratio to the reference: of events a second, or of bytes."""

    name: str
    by_bytes: bool
    pair: Pair

    @property
    def ratio(self) -> float:
        """The rate as a share of the reference's in the same turn."""
        return self.pair.byte_ratio if self.by_bytes else self.pair.rate_ratio


@dataclass(frozen=True, slots=True)
class Many:
    """What a run of `--many` found; `events` are those of the reference load."""

    at: str
    machine: Machine
    events: int
    cases: list[Compared]


def run(events: int, say: Say, seed: int = 1) -> Many:
    """Measure every case. Raises WrongSumsError when any sum is off: then no figure is worth anything."""
    at, machine = now(), this_machine()
    with running_rig() as rig:
        say("warming up the servers")
        warm_up(rig)
        return Many(at, machine, events, list(measure(rig, cases(events, seed), events, say)))


def measure(rig: Rig, chosen: Iterable[Case], events: int, say: Say) -> Iterator[Compared]:
    """Consume each case in turns with the reference load."""
    with backlog(rig, reference_load(events)) as reference:
        for case in chosen:
            say(f"{case.name}: {case.load.count:,} records")
            with backlog(rig, case.load) as own:
                yield Compared(case.name, case.by_bytes, in_turns(rig, own, reference, _TURNS, case.prepare))


def cases(events: int, seed: int = 1, most_bytes: int = BYTES) -> Iterator[Case]:
    """List what there can be many of, with loads of `events` records, and what can be large."""
    load = reference_load(events, seed)
    plain = load.workload
    yield Case("5,000 event types", replace(load, shape=_TYPED))
    yield Case("20,000 games", replace(load, workload=replace(plain, games=20_000)))
    yield Case("every player once", replace(load, shape=_DISTINCT))
    yield Case("a million players", replace(load, workload=replace(plain, players=1_000_000)))
    yield Case("one player with half of all events", replace(load, shape=_HOT))
    yield Case("half of all records copies", replace(load, copies=True))
    late = replace(plain, end=plain.end - _LATE)
    yield Case("three to six days late, on settled boards", replace(load, workload=late), prepare=settle)
    for kibibytes in _SIZES:
        size = kibibytes * _KIBIBYTE
        large = Load(max(1, min(events, most_bytes // size)), plain, padded(size - _FLAT_BYTES))
        yield Case(f"events of {kibibytes} KiB", large, by_bytes=True)


def _of_many_types(events: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Divide the types that do not score up into very many; those that score stay, and so does what must come out."""
    scoring = list(load_scoring())
    number = draw(seed, _OWN_STREAM) % ((_TYPES - len(scoring)) // _PLAIN_TYPES)
    divided = pl.col("event_type") + pl.lit(".") + number.cast(pl.String)
    return events.with_columns(
        event_type=pl.when(pl.col("event_type").is_in(scoring)).then("event_type").otherwise(divided)
    )


def _distinct(events: pl.DataFrame, _seed: int) -> pl.DataFrame:
    return events.with_columns(player_id=pl.lit("player-") + pl.col("index").cast(pl.String).str.zfill(9))


def _one_hot(events: pl.DataFrame, seed: int) -> pl.DataFrame:
    hot = draw(seed, _OWN_STREAM) % 2 == 0
    return events.with_columns(player_id=pl.when(hot).then(pl.lit("player-everywhere")).otherwise("player_id"))


_PLAIN_TYPES: Final = 4
"""Types of the reference load that do not score."""
_TYPED: Final = Shape("types", "very many event types", _of_many_types)
_DISTINCT: Final = Shape("distinct", "every player once", _distinct)
_HOT: Final = Shape("hot", "one player with half of all events", _one_hot)
