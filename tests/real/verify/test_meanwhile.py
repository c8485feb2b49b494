"""What moves while a step of the proof begins: events come in, are counted, and are proven by another verifier."""

from typing import Any

import pytest

from pipeline.kafka.topic import Topic
from pipeline.verify.checkpoints import Checkpoints
from pipeline.verify.groups import read_groups
from pipeline.verify.report import Report
from pipeline.verify.steps import Prover
from pipeline.verify.verify import proving
from tests.consuming import consume_all
from tests.place import Place
from tests.real.verify.test_steps import found_in, go_on
from tests.real.verify.test_verify import NONE, events

pytestmark = pytest.mark.real


@pytest.mark.parametrize(("owner", "name"), [(Topic, "bounds"), (Checkpoints, "read"), (Prover, "_marks")])
def test_what_is_counted_and_proven_while_a_step_begins_is_no_difference(
    place: Place, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    """Events come in, are counted and proven by another verifier, after this one asked for one thing or the other."""
    place.produce(events(50))
    consume_all(place)
    assert found_in(go_on(place)) == NONE
    original, seeds = getattr(owner, name), iter(range(10))

    def asked(self: Any) -> Any:
        answer = original(self)
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, original)
            place.produce(events(10, seed=next(seeds)))
            consume_all(place)
            assert found_in(go_on(place)) == NONE
        monkeypatch.setattr(owner, name, original)
        return answer

    with place.pg() as connection:
        (group,) = read_groups(connection, place.topic)
    with proving(place.settings, group, Report()) as prover:
        monkeypatch.setattr(owner, name, asked)
        prover.step()
        assert prover.findings.found == {}
