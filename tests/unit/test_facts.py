"""One fact, one room: what the contract says is spelled in no other module. What it says itself, its own tests hold."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.unit.api.console.test_console_pages import OWN
from tests.unit.test_tidy import ROOT, sources

BOARDS = "pipeline/contract/boards.py"
PERIODS_IN_WORDS = "pipeline/api/console/pages/periods.js"
EVENT = "pipeline/contract/event.py"


@dataclass(frozen=True)
class Fact:
    """What is spelled in one module: in its texts, as attributes that it uses, or as fields of its classes.

    The console's pages are read as well: their texts, and every word of their code. `also` cannot ask the room, and a
    test of its own holds it to that.
    """

    what: str
    room: str
    texts: str = r"(?!)"
    names: frozenset[str] = frozenset()
    fields: frozenset[str] = frozenset()
    also: str = ""
    together: frozenset[str] = frozenset()
    """A class that has all these fields is the fact's, unless it is named in `accounts`: it tells of something else."""
    accounts: frozenset[str] = frozenset()


FACTS = [
    Fact(
        "names of periods",
        BOARDS,
        r"^(alltime|daily|weekly)$|\b(daily|weekly):|'(alltime|daily|weekly)\b|alltime\|daily",
        frozenset({"alltime", "daily", "weekly"}),
        also=PERIODS_IN_WORDS,
    ),
    Fact(
        "weeks",
        BOARDS,
        r"%G|%V|\bIYYY|-W([\d{%(]|ww|$)|'(iso)?week'",
        frozenset({"isocalendar", "fromisocalendar", "isoweekday", "weekday", "getDay", "getUTCDay", "604800000"}),
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
    Fact(
        "the row of a watermark",
        "pipeline/contract/offsets.py",
        fields=frozenset({"first_offset"}),
        together=frozenset({"admitted", "duplicates"}),
        accounts=frozenset(
            {"Fates", "PartitionLine", "Group"}
        ),  # of a span, of a proof, and of all partitions in a reply
    ),
    Fact(
        "reading a watermark",
        "pipeline/sinks/marks.py",
        r"(?s)^SELECT\b.*\bnext_offset\b.*\bFROM pipeline_watermarks(?!.*FOR UPDATE)|\bnext_offset, admitted\b",
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


SCRIPT = re.compile(
    r"""
      (?://[^\n]*|/\*.*?\*/)                                 # a comment
    | "((?:\\.|[^"\\\n])*)" | (?<!\w)'((?:\\.|[^'\\\n])*)'  # a text
    | (?<=[\s(,=:?\[l])`([^`$\n]*)                           # the beginning of a template
    | \}([^`${}\n;]*)(?=`|\$\{)                             # a part of one that follows
    | (?<=[\s(,=:])/\^?((?![*/>\s])(?:\\.|[^/\\\n])+)/      # a regular expression
    | ([A-Za-z_$][\w$]*|\d[\d_]*)                           # a word, or a number
    """,
    re.VERBOSE | re.DOTALL,
)


def found_in_script(fact: Fact, source: str) -> list[str]:
    found = [match.groups() for match in SCRIPT.finditer(source)]
    texts = [text for *parts, _ in found for text in parts if text and re.search(fact.texts, text)]
    words = {word.replace("_", "") if word[0].isdigit() else word for *_, word in found if word}
    return texts + sorted(words & fact.names)


def found(fact: Fact, path: Path) -> list[str]:
    if path.suffix == ".js":
        return found_in_script(fact, path.read_text())
    tree = ast.parse(path.read_text())
    texts = [text for text in spelled(tree) if re.search(fact.texts, text)]
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    annotated = [node.target for node in ast.walk(tree) if isinstance(node, ast.AnnAssign)]
    fields = {target.id for target in annotated if isinstance(target, ast.Name)}
    rows = [node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and is_row(fact, node)]
    return texts + sorted(used & fact.names) + sorted(fields & fact.fields) + rows


def is_row(fact: Fact, node: ast.ClassDef) -> bool:
    """Whether a class has the fact's fields, and is no account of something else."""
    targets = {
        one.target.id for one in node.body if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)
    }
    return bool(fact.together) and fact.together <= targets and node.name not in fact.accounts


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact.what)
def test_a_fact_is_spelled_in_one_room(fact: Fact) -> None:
    read = [*sources("pipeline", "bench", "scripts"), *OWN]
    places = {path.relative_to(ROOT).as_posix(): found(fact, path) for path in read}
    elsewhere = {name: texts for name, texts in places.items() if texts and name not in {fact.room, fact.also}}
    assert elsewhere == {}
    assert all(places[name] for name in (fact.room, fact.also) if name), (
        "nothing is spelled there: the pattern is wrong"
    )


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
        ("the row of a watermark", "class Mark:\n    first: int\n    admitted: int\n    duplicates: int"),
        ("reading a watermark", 'COLUMNS = "first_offset, next_offset, admitted"'),
        ("reading a watermark", 'rows = execute("SELECT partition, next_offset" " FROM pipeline_watermarks")'),
    ],
)
def test_a_fact_that_is_spelled_again_is_found(what: str, line: str, tmp_path: Path) -> None:
    again = tmp_path / "again.py"
    again.write_text(f'"""Not what is said: daily:2026-01-15."""\n{line}\n')
    fact = next(fact for fact in FACTS if fact.what == what)
    assert found(fact, again)


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ("names of periods", 'const period = "alltime";'),
        ("names of periods", "const TITLES = { alltime: 1 };"),
        ("names of periods", "if (told.weekly) go();"),
        ("names of periods", "const parts = /^leaderboard:(.*):(alltime|daily|weekly)$/s.exec(key);"),
        ("names of periods", "const label = `daily:${day}`;"),
        ("weeks", "return `${year}-W${number}`;"),
        ("weeks", "const [, year] = /^(\\d+)-W(\\d+)$/.exec(week);"),
        ("weeks", "const day = (moment.getUTCDay() + 6) % 7;"),
        ("weeks", "const week = Math.floor(passed / 604_800_000);"),
        ("names of keys", "const key = `leaderboard:${game}`;"),
        ("names of keys", "const game = /^leaderboard:(.*)$/.exec(key);"),
        ("names of keys", 'const key = "player_stats:" + player;'),
        ("fields of the hash", 'const total = fields["total_events"];'),
        ("rules of an event", "const rule = /[A-Za-z0-9_.:-]{1,100}/;"),
    ],
)
def test_a_fact_that_a_page_spells_again_is_found(what: str, line: str) -> None:
    fact = next(fact for fact in FACTS if fact.what == what)
    assert found_in_script(fact, f"// Not what is said: `daily:2026-01-15`, 2026-W03\n{line}\n")
    assert not found_in_script(fact, "/* leaderboard: alltime, daily, 2026-W03 */\n")
