"""What `--shapes` and `--many` found, as rows of tables. Pure: values in, text out."""

from collections.abc import Callable
from typing import Final

from bench.alone import Cost
from bench.findings import Machine
from bench.many import Many
from bench.shaped import Shaped, Shapes
from bench.table import Row, columns, markdown
from bench.throughput import Throughput

_MEBIBYTE: Final = 2**20
_MEGABYTE: Final = 1_000_000

ALONE_HEADS: Final = (
    "decoder and judge alone", "bytes", "decoder, CPU s per million", "per GB", "of flat, by byte", "of padded flat",
    "judge, µs", "of flat",
)  # fmt: skip
JOB_HEADS: Final = (
    "whole job", "bytes", "events/s", "of padded flat", "CPU s per million", "of padded flat", "peak RSS MiB",
)  # fmt: skip
MANY_HEADS: Final = ("", "records", "bytes", "events/s", "of reference", "MB/s", "CPU s per million", "peak RSS MiB")


def alone(found: Shapes) -> list[Row]:
    """The decoder's and the judge's cost, shape by shape."""
    return [_alone(shape) for shape in found.shapes]


def _alone(shape: Shaped) -> Row:
    judge, flat = shape.alone.judge, shape.alone.judge_flat
    return (shape.name, *_decoder(shape), f"{judge.cpu:.1f}", f"{judge.cpu / flat.cpu:.2f}")


def _decoder(shape: Shaped) -> Row:
    decoder, flat, padded = shape.alone.decoder, shape.alone.decoder_flat, shape.alone.decoder_padded
    if decoder is None or flat is None or padded is None:
        return ("",) * 5
    return (
        f"{decoder.value_bytes:.0f}", f"{decoder.cpu:.1f}", f"{decoder.cpu_per_gigabyte:.1f}", _by_byte(decoder, flat),
        _by_byte(decoder, padded),
    )  # fmt: skip


def _by_byte(cost: Cost, beside: Cost) -> str:
    return f"{cost.cpu_per_gigabyte / beside.cpu_per_gigabyte:.2f}"


def jobs(found: Shapes) -> list[Row]:
    """The whole job, shape by shape; none if it was not asked for."""
    return [_job(shape.name, shape.job.pair.run, shape.job.pair.reference, shape.job.pair.rate_ratio)
            for shape in found.shapes if shape.job is not None]  # fmt: skip


def _job(name: str, run: Throughput, padded: Throughput, ratio: float) -> Row:
    return (
        name, f"{run.value_bytes_per_event:.0f}", f"{run.rate:,.0f}", f"{ratio:.2f}", f"{run.cpu_total:.1f}",
        f"{run.cpu_total / padded.cpu_total:.2f}", f"{run.peak_rss_bytes / _MEBIBYTE:,.0f}",
    )  # fmt: skip


def limits(found: Shapes) -> list[str]:
    """A sentence for each shape whose limit was measured."""
    return [
        f"{shape.name}: {one.run.rate:,.0f} events/s are {one.ratio:.2f} of its limit ({one.limit.rate:,.0f})."
        for shape in found.shapes
        if shape.job is not None and (one := shape.job.limited) is not None
    ]


def many(found: Many) -> list[Row]:
    """Each case beside the reference; first the reference as it was beside the first of them."""
    rows = [_many("reference", case.pair.reference, "1") for case in found.cases[:1]]
    return rows + [
        _many(case.name, case.pair.run, f"{case.ratio:.2f}{' by byte' * case.by_bytes}") for case in found.cases
    ]


def _many(name: str, run: Throughput, ratio: str) -> Row:
    return (
        name, f"{run.events:,}", f"{run.value_bytes_per_event:,.0f}", f"{run.rate:,.0f}", ratio,
        f"{run.byte_rate / _MEGABYTE:.1f}", f"{run.cpu_total:.1f}", f"{run.peak_rss_bytes / _MEBIBYTE:,.0f}",
    )  # fmt: skip


def _blocks(found: Shapes, draw: Callable[[Row, list[Row]], list[str]]) -> list[str]:
    blocks = [_where(found.events, found.machine, found.at), "", *draw(ALONE_HEADS, alone(found))]
    if rows := jobs(found):
        blocks += ["", *draw(JOB_HEADS, rows), *(["", *said] if (said := limits(found)) else [])]
    return blocks


def _where(events: int, machine: Machine, at: str) -> str:
    return f"{events:,} events, {machine.cores} cores, load {machine.load_average:.1f} before, {at}."


def shape_lines(found: Shapes) -> list[str]:
    """What `--shapes` found, for a terminal."""
    return ["", *_blocks(found, lambda heads, rows: columns([heads, *rows], left=1))]


def many_lines(found: Many) -> list[str]:
    """What `--many` found, for a terminal."""
    return ["", _where(found.events, found.machine, found.at), "", *columns([MANY_HEADS, *many(found)], left=1)]


def shape_paper(found: Shapes) -> str:
    """What `--shapes` found, for a paper."""
    return "\n".join(_blocks(found, lambda heads, rows: [markdown(heads, rows)]))


def many_paper(found: Many) -> str:
    """What `--many` found, for a paper."""
    return f"{_where(found.events, found.machine, found.at)}\n\n{markdown(MANY_HEADS, many(found))}"
