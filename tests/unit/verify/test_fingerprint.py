"""Fingerprints of JSON: equal for equal values, and for no others."""

import pytest

from pipeline.verify.fingerprint import fingerprint


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{"a":1,"b":2}', '{ "b": 2, "a": 1 }'),
        ('{"a":1,"a":2}', '{"a":2}'),
        ("1e2", "100"),
        ("1.50", "1.5"),
        ("-0.0", "0"),
        ("1e308", "1" + 308 * "0"),
        (r'"\u0041\/"', '"A/"'),
        ("0.1", "0.10"),
        ("1e-999999999", "10e-1000000000"),
        ("1e-9000", "0." + 8_999 * "0" + "1"),
    ],
)
def test_equal_values_have_the_same_fingerprint(one: str, other: str) -> None:
    assert fingerprint(one) == fingerprint(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1", "true"),
        ("0", "false"),
        ("1", '"1"'),
        ("null", '"null"'),
        ("[]", "{}"),
        ("[1,2]", "[2,1]"),
        ("[[1],2]", "[1,2]"),
        ('{"a":1}', '{"a":2}'),
        ('{"a":1}', '{"b":1}'),
        ('{"a":null}', "{}"),
        ("-1", "-2"),
        ("1", "-1"),
        ('["number","1"]', "1"),
        ('["boolean",true]', "true"),
        ("0", "2305843009213693951"),
        ('"1/1"', "1"),
        ("0.1", "0.1000000000000000055511151231257827"),
        ("9007199254740993", "9007199254740992"),
        ('{"a":"b"}', '{"b":"a"}'),
    ],
)
def test_other_values_have_another(one: str, other: str) -> None:
    assert fingerprint(one) != fingerprint(other)
