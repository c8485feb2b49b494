"""Findings as lines that a person can read. Pure: text in, text out."""

from collections.abc import Iterable, Mapping
from typing import Final

from bench.deployment import Assumptions, Costs, Deployment, costs_of, one_postgres_ends, plans
from bench.findings import Findings
from bench.freshness import percentile
from bench.throughput import Shared

_MEBIBYTE: Final = 2**20
_ORDER: Final = ("consumer", "client", "edge", "postgres", "valkey", "kafka")
RATES: Final = (100_000, 1_000_000, 10_000_000)

Row = tuple[str, ...]


def lines(findings: Findings) -> list[str]:
    """Everything that was found."""
    out = ["", _heading(findings), "", *columns(rates(findings), left=1)]
    out += [
        "",
        f"consumer: {memory(findings)}",
        f"stages, busy of {findings.throughput.seconds:.1f} s: {stages(findings)}",
    ]
    out.append(f"an event: {bytes_of(findings)}")
    if findings.freshness is not None:
        achieved, asked = findings.freshness.achieved_rate, findings.freshness.rate
        out += ["", f"through HTTP, {achieved:,.0f} events/s of {asked:,.0f} asked for:"]
        out += columns([FRESH_HEADS, *fresh(findings)], left=1)
    for part in (flatness(findings), scaling(findings), kills(findings)):
        out += ["", part] if part else []
    if findings.sweep is not None:
        out += [
            "",
            *columns([SIZE_HEADS, *sizes(findings)], left=0),
            "",
            *columns([WAIT_HEADS, *waits(findings)], left=0),
        ]
    return out


def columns(rows: Iterable[Row], left: int) -> list[str]:
    """Align rows; the first `left` columns to the left, the others to the right."""
    rows = list(rows)
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def markdown(heads: Row, rows: Iterable[Row]) -> str:
    """A table for a paper; the first column to the left."""
    bars = ["|---", *["|---:"] * (len(heads) - 1)]
    return "\n".join(
        ["| " + " | ".join(heads) + " |", "".join(bars) + "|", *("| " + " | ".join(row) + " |" for row in rows)]
    )


def _heading(findings: Findings) -> str:
    machine, run = findings.machine, findings.throughput
    return (
        f"{run.events:,} events of {run.value_bytes_per_event:.0f} bytes, one consumer process, {machine.cores} cores "
        f"({machine.system}, Python {machine.python}, load {machine.load_average:.1f} before), {findings.at}"
    )


RATE_HEADS: Final = ("", "events/s", "of limit", "CPU s per million", "by process")


def rates(findings: Findings) -> list[Row]:
    """Rates and CPU: the run, the limit, and the guide's way."""
    run, limit, guide = findings.throughput, findings.limit, findings.guide
    share = _share(run.rate, limit.rate) if limit is not None else "-"
    rows: list[Row] = [
        RATE_HEADS,
        ("whole job, from first poll to last commit", f"{run.rate:,.0f}", share, *_cpu(run.cpu)),
    ]
    rows.append(("  once its partitions were assigned", f"{run.rate_when_running:,.0f}", "", "", ""))
    if limit is not None:
        rows.append(("limit: its bytes from a bare client", f"{limit.rate:,.0f}", "", *_cpu(limit.cpu)))
    rows += _mixed(findings)
    if guide is not None:
        times = f"{run.rate / guide.rate:,.0f} times slower"
        rows.append((f"the guide's way, {guide.events:,} events", f"{guide.rate:,.0f}", times, *_cpu(guide.cpu)))
    return rows


def _mixed(findings: Findings) -> list[Row]:
    run, limit = findings.mixed, findings.mixed_limit
    if run is None or limit is None:
        return []
    name = f"whole job, mixed shapes of {run.value_bytes_per_event:.0f} bytes"
    return [
        (name, f"{run.rate:,.0f}", _share(run.rate, limit.rate), *_cpu(run.cpu)),
        ("limit of the mixed shapes", f"{limit.rate:,.0f}", "", *_cpu(limit.cpu)),
    ]


def _cpu(cpu: Mapping[str, float]) -> tuple[str, str]:
    parts = [f"{name} {cpu[name]:.1f}" for name in _ORDER if name in cpu]
    return f"{sum(cpu.values()):.1f}", ", ".join(parts)


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.2f}"


def memory(findings: Findings) -> str:
    run = findings.throughput
    epochs = ", ".join(f"{number} by {trigger}" for trigger, number in run.epochs.items() if number)
    return (
        f"peak RSS {run.peak_rss_bytes / _MEBIBYTE:,.0f} MiB, start-up {run.startup_cpu_seconds:.1f} CPU s, "
        f"epochs: {epochs}"
    )


def stages(findings: Findings) -> str:
    return ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in findings.throughput.stage_seconds.items())


def bytes_of(findings: Findings) -> str:
    run = findings.throughput
    text = f"{run.value_bytes_per_event:.0f} B in Kafka, {run.wal_bytes_per_event:.0f} B of WAL, "
    text += f"{run.table_bytes_per_event:.0f} B of tables and indexes"
    if findings.limit is not None:
        text += f", {findings.limit.sent_bytes_per_event:.0f} B sent to PostgreSQL and Valkey"
    return text


