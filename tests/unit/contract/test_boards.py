"""Periods and names: Python and polars say the same of any day, and a key is read as it was written."""

import re
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pipeline.api.console
import pipeline.sinks
from pipeline.contract.boards import (
    ALLTIME,
    DAILY,
    LAST_EVENT,
    PERIODS,
    TOTAL_EVENTS,
    WEEKLY,
    Expiry,
    Period,
    board_key,
    count_field,
    counts_in,
    keep_field,
    made_key,
    read_board_key,
    refused_key,
    stats_fields,
    stats_key,
    stats_player,
    watermark_key,
)
from pipeline.contract.event import POLARS_TIMESTAMP, format_timestamp

DAYS = st.dates(date(1, 1, 1), date(9900, 1, 1))
YEAR_ENDS = st.builds(
    lambda year, shift: date(year, 1, 1) + timedelta(days=shift), st.integers(1900, 2400), st.integers(-4, 4)
)
KEEP = st.integers(1, 3650)
DATED = [DAILY, WEEKLY]


def only(frame: pl.DataFrame) -> object:
    return frame.item()


@pytest.mark.parametrize(
    ("day", "labels"),
    [
        (date(2024, 12, 29), ["alltime", "daily:2024-12-29", "weekly:2024-W52"]),
        (date(2024, 12, 30), ["alltime", "daily:2024-12-30", "weekly:2025-W01"]),
        (date(2021, 1, 3), ["alltime", "daily:2021-01-03", "weekly:2020-W53"]),
        (date(2026, 1, 1), ["alltime", "daily:2026-01-01", "weekly:2026-W01"]),
        (date(2027, 1, 3), ["alltime", "daily:2027-01-03", "weekly:2026-W53"]),
        (date(987, 6, 5), ["alltime", "daily:0987-06-05", "weekly:0987-W23"]),
    ],
)
def test_periods_are_named_by_their_day_and_their_iso_week(day: date, labels: list[str]) -> None:
    assert [period.label(day) for period in PERIODS.values()] == labels


@pytest.mark.parametrize("period", DATED, ids=lambda period: period.name)
@given(day=DAYS | YEAR_ENDS, keep=KEEP)
def test_polars_says_of_a_day_what_python_says(period: Period, day: date, keep: int) -> None:
    frame, column = pl.DataFrame({"day": [day]}), pl.col("day")
    assert only(frame.select(period.labels(column))) == period.label(day)
    assert only(frame.select(pl.lit(f"{period.name}:") + period.stamps(column))) == period.label(day)
    assert only(frame.select(period.expire_at(column, keep))) == period.expires_at(day, keep)
    assert only(frame.select(period.first_days(column))) == period.first_day(day)


