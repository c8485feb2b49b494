"""`gamemetrics dlq`, as typer functions."""

import json
import os
import pwd
import re
import sys
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from pipeline.cli.options import AsJson, printable
from pipeline.epoch.rejected import Code
from pipeline.local.settings import operator_settings

if TYPE_CHECKING:
    from pipeline.operations.dlq import By
    from pipeline.sinks.redrive import Letter

dlq = typer.Typer(no_args_is_help=True, help="Dead letters: records that were no events.")

_MOST_LETTERS: Final = 100_000
_LAST_ID: Final = 2**63 - 1

Ids = Annotated[list[int], typer.Argument(min=1, max=_LAST_ID, help="Ids, as `dlq list` shows them.")]
Service = Annotated[
    str | None, typer.Option(help="Only those of this consumer, such as event-consumer-logger.", show_default=False)
]
Reason = Annotated[str | None, typer.Option(help="Only those whose reason has this text in it.", show_default=False)]
CodeOption = Annotated[
    Code | None,
    typer.Option("--code", help="Only those of this code; `internal` is a fault of ours.", show_default=False),
]
Since = Annotated[
    str | None,
    typer.Option(help="Only newer ones: 30m, 2h, 7d, or a time such as 2026-01-15T10:30:00Z.", show_default=False),
]

Why = Annotated[str, typer.Option("--reason", help="Why, for the audit (pipeline_audit).", show_default=False)]

_age: Final = re.compile(r"(\d{1,6})([smhd])\Z")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_REASON_WIDTH: Final = 100


@dlq.command("list")
def list_(  # noqa: PLR0913 - the options of a command
    *,
    service: Service = None,
    code: CodeOption = None,
    reason_contains: Reason = None,
    since: Since = None,
    only_open: Annotated[bool, typer.Option("--open", help="Leave out those redriven or dropped.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=_MOST_LETTERS, help="How many to show.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List dead letters, the newest first."""
    from pipeline.operations.dlq import Wanted, open_letters  # noqa: PLC0415 - commands load only what they need

    wanted = Wanted(service, reason_contains, _moment(since), only_open, code)
    with open_letters(operator_settings()) as letters:
        total, shown = letters.count(wanted), letters.newest(wanted, limit)
    if as_json:
        typer.echo(json.dumps({"total": total, "letters": [_as_object(letter) for letter in shown]}))
        return
    for letter in shown:
        place = f"{letter.partition}/{letter.record_offset}"
        reason = printable(letter.error_message)[:_REASON_WIDTH]
        when = f"{letter.created_at:%Y-%m-%d %H:%M:%S}"
        typer.echo(f"{letter.id:>8}  {when}  {place:>12}  {letter.state:<8}  {letter.code:<9}  {reason}")
    typer.echo(f"{len(shown)} of {total} dead letters" if total else "No dead letters.")


@dlq.command()
def show(number: Annotated[int, typer.Argument(metavar="ID", min=1, max=_LAST_ID)], *, as_json: AsJson = False) -> None:
    """Show one dead letter in full."""
    from pipeline.operations.dlq import open_letters  # noqa: PLC0415

    with open_letters(operator_settings()) as letters:
        (letter,) = letters.get([number])
    if as_json:
        typer.echo(json.dumps(_as_object(letter)))
        return
    for name, value in _as_object(letter).items():
        typer.echo(f"{name:<16} {printable(str(value)) if value is not None else '-'}")


@dlq.command()
def redrive(  # noqa: PLR0913 - the options of a command
    ids: Annotated[
        list[int] | None, typer.Argument(min=1, max=_LAST_ID, help="Ids; redriven ones are sent again.")
    ] = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="All that are neither redriven nor dropped.")] = False,
    service: Service = None,
    code: CodeOption = None,
    reason_contains: Reason = None,
    since: Since = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many, the oldest first.")] = None,
    reason: Why = "",
    as_json: AsJson = False,
) -> None:
    """Send dead letters to the topic again, under the identity they had: sent twice, they count once.

    What is still no event comes back as a new dead letter. A record that several consumers refused is sent once.
    """
    if bool(ids) == everything:
        raise typer.BadParameter("give ids, or --all", param_hint="IDS")
    from pipeline.operations.dlq import Wanted, open_letters  # noqa: PLC0415

    by = _by(reason)
    with open_letters(operator_settings()) as letters:
        if ids:
            done = letters.redrive(ids[:limit], by)
        else:
            done = letters.redrive_open(Wanted(service, reason_contains, _moment(since), code=code), limit, by)
    if as_json:
        typer.echo(json.dumps({"redriven": done.sent, **({"unfit": done.unfit} if done.unfit else {})}))
        return
    typer.echo(f"{done.sent} records sent to the topic again.")
    if done.unfit:
        typer.echo(
            f"{done.unfit} are larger than an event, or than the topic takes, and stay; `dlq drop` gives them up."
        )


@dlq.command()
def drop(
    ids: Ids,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    reason: Why = "",
    as_json: AsJson = False,
) -> None:
    """Give dead letters up: their rows stay, marked, and are never redriven."""
    by = _by(reason)
    if not yes:
        if not sys.stdin.isatty():
            raise typer.BadParameter("there is no terminal to ask on; say --yes", param_hint="--yes")
        typer.confirm(f"Give up {len(ids)} dead letters?", abort=True)
    from pipeline.operations.dlq import open_letters  # noqa: PLC0415

    with open_letters(operator_settings()) as letters:
        dropped = letters.drop(ids, by)
    typer.echo(json.dumps({"dropped": dropped}) if as_json else f"{dropped} dead letters dropped.")


def _by(reason: str) -> "By":
    """Say who asks, by the account of this machine, and why."""
    from pipeline.operations.dlq import By  # noqa: PLC0415
    from pipeline.sinks.redrive import MOST_REASON  # noqa: PLC0415

    why = reason.strip()
    if len(why) > MOST_REASON or any("\ud800" <= char <= "\udfff" for char in why):
        raise typer.BadParameter(f"must be text of at most {MOST_REASON} characters", param_hint="--reason")
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # as in a container that runs as any number
        name = str(os.getuid())
    return By(f"cli:{name}", why)


def _moment(text: str | None) -> datetime | None:
    """Read an age or a time."""
    if text is None:
        return None
    try:
        if match := _age.match(text):
            return datetime.now(UTC) - timedelta(**{_UNITS[match[2]]: int(match[1])})
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            "must be an age such as 2h, or a time such as 2026-01-15T10:30:00Z", param_hint="--since"
        ) from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _as_object(letter: "Letter") -> dict[str, Any]:
    """Make a letter printable as JSON: times as text, bytes as text if they are UTF-8, otherwise as hex."""
    shown: dict[str, Any] = {"id": letter.id, "state": letter.state}
    for name, value in asdict(letter).items():
        if isinstance(value, datetime):
            shown[name] = value.astimezone(UTC).isoformat()
        elif isinstance(value, bytes):
            shown[name] = _text(value)
        else:
            shown[name] = value
    return shown


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return f"hex:{value.hex()}"