FRESH_HEADS: Final = ("POST to readable, ms", "p50", "p95", "p99", "max", "probes")


def fresh(findings: Findings) -> list[Row]:
    """Percentiles by store, in milliseconds."""
    found = findings.freshness
    if found is None:
        return []
    stores = (("acknowledged (Kafka has it)", found.accepted), ("Redis", found.redis), ("PostgreSQL", found.postgres))
    return [
        (name, *(f"{percentile(seconds, share) * 1000:.0f}" for share in (0.5, 0.95, 0.99, 1.0)), str(len(seconds)))
        for name, seconds in stores
    ]


def flatness(findings: Findings) -> str:
    flat = findings.flat
    if flat is None:
        return ""
    empty = flat.empty
    return (
        f"flat: with {flat.prefilled_events:,} events of {flat.prefilled_players:,} players in {flat.day_partitions} "
        f"partitions there already {flat.full.rate:,.0f} events/s, {flat.ratio:.2f} of the rate into an empty "
        f"database ({empty.rate:,.0f}); {flat.full.cpu_total:.1f} CPU s per million (empty: {empty.cpu_total:.1f}); "
        f"peak RSS {flat.full.peak_rss_bytes / _MEBIBYTE:,.0f} MiB (empty: {empty.peak_rss_bytes / _MEBIBYTE:,.0f})"
    )


def scaling(findings: Findings) -> str:
    if findings.scale is None:
        return ""
    one, many = _typical(findings.scale, 1), _typical(findings.scale, max(run.processes for run in findings.scale))
    return (
        f"scale: {many.processes} processes on 3 partitions spend {many.cpu_total:.1f} CPU s per million, one spends "
        f"{one.cpu_total:.1f} ({many.cpu_total / one.cpu_total - 1:+.1%}, medians of runs in turns); "
        f"{many.processes}: {_cpu(many.cpu)[1]}; one: {_cpu(one.cpu)[1]}"
    )


def _typical(runs: Iterable[Shared], processes: int) -> Shared:
    """The median run with so many processes, by CPU."""
    own = sorted((run for run in runs if run.processes == processes), key=lambda run: run.cpu_total)
    return own[len(own) // 2]


def kills(findings: Findings) -> str:
    chaos, calm = findings.chaos, findings.throughput
    if chaos is None:
        return ""
    lost = (chaos.seconds - calm.seconds) / max(chaos.kills, 1)
    dear = (chaos.cpu_total - calm.cpu_total) * chaos.events / 1e6 / max(chaos.kills, 1)
    return (
        f"chaos: {chaos.kills} kills, {chaos.seconds:.1f} s ({calm.seconds:.1f} without); each kill cost {lost:.1f} s, "
        f"of which up to {chaos.session_timeout_ms / 1000:.0f} s for the dead member's session, and {dear:.1f} CPU s"
    )


SIZE_HEADS: Final = ("BATCH_MAX_EVENTS", "events/s", "CPU s per million", "WAL B per event", "peak RSS MiB")


def sizes(findings: Findings) -> list[Row]:
    if findings.sweep is None:
        return []
    return [
        (
            f"{one.batch_max_events:,}", f"{one.rate:,.0f}", f"{one.cpu_total:.1f}", f"{one.wal_bytes_per_event:.0f}",
            f"{one.peak_rss_bytes / _MEBIBYTE:,.0f}",
        )
        for one in findings.sweep.sizes
    ]  # fmt: skip


WAIT_HEADS: Final = ("BATCH_MAX_WAIT_MS", "p50 ms", "p99 ms", "CPU s per million")


def waits(findings: Findings) -> list[Row]:
    if findings.sweep is None:
        return []
    return [
        (f"{one.batch_max_wait_ms:,}", f"{one.p50 * 1000:.0f}", f"{one.p99 * 1000:.0f}", f"{one.cpu_total:.0f}")
        for one in findings.sweep.waits
    ]


PLAN_HEADS: Final = (
    "events/s", "partitions", "consumers", "PostgreSQL cores", "PostgreSQL servers", "WAL MB/s", "tables GB/day",
    "Valkey servers", "Kafka cores",
)  # fmt: skip


def deployments(costs: Costs, given: Assumptions) -> list[Row]:
    """The deployment table."""
    return [_deployment(one) for one in plans(RATES, costs, given)]


def _deployment(one: Deployment) -> Row:
    return (
        f"{one.rate:,}", f"{one.partitions:,}", f"{one.consumers:,}", f"{one.postgres_cores:,}",
        f"{one.postgres_servers:,}", f"{one.wal_megabytes:,.0f}", f"{one.table_gigabytes_a_day:,.0f}",
        f"{one.valkey_servers:,}", f"{one.kafka_cores:,}",
    )  # fmt: skip


def deployment_lines(findings: Findings) -> list[str]:
    """The deployment table and where one PostgreSQL ends; nothing without a limit."""
    if findings.limit is None:
        return []
    costs, given = costs_of(findings.throughput, findings.limit), Assumptions()
    most, why = one_postgres_ends(costs, given)
    return [
        "", "what a larger deployment needs, derived from the above (docs/performance.md has the assumptions):",
        *columns([PLAN_HEADS, *deployments(costs, given)], left=0),
        f"one PostgreSQL ends at {most:,.0f} events/s, by its {why}",
    ]  # fmt: skip
