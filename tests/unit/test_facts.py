"""One fact, one room: what the contract says is spelled in no other module. What it says itself, its own tests hold."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.unit.test_tidy import ROOT, sources

BOARDS = "pipeline/contract/boards.py"
EVENT = "pipeline/contract/event.py"


@dataclass(frozen=True)
class Fact:
    """What is spelled in one module: in its texts, as attributes that it uses, or as fields of its classes."""

    what: str
    room: str
    texts: str = r"(?!)"
    names: frozenset[str] = frozenset()
    fields: frozenset[str] = frozenset()


FACTS = [
    Fact("names of periods", BOARDS, r"^(alltime|daily|weekly)$|\b(daily|weekly):|'(alltime|daily|weekly)\b"),
    Fact(
        "weeks",
        BOARDS,
        r"%G|%V|\bIYYY|-W([\d{%]|ww|$)|'(iso)?week'",
        frozenset({"isocalendar", "fromisocalendar", "isoweekday", "weekday"}),
    ),
    Fact("names of keys", BOARDS, r"^(player_stats|leaderboard|pipeline|pipeline:watermarks):|:refused$"),
    Fact(
        "Kafka's account",
        "pipeline/kafka/client.py",
        r"^kafka_password$",
        frozenset({"kafka_password", "kafka_sasl_mechanism"}),
    ),
    Fact(
        "how Kafka's clients read and deliver",
        "pipeline/kafka/client.py",
        r"^(murmur2_random|enable\.idempotence|enable\.auto\.(commit|offset\.store)|isolation\.level)$",
    ),
    Fact(
        "PostgreSQL's account", "pipeline/sinks/session.py", r"^db_password$", frozenset({"db_password", "db_sslmode"})
    ),
    Fact("the stack's account", "pipeline/local/stack.py", r"^(KAFKA|DB)_PASSWORD$"),
    Fact("the row of a watermark", "pipeline/contract/offsets.py", fields=frozenset({"first_offset"})),
    Fact(
        "reading a watermark",
        "pipeline/sinks/marks.py",
        r"(?s)^SELECT\b.*\bnext_offset\b.*\bFROM pipeline_watermarks(?!.*FOR UPDATE)",
    ),
    Fact("fields of the hash", BOARDS, r"^(total_events|event_)$"),
    Fact(
        "rules of an event",
        EVENT,
        r"A-Za-z0-9_\.:-\]|A-Z a-z 0-9 _ \. :|no control characters|\[\^\\x00-\\x1f|%m-%dT%H:%M",
    ),
    Fact("replies", "pipeline/api/schemas.py", fields=frozenset({"neighbours", "unconfirmed", "total_events"})),
    Fact("the keys of refusals", "pipeline/contract/refusals.py", r"^refusals:"),
    Fact("the limits' keys", "pipeline/api/access/limits.py", r"^ratelimit:"),
]


def spelled(tree: ast.AST) -> Iterator[str]:
    """The texts of a module, and the parts of those that are formatted; without the ones that stand as statements."""
    said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in said:
            if isinstance(node.value, bytes):
                yield node.value.decode("latin-1")
            elif isinstance(node.value, str):
                yield node.value


def found(fact: Fact, path: Path) -> list[str]:
    tree = ast.parse(path.read_text())
    texts = [text for text in spelled(tree) if re.search(fact.texts, text)]
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    annotated = [node.target for node in ast.walk(tree) if isinstance(node, ast.AnnAssign)]
    fields = {target.id for target in annotated if isinstance(target, ast.Name)}
    return texts + sorted(used & fact.names) + sorted(fields & fact.fields)


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact.what)
def test_a_fact_is_spelled_in_one_room(fact: Fact) -> None:
    places = {path.relative_to(ROOT).as_posix(): found(fact, path) for path in sources("pipeline", "bench", "scripts")}
    elsewhere = {name: texts for name, texts in places.items() if texts and name != fact.room}
    assert elsewhere == {}
    assert places[fact.room], "nothing is spelled there: the pattern is wrong"


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ("names of periods", 'boards = ("alltime",)'),
        ("names of periods", 'key = f"daily:{day}"'),
        ("names of periods", "query = \"SELECT 'daily:' || day\""),
        ("names of periods", "query = \"SELECT 1 WHERE period LIKE 'weekly:%'\""),
        ("weeks", 'label = f"{day:%G-W%V}"'),
        ("weeks", 'label = f"{year:04}-W{week:02}"'),
        ("weeks", "query = \"date_trunc('week', day)\""),
        ("weeks", "query = \"to_char(day, 'IYYY-IW')\""),
        ("weeks", "year, week, _ = day.isocalendar()"),
        ("weeks", 'first = pl.col("day").dt.weekday()'),
        ("names of keys", 'key = f"player_stats:{player}"'),
        ("names of keys", 'key = "leaderboard:" + game'),
        ("names of keys", 'client.scan_iter("leaderboard:*")'),
        ("names of keys", 'key = b"player_stats:p"'),
        ("names of keys", 'key = f"pipeline:watermarks:{group}"'),
        ("names of keys", 'key = f"{key}:refused"'),
        ("fields of the hash", 'asked.hget(key, "total_events")'),
        ("fields of the hash", 'field = f"event_{kind}"'),
        ("fields of the hash", 'fields = {b"total_events": b"1"}'),
        ("rules of an event", "pattern = r'^[A-Za-z0-9_.:-]{1,100}$'"),
        ("rules of an event", 'rule = f"{name}: must be 1-255 characters, no control characters"'),
        ("rules of an event", "pattern = r'[^\\x00-\\x1f\\x7f-\\x9f]{1,255}'"),
        ("rules of an event", 'text = moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")'),
        ("replies", "class Answer:\n    neighbours: list[int]"),
        ("Kafka's account", 'config["sasl.password"] = settings.kafka_password.get_secret_value()'),
        ("PostgreSQL's account", "psycopg.connect(password=settings.db_password.get_secret_value())"),
        ("Kafka's account", 'config["sasl.password"] = settings.current("kafka_password")'),
        ("how Kafka's clients read and deliver", 'config["partitioner"] = "murmur2_random"'),
        ("how Kafka's clients read and deliver", 'config = {"enable.auto.commit": False}'),
        ("the stack's account", 'Settings(db_password=found["DB_PASSWORD"])'),
        ("the row of a watermark", "class Mark:\n    first_offset: int"),
        ("reading a watermark", 'rows = execute("SELECT partition, next_offset" " FROM pipeline_watermarks")'),
    ],
)
def test_a_fact_that_is_spelled_again_is_found(what: str, line: str, tmp_path: Path) -> None:
    again = tmp_path / "again.py"
    again.write_text(f'"""Not what is said: daily:2026-01-15."""\n{line}\n')
    fact = next(fact for fact in FACTS if fact.what == what)
    assert found(fact, again)
