"""The tapes: what a client said, cut where it waited. And the generator's own sums."""

import itertools
import socket
import threading
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from bench.clients import content_length, streams
from bench.limit import packed
from bench.plots import draw
from bench.truth import sum_up
from bench.wire import Answers, PostgresTape, RedisTape, Relay, Step
from pipeline.load.workload import Workload
from tests.unit.bench.test_figures import EVERYTHING


def message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + (len(body) + 4).to_bytes(4, "big") + body


def test_kinds_are_told_however_the_stream_is_cut() -> None:
    stream = message(b"R", b"x" * 300) + message(b"Z", b"I") + message(b"C", b"Z" * 50) + message(b"G")
    for size in range(1, len(stream) + 1):
        answers = Answers()
        pieces = [stream[start : start + size] for start in range(0, len(stream), size)]
        assert b"".join(map(answers.kinds, pieces)) == b"RZCG"


def test_a_step_is_what_is_said_before_the_answers_that_are_waited_for() -> None:
    tape = PostgresTape()
    tape.sent(b"password")
    tape.answered(message(b"R") + message(b"Z", b"I"))
    tape.sent(b"BEGIN")
    tape.answered(message(b"C"))
    tape.answered(message(b"Z", b"T"))
    tape.sent(b"COPY")
    tape.answered(message(b"G"))
    tape.sent(b"rows, ")
    tape.sent(b"more rows")
    tape.answered(message(b"C") + message(b"Z", b"T") + message(b"Z", b"T"))
    assert tape.take() == [Step(b"BEGIN", 1), Step(b"COPY", 1), Step(b"rows, more rows", 2)]
    tape.sent(b"COMMIT")
    tape.answered(message(b"Z", b"I"))
    assert tape.take() == [Step(b"COMMIT", 1)]
    assert tape.take() == []


def test_a_relay_passes_everything_on_and_tells_its_tape() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        tape = RedisTape()
        received = bytearray()

        def echo() -> None:
            with server.accept()[0] as peer:
                while piece := peer.recv(4096):
                    received.extend(piece)
                    peer.sendall(piece)

        thread = threading.Thread(target=echo)
        thread.start()
        with Relay(server.getsockname()[1], tape) as relay:
            with socket.create_connection(("127.0.0.1", relay.port)) as client:
                client.sendall(b"PING\r\n")
                assert client.recv(4096) == b"PING\r\n"
            thread.join(10)
        assert tape.take() == bytes(received) == b"PING\r\n"
        assert tape.take() == b""


def test_commands_are_packed_by_bytes_and_not_by_characters() -> None:
    assert packed("AUTH", "é") == b"*2\r\n$4\r\nAUTH\r\n$2\r\n\xc3\xa9\r\n"


def test_streams_share_all_events_out_at_the_rate() -> None:
    bodies = [f'{{"n":{number}}}' for number in range(10_000)]
    shared = streams(bodies, rate=5_000)
    sent = b",".join(itertools.chain.from_iterable(stream.bodies for stream in shared)).decode()
    assert all(sent.count(f'"n":{number}}}') == 1 for number in (0, 1, 10, 4_711, 9_999))
    assert sent.count('"n":') == len(bodies)
    assert all(abs(len(stream.bodies) * stream.interval - 2.0) < 1e-9 for stream in shared)
    assert {stream.path for stream in shared} == {"/api/v1/events", "/api/v1/events/batch"}


def test_the_length_of_a_body_is_found_in_any_case() -> None:
    assert content_length(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n") == 12
    assert content_length(b"HTTP/1.1 200 OK\r\n\r\n") == 0


def test_the_truth_is_the_same_however_a_load_is_cut() -> None:
    workload = Workload(seed=3, end=datetime(2026, 3, 4, tzinfo=UTC), players=50)
    whole, cut = sum_up([workload.events(0, 900)]), sum_up([workload.events(0, 400), workload.events(400, 500)])
    assert whole.events == cut.events == 900
    keys = ["game_id", "day", "player_id"]
    assert whole.days.sort(keys).equals(cut.days.sort(keys))


def test_the_truth_takes_scores_and_their_defaults_by_the_table() -> None:
    columns = ("event_type", "player_id", "game_id", "timestamp", "data")
    rows = [
        ("player_score", "p", "g", "2026-03-04T23:59:59.999999Z", '{"score":7,"points":100}'),
        ("quest_completed", "p", "g", "2026-03-04T00:00:00.000000Z", "{}"),
        ("player_score", "p", "g", "2026-03-05T00:00:00.000000Z", '{"score":-2}'),
        ("login", "p", "g", "2026-03-05T00:00:00.000000Z", '{"score":9}'),
    ]
    truth = sum_up([pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String), orient="row")])
    assert truth.events == 4
    assert truth.days.sort("day")["score"].to_list() == [17, -2]


def test_every_picture_is_drawn_twice_and_the_same_each_time(tmp_path: Path) -> None:
    first, second = draw(EVERYTHING, tmp_path), [path.read_bytes() for path in draw(EVERYTHING, tmp_path)]
    assert [path.name for path in first] == [
        f"{name}.{kind}" for name in ("throughput", "cpu", "freshness", "sweep") for kind in ("svg", "png")
    ]
    assert [path.read_bytes() for path in first] == second
    assert all(len(content) > 5_000 for content in second)
