"""Whatever text an event carries, raw or escaped, at whatever place: each lane gives the judge's verdict and value."""

import json

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.contract.event import MAX_NESTING
from pipeline.epoch.grammar import AT_TOP_LEVEL, HOLDABLE, object_of
from pipeline.epoch.layout import LayoutLane
from pipeline.epoch.typed import TypedLane
from tests.events import from_edge, with_data
from tests.texts import AWKWARD, names, numbers, objects, scalars, spelled, texts
from tests.unit.epoch.test_decode import SCORING, assert_agrees, taken_by, types

score_keys = st.sampled_from([rule.field for rule in SCORING.values()])
bytes_of = st.binary(max_size=6)


@pytest.mark.parametrize("awkward", AWKWARD, ids=ascii)
def test_no_text_is_cut_wrong_at_any_place_beside_a_score(awkward: str) -> None:
    """A cut through a character ended the consumer once: 40 bytes behind the score."""
    for text in (json.dumps(awkward), json.dumps(awkward, ensure_ascii=False)):
        around = [f'{{"score":15,"name":"{"x" * place}{text[1:]}}}' for place in range(64)]
        around += [f'{{"name":"{"x" * place}{text[1:]},"score":15}}' for place in range(64)]
        assert_agrees([from_edge(data.encode()) for data in around])
        assert_agrees([with_data(data, "player_score") for data in around])


@pytest.mark.parametrize("awkward", AWKWARD, ids=ascii)
def test_no_name_of_a_player_a_game_or_a_type_is_cut_wrong(awkward: str) -> None:
    sized = [f"{'x' * place}{awkward}" for place in (*range(8), 250, 254)]
    changes: list[dict[str, str]] = [
        {field: name} for name in sized for field in ("player_id", "game_id", "event_type")
    ]
    assert_agrees([from_edge(b'{"score":15}', **change) for change in changes])


@given(st.lists(st.tuples(objects(score_keys), types, st.booleans()), min_size=1, max_size=6))
@settings(max_examples=200, deadline=None)
def test_any_object_in_any_spelling(drawn: list[tuple[str, str, bool]]) -> None:
    assert_agrees(
        [
            from_edge(data.encode(), event_type=kind) if own else with_data(data, kind)
            for data, kind, own in drawn
        ]
    )  # fmt: skip


@given(st.lists(st.tuples(names | texts, names | texts, types), min_size=1, max_size=4), st.booleans())
@settings(max_examples=100, deadline=None)
def test_any_name_of_a_player_and_a_game(drawn: list[tuple[str, str, str]], escaped: bool) -> None:  # noqa: FBT001
    values = [
        from_edge(b'{"score":1}', event_type=kind, player_id=player, game_id=game) for player, game, kind in drawn
    ]
    if escaped:
        values = [json.dumps(json.loads(value)).encode() for value in values]
    assert_agrees(values)


@given(objects(score_keys), st.integers(0, 2**16), bytes_of, st.booleans())
@settings(max_examples=200, deadline=None)
def test_any_bytes_in_place_of_some(data: str, place: int, noise: bytes, own: bool) -> None:  # noqa: FBT001
    raw = bytearray(from_edge(data.encode()) if own else with_data(data, "player_score"))
    place %= len(raw)
    raw[place : place + len(noise)] = noise
    assert_agrees([bytes(raw), from_edge(b'{"score":7}')])


@given(st.lists(st.integers(0, MAX_NESTING + 3), min_size=1, max_size=4), st.sampled_from(["[]", "{}"]), scalars)
@settings(max_examples=100, deadline=None)
def test_any_depth(depths: list[int], brackets: str, leaf: str) -> None:
    opening, closing = (brackets[0], brackets[1]) if brackets == "[]" else ('{"a":', "}")
    assert_agrees([with_data(f'{{"x":{opening * depth}{leaf}{closing * depth}}}') for depth in depths])
    assert_agrees([from_edge(f'{{"score":1,"x":{opening * d}{leaf}{closing * d}}}'.encode()) for d in depths])


