"""The papers' figures: written between marks into docs/performance.md, from the newest results, and by nothing else."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from bench import load_tables, table
from bench.deployment import Assumptions, costs_of, one_postgres_ends
from bench.findings import MANY, RESULTS, SHAPES, Findings, newest_with
from bench.many import Many
from bench.shaped import Shapes

PAPER: Final = Path(__file__).parents[1] / "docs" / "performance.md"


def write(paper: Path = PAPER, directory: Path = RESULTS) -> list[str]:
    """Fill the marked places for which there are results; returns their names."""
    text, filled = paper.read_text(encoding="utf-8"), []
    for name, (part, render) in _PLACES.items():
        if (findings := newest_with(part, directory)) is not None:
            text = fill(text, name, render(findings))
            filled.append(name)
    for name, (file, kind, draw) in _LOADS.items():
        if (path := directory / file).exists():
            text = fill(text, name, draw(msgspec.json.decode(path.read_bytes(), type=kind)))
            filled.append(name)
    paper.write_text(text, encoding="utf-8")
    return filled


def fill(text: str, name: str, content: str) -> str:
    """Replace what stands between the marks of a place. Raises KeyError when the text has no such place."""
    place = re.compile(rf"(<!-- bench:{name} -->\n).*?(<!-- end -->)", re.DOTALL)
    if not place.search(text):
        raise KeyError(name)
    return place.sub(lambda found: f"{found[1]}{content}\n{found[2]}", text)


def _rates(findings: Findings) -> str:
    heads, *rows = table.rates(findings)
    run, machine = findings.throughput, findings.machine
    where = f"{run.events:,} events, {machine.cores} cores, load {machine.load_average:.1f} before, {findings.at}."
    rest = (
        f"Consumer: {table.memory(findings)}.",
        f"Stages, busy of {run.seconds:.1f} s: {table.stages(findings)}.",
        f"An event: {table.bytes_of(findings)}.",
    )
    return "\n\n".join((where, table.markdown(heads, rows), "\n".join(rest)))


def _fresh(findings: Findings) -> str:
    return table.markdown(table.FRESH_HEADS, table.fresh(findings))


def _sentence(line: str) -> str:
    """Take the leading word of a line of the table off, and make it a sentence."""
    text = line.partition(": ")[2]
    return text[:1].upper() + text[1:] + "."


def _sweep(findings: Findings) -> str:
    sizes = table.markdown(table.SIZE_HEADS, table.sizes(findings))
    return f"{sizes}\n\n{table.markdown(table.WAIT_HEADS, table.waits(findings))}"


def _deployment(findings: Findings) -> str:
    if findings.limit is None:
        return ""
    costs, given = costs_of(findings.throughput, findings.limit), Assumptions()
    most, why = one_postgres_ends(costs, given)
    end = f"One PostgreSQL ends at about {round(most, -3):,.0f} events/s, by its {why}."
    return f"{table.markdown(table.PLAN_HEADS, table.deployments(costs, given))}\n\n{end}"


_PLACES: Final[dict[str, tuple[str, Callable[[Findings], str]]]] = {
    "rates": ("limit", _rates),
    "freshness": ("freshness", _fresh),
    "flat": ("flat", lambda findings: _sentence(table.flatness(findings))),
    "scale": ("scale", lambda findings: _sentence(table.scaling(findings))),
    "chaos": ("chaos", lambda findings: _sentence(table.kills(findings))),
    "sweep": ("sweep", _sweep),
    "deployment": ("limit", _deployment),
}

_LOADS: Final[dict[str, tuple[str, type, Callable[[Any], str]]]] = {
    "shapes": (SHAPES, Shapes, load_tables.shape_paper),
    "many": (MANY, Many, load_tables.many_paper),
}
"""Results that are no findings: their file, what it holds, and how it is told."""
