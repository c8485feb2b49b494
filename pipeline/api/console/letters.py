"""GET: dead letters, a page of them or one; how many wait. What changes them is in `redrive`."""

import base64
from typing import Any, Final, get_args

import msgspec

from pipeline.api.access.keyring import Caller
from pipeline.api.console import schemas
from pipeline.api.console.answers import answer, asking, written, written_or_none
from pipeline.api.console.schemas import Letters, WholeLetter
from pipeline.api.console.sources import ask_waiting
from pipeline.api.context import Context
from pipeline.api.http.connection import Connection
from pipeline.api.http.heads import Head
from pipeline.api.http.replies import Refusal
from pipeline.api.parameters import Whole, parameters, whole
from pipeline.epoch.rejected import Code
from pipeline.sinks.redrive import WAITING

LETTERS: Final = Whole("limit", 50, 1, 200, "How many letters")
BEFORE: Final = Whole("before", 2**63 - 1, 1, 2**63 - 1, "Letters with a smaller id; missing: the newest")
STATES: Final = {
    "waiting": WAITING,
    "redriven": "redriven_at IS NOT NULL AND dropped_at IS NULL",
    "dropped": "dropped_at IS NOT NULL",
}
CODES: Final[tuple[str, ...]] = get_args(Code)
_ID: Final = Whole("id", 0, 1, 2**63 - 1, "")
_SHOWN_CHARACTERS: Final = 2_000

# A row of `schemas.Letter`, its text cut by the first parameter.
COLUMNS: Final = (
    "id, code, error_message, left(original_event, %s), topic, partition, record_offset, record_timestamp, created_at,"
    " redriven_at, dropped_at, consumer_service"
)


async def get_letters(context: Context, connection: Connection, head: Head, _caller: Caller) -> None:
    """Answer GET /api/v1/console/dead-letters."""
    asked = parameters(head, LETTERS.name, BEFORE.name, "code", "state")
    limit, before = whole(asked, LETTERS), whole(asked, BEFORE)
    wanted: list[object] = [_SHOWN_CHARACTERS, before]
    where = "id < %s"
    if "state" in asked:
        where += f" AND {_one_of(asked['state'], 'state', STATES)}"
    if "code" in asked:
        where += " AND code = %s"
        wanted.append(known_code(asked["code"]))
    query = f"SELECT {COLUMNS} FROM dlq_events WHERE {where} ORDER BY id DESC LIMIT %s"  # noqa: S608 - constants
    with asking():
        rows = await context.console.database.rows(query, [*wanted, limit + 1])
        waiting = await ask_waiting(context.console.database)
    found = [letter(row) for row in rows]
    answer(connection, Letters(found[:limit], found[limit - 1].id if len(found) > limit else None, waiting.by_code))


async def get_letter(context: Context, connection: Connection, head: Head, _caller: Caller) -> None:
    """Answer GET /api/v1/console/dead-letters/{id}."""
    number = _number(head)
    parameters(head)
    query = f"SELECT {COLUMNS}, record_key, record_value FROM dlq_events WHERE id = %s"  # noqa: S608 - a constant
    with asking():
        rows = await context.console.database.rows(query, [2**31 - 1, number])
    if not rows:
        raise Refusal(404, f"id: there is no dead letter {number}")
    *columns, key, value = rows[0]
    shown = None if key is None else bytes(key).decode("utf-8", "replace")
    encoded = None if value is None else base64.b64encode(bytes(value)).decode()
    answer(connection, WholeLetter(**msgspec.structs.asdict(letter(columns)), key=shown, value_base64=encoded))


def letter(row: Any) -> schemas.Letter:  # noqa: ANN401 - a row of COLUMNS
    """Make a letter of a row of COLUMNS."""
    number, code, error, event, topic, partition, offset, recorded, created, redriven, dropped, service = row
    return schemas.Letter(
        number, code, error, event, topic, partition, offset,
        written(recorded), written(created), written_or_none(redriven), written_or_none(dropped), service,
    )  # fmt: skip


def known_code(code: str) -> str:
    """Return a code. Raises Refusal for what is none."""
    if code not in CODES:
        raise Refusal(400, f"code: must be one of {', '.join(CODES)}")
    return code


def _one_of(text: str, name: str, known: dict[str, str]) -> str:
    if text not in known:
        raise Refusal(400, f"{name}: must be one of {', '.join(known)}")
    return known[text]


def _number(head: Head) -> int:
    try:
        text = head.segments()[4]
    except UnicodeDecodeError:
        text = ""
    return whole({_ID.name: text}, _ID)