@pytest.mark.parametrize("period", DATED, ids=lambda period: period.name)
@given(day=DAYS | YEAR_ENDS, keep=KEEP)
def test_a_period_is_the_days_between_its_first_and_the_next_ones(period: Period, day: date, keep: int) -> None:
    first = period.first_day(day)
    days = [first + timedelta(days=number) for number in range(period.days)]
    assert day in days
    assert {period.label(one) for one in days} == {period.label(day)}
    assert period.label(days[-1] + timedelta(days=1)) != period.label(day)
    gone = datetime.combine(days[-1] + timedelta(days=1 + keep), time(), UTC)
    assert period.expires_at(day, keep) == (gone - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
    assert period.lives(day, keep, gone - timedelta(microseconds=1))
    assert not period.lives(day, keep, gone)


@pytest.mark.parametrize("period", DATED, ids=lambda period: period.name)
@given(today=YEAR_ENDS, keep=KEEP)
def test_no_day_of_a_board_that_lives_is_further_back_than_it_says(period: Period, today: date, keep: int) -> None:
    oldest = today - timedelta(days=period.days_back(keep))
    now = datetime.combine(today, time(12), UTC)
    assert not period.lives(oldest - timedelta(days=1), keep, now)
    assert any(period.lives(oldest + timedelta(days=number), keep, now) for number in range(period.days))


def test_the_board_of_all_time_never_ends() -> None:
    assert ALLTIME.lives(ALLTIME.first_day(date(2026, 1, 1)), 0, datetime(9999, 12, 31, tzinfo=UTC))
    assert [Expiry(3, 5).of(period) for period in (ALLTIME, DAILY, WEEKLY)] == [0, 3, 5]


@given(st.text(min_size=1), st.sampled_from(list(PERIODS.values())), DAYS)
def test_a_key_is_read_as_it_was_written(game: str, period: Period, day: date) -> None:
    assert read_board_key(board_key(game, period.label(day))) == (game, period, period.first_day(day))
    assert stats_player(stats_key(game)) == game
    assert stats_player(board_key(game, period.label(day))) is None


@pytest.mark.parametrize(
    "key",
    [
        "leaderboard:g",
        "leaderboard:alltime",
        "leaderboard:g:daily",
        "leaderboard:g:daily:20260115",
        "leaderboard:g:daily:2026-02-30",
        "leaderboard:g:weekly:2026-W3",
        "leaderboard:g:weekly:2026-W54",
        "leaderboard:g:weekly:2025-W53",
        "leaderboard:g:weekly:2026-W03-1",
        "leaderboard:g:weekly:2026-W" + "9" * 5000,
        "leaderboard:g:monthly:2026-01-01",
        "player_stats:p:alltime",
        "g:alltime",
        "",
    ],
)
def test_what_is_no_boards_key_is_refused(key: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - by whichever part is wrong
        read_board_key(key)


@given(st.datetimes(datetime(2000, 1, 1), datetime(9999, 12, 30)), st.integers(0))  # noqa: DTZ001 - hypothesis' way
def test_the_hash_holds_the_total_the_counts_and_the_last_time(moment: datetime, total: int) -> None:
    last = moment.replace(tzinfo=UTC)
    counts = {"login": 2, "event_x": 1, "": 7}
    fields = stats_fields(total, counts, last)
    assert (fields[TOTAL_EVENTS], fields[LAST_EVENT]) == (str(total), format_timestamp(last))
    assert counts_in(fields) == counts
    written = pl.DataFrame({"t": [last]}, schema={"t": pl.Datetime("us", "UTC")})
    assert only(written.select(pl.col("t").dt.strftime(POLARS_TIMESTAMP))) == fields[LAST_EVENT]


def test_the_console_has_words_for_each_period_and_no_other() -> None:
    source = (Path(pipeline.api.console.__file__).parent / "pages" / "periods.js").read_text()
    words = dict(re.findall(r"^  (\w+): \{(.*)\},$", source, re.MULTILINE))
    assert list(words) == list(PERIODS), "the first is the one that the API shows if none is asked for"
    assert {name: "choose:" in text for name, text in words.items()} == {p.name: p.dated for p in PERIODS.values()}


@given(st.sampled_from(DATED), DAYS | st.dates(date(9999, 12, 1)))
def test_a_board_has_a_name_and_the_days_between_its_first_and_last(period: Period, day: date) -> None:
    first, last = period.first_day(day), period.last_day(day)
    assert first <= day <= last
    assert last == date.max or (last - first).days == period.days - 1
    for other in (first, last):
        assert (period.stamp_of(other), period.first_day(other)) == (period.stamp_of(day), first)
    assert period.label(day) == f"{period.name}:{period.stamp_of(day)}"


def test_the_function_in_redis_spells_names_as_they_are_here() -> None:
    """Which is all that it spells: what it writes is compared on the server (tests/real/sinks)."""
    source = (Path(pipeline.sinks.__file__).parent / "apply.lua").read_text()
    code = re.sub(r"--.*", "", source)
    texts = set(re.findall(r"'([^']*)'", code))
    game = board_key("", "")
    named = {TOTAL_EVENTS, LAST_EVENT, count_field(""), game[:-1], ALLTIME.name, *(f"{one.name}:" for one in DATED)}
    assert named <= texts
    assert refused_key("g").removeprefix(watermark_key("g")) in texts
    made = made_key("g").removeprefix(watermark_key("g"))
    assert made in texts
    assert keep_field(DAILY).removesuffix(DAILY.name) in texts
    assert not {text for text in texts - named - {made} if re.search(r"event|board|daily|weekly|time$|W\d", text)}
