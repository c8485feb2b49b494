"""Two stages alone, shape by shape: the consumer's decoder on full epochs, and the edge's judge on single events.

They run in a process of their own with the consumer's environment (one polars thread), turn by turn beside the flat
load and the padded one, in CPU time: the ratios are to be trusted, the seconds are of the day.
"""

import gc
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import median
from time import process_time
from typing import Final

import polars as pl

from bench.shapes import SHAPES, Shape, bodies, padded_like, values
from pipeline.api.events.short_cut import ShortCut
from pipeline.api.events.stamps import Stamps
from pipeline.contract.event import format_timestamp, load_scoring
from pipeline.epoch.batch import RECORD_COLUMNS, Records
from pipeline.epoch.decode import Decoder
from pipeline.load.workload import Workload

EPOCH: Final = 110_000
_JUDGED: Final = 10_000
_TURNS: Final = 3
_MICROSECONDS: Final = 1_000_000
_PARTITIONS: Final = 3


@dataclass(frozen=True, slots=True)
class Cost:
    """What one record costs: CPU microseconds, which are CPU seconds per million; and how large it is."""

    cpu: float
    value_bytes: float

    @property
    def cpu_per_gigabyte(self) -> float:
        """CPU seconds per GB of values."""
        return self.cpu / self.value_bytes * 1e3


@dataclass(frozen=True, slots=True)
class Alone:
    """The decoder's and the judge's cost of a shape, and of what was measured in turns with it.

    Flat, and flat padded to the shape's size. No decoder if the edge makes flat records of the shape.
    """

    judge: Cost
    judge_flat: Cost
    decoder: Cost | None
    decoder_flat: Cost | None
    decoder_padded: Cost | None


def measure(names: Iterable[str], records: int, seed: int = 1) -> Iterator[tuple[str, Alone]]:
    """Measure shapes one after the other, with epochs of up to EPOCH records."""
    with _consumers_environment(), ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        for name in names:
            yield name, process.submit(_measure, name, min(records, EPOCH), seed).result()


@contextmanager
def _consumers_environment() -> Iterator[None]:
    """What `gamemetrics consume` sets before polars is loaded."""
    name = "POLARS_MAX_THREADS"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _measure(name: str, count: int, seed: int) -> Alone:
    workload = Workload(seed=seed, end=datetime.now(UTC) - timedelta(minutes=1))
    events, shape, flat = workload.events(0, count), SHAPES[name], SHAPES["flat"]
    raw = {kind: _raw(one, events, seed) for kind, one in (("shape", shape), ("flat", flat))}
    judged = _in_turns({kind: _judging(texts) for kind, texts in raw.items()})
    judge = {kind: _cost(judged[kind], raw[kind]) for kind in raw}
    if shape.edge_only:
        return Alone(judge["shape"], judge["flat"], None, None, None)
    loads = {"shape": shape, "flat": flat, "padded": padded_like(shape, workload)}
    texts = {kind: _values(one, events, seed) for kind, one in loads.items()}
    spent = _in_turns({kind: _decoding(_records(one)) for kind, one in texts.items()})
    decoder = {kind: Cost(spent[kind] / count * _MICROSECONDS, _bytes(texts[kind]) / count) for kind in texts}
    return Alone(judge["shape"], judge["flat"], decoder["shape"], decoder["flat"], decoder["padded"])


def _in_turns(works: Mapping[str, Callable[[], None]]) -> dict[str, float]:
    """Do every work in turns, one turn more than counts; the median CPU seconds of each."""
    spent: dict[str, list[float]] = {name: [] for name in works}
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 100, 100)
    for _ in range(1 + _TURNS):
        for name, work in works.items():
            began = process_time()
            work()
            spent[name].append(process_time() - began)
    return {name: median(seconds[1:]) for name, seconds in spent.items()}


def _raw(shape: Shape, events: pl.DataFrame, seed: int) -> list[bytes]:
    return [body.encode() for body in bodies(shape.dress(events.head(_JUDGED), seed))]


def _judging(raw: list[bytes]) -> Callable[[], None]:
    judge, stamps = ShortCut(load_scoring()), Stamps()

    def work() -> None:
        for one in raw:
            judge.accept(one, stamps.now())

    return work


def _cost(seconds: float, raw: list[bytes]) -> Cost:
    return Cost(seconds / len(raw) * _MICROSECONDS, sum(map(len, raw)) / len(raw))


def _values(shape: Shape, events: pl.DataFrame, seed: int) -> pl.Series:
    return values(shape.dress(events, seed), format_timestamp(datetime.now(UTC)))


def _bytes(texts: pl.Series) -> int:
    return int(texts.str.len_bytes().sum())


def _records(texts: pl.Series) -> Records:
    place = pl.int_range(pl.len(), dtype=pl.Int64)
    frame = texts.to_frame("value").select(
        partition=place % _PARTITIONS,
        offset=place // _PARTITIONS,
        timestamp=pl.lit(int(datetime.now(UTC).timestamp() * 1000)),
        key=pl.lit(None),
        value=pl.col("value").cast(pl.Binary),
    )
    return Records(frame.cast(RECORD_COLUMNS))


def _decoding(records: Records) -> Callable[[], None]:
    decoder = Decoder("bench", load_scoring())

    def work() -> None:
        decoded = decoder.decode(records)
        if decoded.rejected:
            raise ValueError(f"the decoder rejects what the generator makes: {decoded.rejected[0].reason}")

    return work
