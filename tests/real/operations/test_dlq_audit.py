"""`gamemetrics dlq redrive|drop` in `pipeline_audit`: who, why, and how much; and nothing sent that cannot be noted."""

import getpass
from collections.abc import Mapping
from typing import Any

import pytest

from tests.commanding import gamemetrics, told
from tests.consuming import consume_all, log_ends
from tests.events import encoded
from tests.letters import write_letter
from tests.place import Place
from tests.real.sinks.test_sessions import limited

pytestmark = pytest.mark.real

RIGHTS = {"dlq_events": "SELECT, UPDATE", "pipeline_audit": "INSERT"}
"""What docs/deploy.md says the account of whoever redrives and drops at a prompt needs."""


def audit(place: Place) -> list[tuple[Any, ...]]:
    with place.pg() as connection:
        return connection.execute(
            "SELECT actor, action, reason, what, count FROM pipeline_audit ORDER BY id"
        ).fetchall()


def account(place: Place) -> Mapping[str, str]:
    settings = place.settings
    return {"DB_USER": settings.db_user, "DB_PASSWORD": settings.db_password.get_secret_value()}


def test_what_is_done_at_a_prompt_is_noted_with_who_and_why(place: Place) -> None:
    with place.pg() as connection:
        ids = write_letter(connection, place.topic, encoded(), count=3)
        write_letter(connection, place.topic, encoded(), code="internal", first=10, count=2)
    me = f"cli:{getpass.getuser()}"
    assert told(place, "dlq", "redrive", str(ids[0]), "--reason", " mended \u00fc ") == (0, {"redriven": 1})
    asked = ("--all", "--code", "internal", "--since", "2020-01-01", "--limit", "1")
    assert told(place, "dlq", "redrive", *asked) == (0, {"redriven": 1})
    assert told(place, "dlq", "redrive", "--all", "--code", "refused") == (0, {"redriven": 0})
    assert told(place, "dlq", "drop", *map(str, ids[1:]), "--yes", "--reason", "nobody's") == (0, {"dropped": 2})
    assert told(place, "dlq", "drop", str(ids[1]), "--yes") == (0, {"dropped": 0})
    assert audit(place) == [
        (me, "redrive", "mended \u00fc", {"ids": [ids[0]]}, 1),
        (me, "redrive", "", {"code": "internal", "since": "2020-01-01T00:00:00+00:00", "limit": 1}, 1),
        (me, "drop", "nobody's", {"ids": ids[1:]}, 2),
    ], "what was not done is not noted"
    for reason in ("x" * 1_001, "\udcff"):
        refused = gamemetrics(place, "dlq", "drop", str(ids[0]), "--yes", "--reason", reason)
        assert (refused.returncode, "--reason" in refused.stderr) == (2, True)


def test_whoever_may_not_note_it_sends_and_drops_nothing(place: Place) -> None:
    with place.pg() as connection:
        ids = [str(number) for number in write_letter(connection, place.topic, encoded(), count=2)]
    with limited(place, RIGHTS) as able:
        assert told(place, "dlq", "redrive", ids[0], environment=account(able)) == (0, {"redriven": 1})
    ends = log_ends(place)
    with limited(place, {"dlq_events": "SELECT, UPDATE"}) as unable:
        for asked in (("redrive", ids[1]), ("redrive", "--all"), ("drop", ids[1], "--yes")):
            done = gamemetrics(place, "dlq", *asked, **account(unable))
            assert (done.returncode, "pipeline_audit" in done.stderr) == (2, True), done.stderr
        assert told(place, "dlq", "list", "--open", environment=account(unable))[1]["total"] == 1
    assert log_ends(place) == ends
    assert [entry[4] for entry in audit(place)] == [1]


def test_what_was_sent_and_could_not_be_marked_is_said_and_counts_once_all_the_same(place: Place) -> None:
    with place.pg() as connection:
        (number,) = write_letter(connection, place.topic, encoded(player_id="p"))
        connection.execute(
            "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END $$"
        )
        connection.execute("CREATE TRIGGER dying BEFORE INSERT ON pipeline_audit FOR EACH ROW EXECUTE FUNCTION die()")
    done = gamemetrics(place, "dlq", "redrive", str(number))
    assert (done.returncode, "1 records were sent again and could not be marked" in done.stderr) == (1, True)
    assert (told(place, "dlq", "show", str(number))[1]["state"], audit(place)) == ("open", [])
    with place.pg() as connection:
        connection.execute("DROP TRIGGER dying ON pipeline_audit")
    assert told(place, "dlq", "redrive", str(number)) == (0, {"redriven": 1})
    consume_all(place)
    with place.pg() as connection:
        assert connection.execute("SELECT total_events FROM player_statistics").fetchall() == [(1,)]
