"""A fault of ours: caught where it happens, and narrowed down to the records that it is about.

The one place where whatever is raised is caught. What is raised on purpose (`PipelineError`: a server that is away, an
epoch to read again, a halt) is never a fault, nor is what ends the process. Everything else is: a record that no code
foresaw must cost that record and not the pipeline.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, ParamSpec, TypeVar

import polars as pl

from pipeline.errors import HaltError, PipelineError

P = ParamSpec("P")
T = TypeVar("T")

_MOST_CHARACTERS: Final = 500
_PANIC: Final = "PanicException"
"""What code in Rust raises when it panics, a BaseException; each library has a class of its own by this name."""


@dataclass(frozen=True, slots=True)
class Unforeseen:
    """What some work raised that nobody foresaw."""

    error: BaseException

    @property
    def kind(self) -> str:
        """The error's class."""
        return type(self.error).__name__

    @property
    def text(self) -> str:
        """The error's class and text, as PostgreSQL and a log can hold it: cut, without NUL and lone surrogates."""
        said = attempt(str, self.error)
        text = "" if isinstance(said, Unforeseen) else said[:_MOST_CHARACTERS]
        return f"{self.kind}: {text}".encode("utf-8", "replace").decode().replace("\0", "\ufffd")


@dataclass(frozen=True, slots=True)
class Fault:
    """The first of the unforeseen errors of one kind in one stage, and how many records they cost."""

    stage: str
    first: Unforeseen
    records: int


class Tally:
    """Counts unforeseen errors by kind and keeps the first of each: one holds all that its stack held."""

    def __init__(self) -> None:
        self._first: dict[str, Unforeseen] = {}
        self._records: Counter[str] = Counter()

    def add(self, found: Unforeseen) -> None:
        """Count one record's."""
        self._first.setdefault(found.kind, found)
        self._records[found.kind] += 1

    def faults(self, stage: str) -> list[Fault]:
        """Return what was counted."""
        return [Fault(stage, first, self._records[kind]) for kind, first in self._first.items()]


@dataclass(frozen=True, slots=True)
class Narrowed(Generic[T]):
    """The rows that work can be done on, what came of it, and the others: one row each, with the text of its error.

    `first` is what the whole set raised, None if it raised nothing.
    """

    kept: pl.DataFrame
    result: T
    culprits: list[tuple[pl.DataFrame, str]]
    met: Tally
    first: Unforeseen | None = None

    def faults(self, stage: str) -> list[Fault]:
        """Return what was raised, to be reported; a fault that did not come again is told, too."""
        if self.first is None:
            return []
        return self.met.faults(stage) or [Fault(stage, self.first, 0)]


Enough = Callable[[int, int], bool]
"""Whether so many culprits among so many rows are too many to be the rows' fault."""


def attempt(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | Unforeseen:
    """Do some work, and return what it raised if nobody foresaw that. Raises PipelineError and MemoryError."""
    try:
        return work(*args, **kwargs)
    except (PipelineError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - the place where it is done
        return Unforeseen(error)
    except BaseException as error:
        if type(error).__name__ != _PANIC:
            raise
        return Unforeseen(error)


def narrow(rows: pl.DataFrame, by: str, work: Callable[[pl.DataFrame], T], too_many: Enough) -> Narrowed[T]:
    """Do work on rows, without those on which it raises what nobody foresaw.

    Culprits are found by halving, in the order of the column `by`: at most 2 log2(n) + 2 runs of the work for each, and
    as many once more if rows raise only together; of those one is found without which the others do not. `too_many`
    is asked at each culprit about the rows so far, as if the set ended there, so that a set of nothing but culprits is
    given up early. Raises HaltError then, and if the work raises on no rows at all.
    """
    whole = attempt(work, rows)
    if not isinstance(whole, Unforeseen):
        return Narrowed(rows, whole, [], Tally())
    search = _Search(work, too_many)
    none = rows.clear()
    if isinstance(attempt(work, none), Unforeseen):
        raise HaltError(f"a fault of the consumer and of no record, nothing was written: {whole.text}")
    kept = search.alone(rows.sort(by), whole, 0)
    result = attempt(work, kept)
    if isinstance(result, Unforeseen):
        kept = search.together(none, kept, 0)
        result = work(kept)
    return Narrowed(kept, result, search.culprits, search.met, whole)


class _Search(Generic[T]):
    """Tries work on parts of a set of rows and collects those that it raises on."""

    def __init__(self, work: Callable[[pl.DataFrame], T], too_many: Enough) -> None:
        self._work = work
        self._too_many = too_many
        self.culprits: list[tuple[pl.DataFrame, str]] = []
        self.met = Tally()

    def alone(self, rows: pl.DataFrame, found: Unforeseen, before: int) -> pl.DataFrame:
        """Keep the rows that raise nothing for themselves, of rows that raised `found`; `before` were looked at."""
        if len(rows) == 1:
            return self._set_aside(rows, found, before + 1)
        middle = len(rows) // 2
        kept = []
        for half, seen in ((rows[:middle], before), (rows[middle:], before + middle)):
            other = attempt(self._work, half)
            kept.append(self.alone(half, other, seen) if isinstance(other, Unforeseen) else half)
        return pl.concat(kept)

    def together(self, beside: pl.DataFrame, rows: pl.DataFrame, before: int) -> pl.DataFrame:
        """Add rows to those that raise nothing, less those with which they do."""
        found = attempt(self._work, pl.concat([beside, rows]))
        if not isinstance(found, Unforeseen):
            return pl.concat([beside, rows])
        if len(rows) == 1:
            self._set_aside(rows, found, before + 1)
            return beside
        middle = len(rows) // 2
        return self.together(self.together(beside, rows[:middle], before), rows[middle:], before + middle)

    def _set_aside(self, row: pl.DataFrame, found: Unforeseen, seen: int) -> pl.DataFrame:
        self.culprits.append((row, found.text))
        self.met.add(found)
        if self._too_many(len(self.culprits), seen):
            raise HaltError(
                f"{len(self.culprits)} of the first {seen} events of an epoch meet a fault of the consumer; the last: "
                f"{found.text}. Nothing of the epoch was written. Mend the consumer, or raise DLQ_HALT_RATIO to "
                f"dead-letter them all"
            )
        return row.clear()
