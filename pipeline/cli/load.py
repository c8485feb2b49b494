"""`gamemetrics load`, as a typer function: the guide's load test."""

import json
import os
import secrets
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Final

import typer

from pipeline.cli.options import AsJson
from pipeline.cli.progress import progress
from pipeline.local.settings import operator_settings

if TYPE_CHECKING:
    from pipeline.load.send import Tally

_LINES: Final = 10


def load(  # noqa: PLR0913 - the options of a command
    count: Annotated[int, typer.Argument(min=1, help="How many events to send.")],
    *,
    rate: Annotated[
        float | None, typer.Option(min=0.1, help="Events a second; as fast as they go when not given.")
    ] = None,
    players: Annotated[int, typer.Option(min=1, help="How many players; some play more than others.")] = 5,
    batch: Annotated[int, typer.Option(min=1, max=2_000, help="Events a request.")] = 1,
    url: Annotated[str | None, typer.Option(help="Where the API is; by default http://127.0.0.1:$PORT.")] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Send the events of this number: twice the same, counted once.")
    ] = None,
    day: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="With --seed: the day (UTC) before which the events are; today."),
    ] = None,
    key: Annotated[str | None, typer.Option(help="An API key.", envvar="API_KEY", show_envvar=True)] = None,
    as_json: AsJson = False,
) -> None:
    """Send events of the reference mix through HTTP; exit 1 if any was not accepted.

    Each has its own event_id and timestamp, so what is answered 429 or 503, or not at all, is safely sent again. The
    times lie in the last three days; with --seed in the three before --day, so that a later run sends the same.
    """
    from pipeline.load.send import Shape, Target, send_load  # noqa: PLC0415 - commands load only what they need
    from pipeline.load.workload import Workload  # noqa: PLC0415

    if url is None:
        url = f"http://127.0.0.1:{os.environ.get('PORT') or operator_settings().port}"
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    end = datetime.now(UTC) - timedelta(seconds=1)
    if seed is not None:
        end = day.replace(tzinfo=UTC) if day is not None else today
    workload = Workload(seed if seed is not None else secrets.randbits(63), end, players)
    if not as_json:
        typer.echo("🔥 Starting load test...")
    with progress() as advance:
        lines = _Lines(count, silent=as_json or sys.stderr.isatty())

        def watch(tally: "Tally") -> None:
            advance("sending events", tally.done, count)
            lines.watch(tally)

        tally = send_load(Target(url, key or ""), Shape(count, rate, batch), workload, watch)
        watch(tally)
    (_print_json if as_json else _print)(tally)
    if tally.failed:
        raise typer.Exit(1)


class _Lines:
    """The guide's lines, one each tenth of the way, if there is no terminal for a bar."""

    def __init__(self, count: int, *, silent: bool) -> None:
        self._count = count
        self._step = max(1, -(-count // _LINES))
        self._next = self._step
        self._silent = silent

    def watch(self, tally: "Tally") -> None:
        """Print a line when the next tenth is done."""
        if not self._silent and tally.done >= self._next:
            typer.echo(f"[{tally.done}/{self._count}] Success: {tally.success}, Failed: {tally.failed}")
            self._next = (tally.done // self._step + 1) * self._step if tally.done < self._count else self._count + 1


def _print(tally: "Tally") -> None:
    typer.echo("✅ Load test completed!" if not tally.failed else "❌ Load test completed, with failures.")
    typer.echo(
        f"   Duration: {tally.seconds:.0f}s" if tally.seconds >= _LINES else f"   Duration: {tally.seconds:.1f}s"
    )
    typer.echo(f"   Success: {tally.success}")
    typer.echo(f"   Failed: {tally.failed}")
    typer.echo(f"   Rate: {tally.success / tally.seconds:.0f} events/sec")
    if tally.retries:
        typer.echo(f"   Retries: {tally.retries}")
    if tally.first_error:
        typer.echo(f"   First error: {tally.first_error}")


def _print_json(tally: "Tally") -> None:
    typer.echo(
        json.dumps(
            {
                "success": tally.success,
                "failed": tally.failed,
                "retries": tally.retries,
                "seconds": round(tally.seconds, 3),
                "rate": round(tally.success / tally.seconds, 1),
                "first_error": tally.first_error,
            }
        )
    )