@given(objects(), objects(), spelled(st.just("data")), spelled(st.just("score")))
@settings(max_examples=200, deadline=None)
def test_what_a_decoder_skips_is_looked_at_too(one: str, other: str, data: str, score: str) -> None:
    """An unknown field, the first of two `data`, and a key that is spelled by escapes."""
    assert_agrees(
        [
            with_data(f'{one},"unknown":{other}'),
            with_data(f"{one},{data}:{other}"),
            with_data(f'{{"score":1,{score}:2}},{data}:{{"score":3}}', "player_score"),
            with_data(f'{{"score":1,{score}:2}}', "player_score"),
            from_edge(f'{{"score":1,{score}:2}}'.encode()),
            from_edge(f'{{"a":{{"score":1}},{score}:2}}'.encode()),
            from_edge(f'{{"a":"{{","score":{one}}}'.encode()),
        ]
    )


@pytest.mark.parametrize(
    "data",
    ['{"a":{"score":9}}', '{"a":[{"score":9}]}', '{"a":{"b":"}","score":9}}', '{"a":"{","score":4}',
     '{"a":{"score":9},"score":4}', '{"score":4,"a":{"score":9}}', '{"a":"\\"score\\":9"}', '{"x\\"score":9}', "{}",
     '{"score" :4}', '{"score": 4 }', '{"score":[4]}', '{"score":{"score":4}}', '{"score":4.0}', '{"score":4e0}',
     '{"a":"score","score":4}', '{"score":"score"}', '{"sc\\u006fre":4}', '{"score":9007199254740993}'],
)  # fmt: skip
def test_the_score_is_the_one_at_the_top(data: str) -> None:
    for kind in SCORING:
        own = data.replace("score", SCORING[kind].field)
        assert_agrees([from_edge(own.encode(), event_type=kind), with_data(own, kind)])


ORDINARY = [
    '{"score":1,"pos":{"x":1.5,"in":{"y":[1,2]}}}',
    '{"pos":{"x":1},"score":1}',
    '{"pos":{"x":"}"},"score":1}',
    '{"items":[{"id":1,"n":2},{"id":2}],"score":1}',
    '{"score":1,"name":"the \\"great\\" one"}',
    '{"score":1,"text":"two\\nlines \\\\ and more"}',
    '{"score":1,"n":12345678901234567}',
    '{"score":1,"n":0.12345678901234567}',
    '{"score":1,"name":"J\\u00f6rg \\ud83c\\udfae"}',
    '{"name":"J\u00f6rg \u4e2d\u6587 \U0001f3ae","score":1}',
    '{"score":1,"n":1.5e3,"m":2E-7}',
]


def test_every_ordinary_shape_is_taken_by_the_first_lane() -> None:
    """What is left to the judge costs ten times as much: for a shape that a studio always sends, no exception."""
    values = [from_edge(data.encode()) for data in ORDINARY]
    assert taken_by(LayoutLane(SCORING), values) == list(range(len(ORDINARY)))
    deep = '{"score":1,"a":' + "[" * 20 + '{"b":"\\u00f6"}' + "]" * 20 + "}"
    many = '{"score":1,"items":[' + ",".join(['{"id":[1]}'] * 200) + "]}"
    foreign = [with_data(data.replace(":", " : "), "player_score") for data in [*ORDINARY, deep, many]]
    assert taken_by(TypedLane(SCORING), foreign) == list(range(len(foreign)))


@given(objects())
@settings(max_examples=300, deadline=None)
def test_the_grammar_vouches_for_nothing_that_is_not_whole_json(text: str) -> None:
    whole = pl.Series([text, text[:-1], text + "}", text.replace(":", "", 1), text.replace('"', "", 1)])
    for one, vouched in zip(whole, whole.str.contains(object_of(3)), strict=True):
        if vouched:
            assert isinstance(json.loads(one), dict)


@given(numbers)
@settings(max_examples=300, deadline=None)
def test_a_number_that_is_vouched_for_is_finite(number: str) -> None:
    for expression in (object_of(1), HOLDABLE):
        if pl.Series([f'{{"x":{number}}}']).str.contains(expression)[0]:
            assert abs(json.loads(number)) < 1e300


@pytest.mark.parametrize(
    ("before", "at_top"),
    [("{", True), ('{"a":1,', True), ('{"a":{', False), ('{"a":{"b":"}",', False), ('{"a":[{"x":"]}"}],', True),
     ('{"a":"\\"{",', True), ('{"a":"', False), ('{"a":"\\",', False)],
)  # fmt: skip
def test_a_place_is_at_the_top_only_outside_of_strings_and_brackets(before: str, *, at_top: bool) -> None:
    assert pl.Series([before]).str.contains(AT_TOP_LEVEL)[0] == at_top
