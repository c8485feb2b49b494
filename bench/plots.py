"""Findings as pictures, SVG and PNG. Needs the `bench` extra (matplotlib)."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.findings import RESULTS, Findings
from bench.freshness import percentile

if TYPE_CHECKING:
    from collections.abc import Mapping

mpl.rcParams["svg.hashsalt"] = "gamemetrics"  # the same findings give the same file
mpl.rcParams["font.size"] = 10
_COLOURS: Final = {
    "consumer": "#3465a4", "client": "#3465a4", "edge": "#729fcf", "postgres": "#73a857", "valkey": "#cc5b47",
    "kafka": "#8f8f8f",
}  # fmt: skip
_FRESH_TARGET_MS: Final = 250
_SMALLEST_LABELLED: Final = 0.8


def draw(findings: Findings, directory: Path = RESULTS) -> list[Path]:
    """Draw every picture for which there are figures."""
    drawn = []
    if findings.limit is not None:
        drawn += _save(_throughput(findings), directory / "throughput")
        drawn += _save(_cpu(findings), directory / "cpu")
    if findings.freshness is not None:
        drawn += _save(_freshness(findings), directory / "freshness")
    if findings.sweep is not None:
        drawn += _save(_sweep(findings), directory / "sweep")
    return drawn


def _save(figure: Figure, path: Path) -> list[Path]:
    svg, png = path.with_suffix(".svg"), path.with_suffix(".png")
    figure.savefig(svg, metadata={"Date": None}, bbox_inches="tight")
    figure.savefig(png, dpi=120, bbox_inches="tight")
    return [svg, png]


def _throughput(findings: Findings) -> Figure:
    run, limit, guide = findings.throughput, findings.limit, findings.guide
    bars = [("one consumer process,\nwhole job, exactly once", run.rate, _COLOURS["consumer"])]
    if limit is not None:
        bars.insert(0, ("the limit: the same bytes\nfrom a bare client", limit.rate, "#c4c4c4"))
    if guide is not None:
        bars.append(("the guide's way:\na transaction per event", guide.rate, _COLOURS["valkey"]))
    figure = Figure(figsize=(8, 2.6))
    axes = figure.subplots()
    labels, rates, colours = zip(*bars, strict=True)
    drawn = axes.barh(labels, rates, color=colours, height=0.6)
    axes.bar_label(drawn, [f" {rate:,.0f}" for rate in rates])
    axes.set_xlim(0, max(rates) * 1.15)
    axes.set_title(f"Events a second, Kafka to PostgreSQL and Redis, on {findings.machine.cores} cores", loc="left")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    _bare(axes)
    return figure


def _cpu(findings: Findings) -> Figure:
    stacks: list[tuple[str, Mapping[str, float]]] = [("one consumer\nprocess", findings.throughput.cpu)]
    if findings.limit is not None:
        stacks.append(("the limit\n(bare client)", findings.limit.cpu))
    if findings.flat is not None:
        stacks.append(("into a full\ndatabase", findings.flat.full.cpu))
    figure = Figure(figsize=(6.5, 4.2))
    axes = figure.subplots()
    bottoms = [0.0] * len(stacks)
    for name in ("consumer", "postgres", "valkey", "kafka"):
        heights = [cpu.get(name, cpu.get("client", 0.0) if name == "consumer" else 0.0) for _, cpu in stacks]
        drawn = axes.bar([label for label, _ in stacks], heights, 0.5, bottoms, color=_COLOURS[name], label=name)
        axes.bar_label(
            drawn, [f"{height:.1f}" if height > _SMALLEST_LABELLED else "" for height in heights], label_type="center"
        )
        bottoms = [bottom + height for bottom, height in zip(bottoms, heights, strict=True)]
    for place, total in enumerate(bottoms):
        axes.annotate(f"{total:.1f}", (place, total), ha="center", va="bottom", fontweight="bold")
    axes.set_ylim(0, max(bottoms) * 1.15)
    axes.set_title("CPU seconds per million events, by process", loc="left")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, reverse=True)
    _bare(axes)
    return figure


def _freshness(findings: Findings) -> Figure:
    found = findings.freshness
    figure = Figure(figsize=(8, 4.5))
    if found is None:
        return figure
    stores = (("Redis", found.redis, _COLOURS["valkey"]), ("PostgreSQL", found.postgres, _COLOURS["postgres"]))
    right = 1.05 * max(_FRESH_TARGET_MS, *(1000 * max(seconds) for _, seconds, _ in stores))
    for axes, (name, seconds, colour) in zip(figure.subplots(2, sharex=True), stores, strict=True):
        axes.hist([1000 * one for one in seconds], bins=60, range=(0, right), color=colour)
        for share, height in ((0.5, 0.98), (0.95, 0.98), (0.99, 0.6)):  # p95 and p99 may lie close together
            value = 1000 * percentile(seconds, share)
            axes.axvline(value, color="black", linewidth=0.8)
            axes.annotate(
                f"p{share * 100:.0f} {value:.0f} ms", (value, height), xycoords=("data", "axes fraction"), rotation=90,
                xytext=(2, 0), textcoords="offset points", va="top", fontsize=8,
            )  # fmt: skip
        axes.axvline(_FRESH_TARGET_MS, color="#8f8f8f", linewidth=0.8, linestyle="--")
        axes.set_ylabel(f"{name}\nprobes")
        _bare(axes)
    axes.set_xlabel(f"milliseconds from POST to readable (dashed: {_FRESH_TARGET_MS} ms, the limit for p99)")
    figure.suptitle(f"Freshness at {found.achieved_rate:,.0f} events/s through HTTP", x=0.125, ha="left")
    return figure


def _sweep(findings: Findings) -> Figure:
    sweep = findings.sweep
    figure = Figure(figsize=(10, 4))
    if sweep is None:
        return figure
    left, right = figure.subplots(1, 2)
    sizes = [one.batch_max_events for one in sweep.sizes]
    left.plot(sizes, [one.rate for one in sweep.sizes], "o-", color=_COLOURS["consumer"])
    left.set(xscale="log", xlabel="BATCH_MAX_EVENTS", ylim=(0, None))
    left.yaxis.set_major_formatter("{x:,.0f}")
    left.set_ylabel("events/s from a backlog", color=_COLOURS["consumer"])
    cost = left.twinx()
    cost.plot(sizes, [one.cpu_total for one in sweep.sizes], "s--", color=_COLOURS["valkey"])
    cost.set(ylim=(0, None))
    cost.set_ylabel("CPU s per million", color=_COLOURS["valkey"])
    waits = [one.batch_max_wait_ms for one in sweep.waits]
    right.plot(waits, [1000 * one.p50 for one in sweep.waits], "o-", color=_COLOURS["postgres"], label="p50")
    right.plot(waits, [1000 * one.p99 for one in sweep.waits], "^-", color=_COLOURS["consumer"], label="p99")
    right.set(
        xscale="log",
        xlabel="BATCH_MAX_WAIT_MS",
        ylabel=f"ms to readable at {sweep.trickle_rate:,.0f} events/s",
        ylim=(0, None),
    )
    dear = right.twinx()
    dear.plot(waits, [one.cpu_total for one in sweep.waits], "s--", color=_COLOURS["valkey"])
    dear.set(ylim=(0, None))
    dear.set_ylabel("CPU s per million", color=_COLOURS["valkey"])
    right.legend(frameon=False, loc="upper center")
    figure.tight_layout()
    return figure


def _bare(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
