"""The shapes of load: valid, the same however they are cut, of the sizes they say, and worth the scores they carry."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.load import Load, reference_load
from bench.many import Case, cases
from bench.shapes import SHAPES, bodies, padded, padded_like, values
from bench.truth import sum_up
from pipeline.api.events.short_cut import ShortCut
from pipeline.api.events.stamps import EPOCH
from pipeline.contract.event import (
    MAX_EVENT_BYTES,
    Origin,
    format_timestamp,
    load_scoring,
    parse_edge,
    parse_record,
    record_id,
)
from pipeline.load.workload import Workload
from tests.ticks import tick_at

END = datetime(2026, 11, 20, tzinfo=UTC)
TICK = tick_at((END - EPOCH) // timedelta(milliseconds=1))
ORIGIN = Origin(record_id("t", 0, 0), END)
SEEDS = st.integers(0, 2**63)
STARTS = st.integers(0, 10**11)  # an index has at most twelve digits
DAY_KEYS = ["game_id", "day", "player_id"]


def shaped(name: str, seed: int, start: int, count: int) -> pl.DataFrame:
    return SHAPES[name].dress(Workload(seed, END, players=50).events(start, count), seed)


@pytest.mark.parametrize("name", SHAPES)
@given(seed=SEEDS, start=STARTS)
@settings(max_examples=6, deadline=None)
def test_every_record_is_an_event_with_the_score_that_the_load_carries(name: str, seed: int, start: int) -> None:
    events = shaped(name, seed, start, 40)
    for value, row in zip(values(events, TICK.text), events.iter_rows(named=True), strict=True):
        found = parse_record(value.encode(), ORIGIN, load_scoring())
        assert (found.event_type, found.player_id, found.game_id) == (
            row["event_type"], row["player_id"], row["game_id"]
        )  # fmt: skip
        assert (str(found.event_id), format_timestamp(found.timestamp)) == (row["event_id"], row["timestamp"])
        assert (found.data.decode(), found.score) == (row["data"], row["score"])


@pytest.mark.parametrize("name", SHAPES)
@given(seed=SEEDS, start=STARTS)
@settings(max_examples=6, deadline=None)
def test_a_record_is_what_the_edge_makes_of_what_a_client_sends(name: str, seed: int, start: int) -> None:
    events = shaped(name, seed, start, 40)
    judge = ShortCut(load_scoring())
    for body, value, form in zip(bodies(events), values(events, TICK.text), events["form"], strict=True):
        if form == "foreign":  # written to the topic by another producer: valid at the edge too, but not its bytes
            assert parse_edge(body.encode(), ORIGIN, load_scoring()).data in value.encode()
        else:
            assert judge.accept(body.encode(), TICK).value == value.encode()


@pytest.mark.parametrize("name", SHAPES)
@given(seed=SEEDS, start=STARTS, cut=st.integers(1, 199))
@settings(max_examples=5, deadline=None)
def test_a_shape_is_the_same_however_a_load_is_cut(name: str, seed: int, start: int, cut: int) -> None:
    whole = shaped(name, seed, start, 200)
    assert whole.equals(shaped(name, seed, start, cut).vstack(shaped(name, seed, start + cut, 200 - cut)))


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_adds_up_to_what_the_flat_load_does(name: str) -> None:
    flat, truth = (sum_up(Load(2_000, Workload(4, END), SHAPES[one]).slices()) for one in ("flat", name))
    assert truth.events == 2_000
    assert truth.days["score"].sum() == flat.days["score"].sum() > 0
    assert len(truth.days) == len(flat.days)


@pytest.mark.parametrize(
    ("name", "held"),
    [
        ("nested", ',"position":{"x":'), ("list", '"items":[{"id":'), ("quote", r"\""), ("newline", r"\n"),
        ("escaped", r"\ud83c\udfae"), ("escaped", r"Gro\u00df"), ("non-ascii", "Дмитрий"), ("non-ascii", "🎮"),
        ("non-ascii", "王小明"), ("non-ascii", "محمد"), ("foreign", '"data": {"'),
    ],
)  # fmt: skip
def test_a_shape_holds_what_it_is_named_after(name: str, held: str) -> None:
    texts = values(shaped(name, 1, 0, 2_000), TICK.text)
    assert texts.str.contains(held, literal=True).any()
    assert not values(shaped("flat", 1, 0, 2_000), TICK.text).str.contains(held, literal=True).any()


def test_numbers_have_17_digits_and_exponents() -> None:
    assert shaped("digits", 1, 0, 500)["data"].str.contains(r'"session":[1-9]\d{16}}').all()
    assert shaped("float", 1, 0, 500)["data"].str.contains(r'"x":\d+\.\d{17},"y":-0\.\d{17}}').all()
    assert shaped("exponent", 1, 0, 500)["data"].str.contains(r'"speed":\d\.\de\d,"drift":-2\.\d{3}E-\d}').all()


def test_names_are_of_every_alphabet_and_a_player_keeps_his() -> None:
    events = shaped("non-ascii", 1, 0, 5_000)
    for column, many in (("player_id", 50), ("game_id", 20)):
        assert events[column].n_unique() == many
        assert events[column].str.strip_chars("-0123456789").n_unique() == min(many, 22)


def test_the_mix_has_the_shares_that_it_says() -> None:
    data = shaped("mixed", 1, 0, 50_000)["data"]
    texts = values(shaped("mixed", 1, 0, 50_000), TICK.text)
    members = ("position", "items", "title", "chat", "clan", "speed", "build", "log")
    shares = {member: 100 * int(data.str.contains(f'"{member}":').sum()) / len(data) for member in members}
    expected = {"position": 13, "items": 12, "title": 5, "chat": 5, "clan": 10, "speed": 10, "build": 5, "log": 3}
    assert all(abs(shares[member] - share) <= 1 for member, share in expected.items()), shares
    large = texts.str.len_bytes().filter(data.str.contains('"log":')).to_list()
    assert 4_000 < min(large) <= max(large) < 4_400


@pytest.mark.parametrize("name", [name for name, shape in SHAPES.items() if not shape.edge_only])
def test_a_padded_flat_load_has_the_size_of_the_shape(name: str) -> None:
    workload = Workload(3, END)
    shape, flat = Load(100_000, workload, SHAPES[name]), Load(100_000, workload, padded_like(SHAPES[name], workload))
    mean = {load.shape.name: _mean_bytes(load) for load in (shape, flat)}
    assert mean["padded"] == pytest.approx(mean[name], abs=0.6)
    assert mean[name] >= _mean_bytes(Load(100_000, workload))


def test_large_events_are_of_the_size_they_say_and_within_the_limit() -> None:
    for case in _cases(3_000):
        if case.by_bytes:
            sizes = _sizes(case.load).to_list()
            wanted = int(case.name.split()[-2]) * 1024
            assert wanted * 0.98 < min(sizes) <= max(sizes) < min([wanted * 1.02, MAX_EVENT_BYTES])
            assert case.load.count * wanted <= 3_000_000
            assert case.load.shape.event_bytes == pytest.approx(wanted, rel=0.01)


def test_padding_is_ascii_that_needs_no_escape_and_differs_from_event_to_event() -> None:
    texts = values(padded(40).dress(Workload(1, END).events(0, 500), 1), TICK.text)
    assert all(text.isascii() and "\\" not in text for text in texts)
    assert texts.str.slice(-42, 40).n_unique() > 450


def test_what_there_are_many_of() -> None:
    loads = {case.name: case.load for case in _cases(90_000)}
    frames = {name: pl.concat(load.records()) for name, load in loads.items() if load.count == 90_000}
    assert 4_900 < frames["5,000 event types"]["event_type"].n_unique() <= 5_000  # rare ones come later
    assert frames["20,000 games"]["game_id"].n_unique() > 18_000
    assert frames["every player once"]["player_id"].n_unique() == 90_000
    assert frames["a million players"]["player_id"].n_unique() > 60_000
    hottest = frames["one player with half of all events"]["player_id"].value_counts(sort=True)["count"][0]
    assert hottest == pytest.approx(45_000, rel=0.02)
    now = datetime.now(UTC)
    times = frames["three to six days late, on settled boards"]["timestamp"].str.to_datetime(time_zone="UTC")
    assert now - timedelta(days=6, minutes=2) < times.min() < times.max() < now - timedelta(days=3)  # type: ignore[operator]


def test_copies_are_half_of_all_records_and_count_once() -> None:
    load = replace(reference_load(10_001), copies=True)
    records, truth = pl.concat(load.records()), sum_up(load.slices())
    assert len(records) == 10_001
    assert records["event_id"].n_unique() == truth.events == load.events == 5_001
    once = records.unique("event_id").drop("score", "form")
    assert truth.days.sort(DAY_KEYS).equals(sum_up([once]).days.sort(DAY_KEYS))
    places = records.with_row_index("place").group_by("event_id").agg(pl.col("place").max() - pl.col("place").min())
    assert max(places["place"].to_list()) > 5_000  # copies come late, too


@pytest.mark.parametrize("case", ["5,000 event types", "one player with half of all events", "every player once"])
def test_a_case_is_valid_and_worth_what_it_carries(case: str) -> None:
    load = next(one.load for one in _cases(2_000) if one.name == case)
    origin = Origin(ORIGIN.event_id, datetime.now(UTC))
    for events in load.records():
        for value, score in zip(values(events, TICK.text), events["score"], strict=True):
            assert parse_record(value.encode(), origin, load_scoring()).score == score


def _cases(events: int) -> list[Case]:
    return list(cases(events, most_bytes=3_000_000))


def _sizes(load: Load) -> pl.Series:
    return pl.concat([values(events, TICK.text).str.len_bytes() for events in load.records()])


def _mean_bytes(load: Load) -> float:
    sizes = _sizes(load)
    return int(sizes.sum()) / len(sizes)
