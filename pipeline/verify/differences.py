"""What is not as it should be: named one by one up to a bound, counted in full."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from pipeline.contract.names import printable

KEPT: Final = 1_000


@dataclass(frozen=True, slots=True)
class Difference:
    """One key whose value differs: of which kind, what the recount (or PostgreSQL) says, and what was found."""

    kind: str
    key: str
    expected: str
    found: str

    @classmethod
    def of(cls, kind: str, key: str, expected: object, found: object) -> "Difference":
        """Make one of values of any type; None is shown as nothing."""
        return cls(kind, printable(key), *("nothing" if value is None else str(value) for value in (expected, found)))


class Differences:
    """Collects differences; of each kind the first KEPT are kept, and all are counted."""

    def __init__(self) -> None:
        self.totals: dict[str, int] = {}
        self.kept: list[Difference] = []
        self.players: set[int] = set()  # the codes of those whose rows differ

    def __bool__(self) -> bool:
        return bool(self.totals)

    def add(self, kind: str, key: str, expected: object, found: object) -> None:
        """Note one difference; None is shown as nothing."""
        self.count(kind, 1)
        if self.totals[kind] <= KEPT:
            self.kept.append(Difference.of(kind, key, expected, found))

    def count(self, kind: str, number: int) -> None:
        """Count differences that are not named."""
        if number:
            self.totals[kind] = self.totals.get(kind, 0) + number

    def since(self, before: Mapping[str, int]) -> dict[str, int]:
        """Return what came to the totals since they were these."""
        return {kind: total - before.get(kind, 0) for kind, total in self.totals.items() if total > before.get(kind, 0)}

    def add_frame(
        self, kind: str, differing: pl.DataFrame, show: Callable[[dict[str, Any]], tuple[str, object, object]]
    ) -> None:
        """Note each row of a frame as `show` makes it a key, what is expected, and what was found."""
        self.players.update(differing["player"])
        for row in differing.head(KEPT).iter_rows(named=True):
            self.add(kind, *show(row))
        self.count(kind, max(0, len(differing) - KEPT))


def differing(expected: pl.DataFrame, found: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    """Join two frames of the same columns by key and keep the rows that are not the same in both.

    The columns beside the keys come twice, those of `found` with the suffix _found; null if a side has no such key.
    """
    values = [name for name in expected.columns if name not in keys]
    joined = expected.join(found, on=keys, how="full", coalesce=True, suffix="_found")
    same = [pl.col(name).eq_missing(pl.col(f"{name}_found")) for name in values]
    return joined.filter(~pl.all_horizontal(same)).sort(keys)
