"""`gamemetrics verify --watch`: drift is 0, and not 0 within a round after a row, a counter or a key was altered."""

import pytest

from tests.consuming import caught_up, consuming
from tests.place import Place
from tests.real.verify.test_verify import a_mixed_load, events
from tests.waiting import eventually
from tests.watching import watching

pytestmark = pytest.mark.real


def test_drift_is_0_beside_a_consumer_and_not_0_within_a_round_after_something_was_altered(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_mixed_load(place)
    with (
        consuming(place, batch_max_events=50),
        watching(place, monkeypatch) as seen,
        place.pg() as connection,
        place.redis() as client,
    ):
        for seed in range(3):
            place.produce(events(200, seed=20 + seed))
            caught_up(place)
        eventually(lambda: seen.told("records_total") >= 1_057, 120)
        eventually(lambda: seen.health.ready()[0] and seen.told("behind_records") == 0, 120)
        eventually(lambda: seen.told("round_seconds", store="postgres") > 0, 120)
        eventually(lambda: seen.told("round_seconds", store="redis") > 0, 120)
        assert seen.alarms == []
        assert seen.told("age_seconds") < 60

        connection.execute("UPDATE events SET data = data || '{\"note\": 1}' WHERE player_id = 'player-3'")
        eventually(lambda: "event" in seen.differing(), 120)
        connection.execute("UPDATE events SET data = data - 'note' WHERE player_id = 'player-3'")
        connection.execute("UPDATE player_event_counts SET events = events + 1 WHERE player_id = 'player-4'")
        eventually(lambda: "statistics" in seen.differing(), 180)
        connection.execute("UPDATE player_event_counts SET events = events - 1 WHERE player_id = 'player-4'")
        client.hincrby("player_stats:player-5", "total_events", 1)
        eventually(lambda: "Redis statistics" in seen.differing(), 120)
        client.hincrby("player_stats:player-5", "total_events", -1)
        eventually(lambda: not seen.differing(), 240)
        (row,) = connection.execute("SELECT state, differences, kinds FROM pipeline_proof_state").fetchall()
        assert row == ("good", 0, {})
