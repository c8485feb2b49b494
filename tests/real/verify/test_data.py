"""What `data` held is what PostgreSQL keeps, and `verify` says so, however jsonb writes it."""

import pytest

from pipeline.verify.verify import verify
from tests.consuming import consume_all
from tests.events import with_data
from tests.place import Place

pytestmark = pytest.mark.real

WRITTEN = [
    '{"b":1e2,"a":[1.50,-0.0,1E-3],"c":true}',
    '{"a":1,"a":2}',
    '{"big":9007199254740993.0,"bigger":1e308,"small":1e-320,"id":9007199254740993e0}',
    r'{"\u00e9":"\u0041\n\/ \ud83d\ude00","":null}',
    "{ }",
    '{"nested":{"x":{"y":[[],{},"1",1,true,false,null]}}}',
    '{"tiny":1e-9000}',
]
REFUSED = ['{"tiny":1e-99999}', '{"tinier":1e-999999999}', f'{{"tiniest":1e-{30 * "9"}}}']
"""Numbers that JSON has and PostgreSQL has not."""


def test_data_is_the_same_however_it_was_written(place: Place) -> None:
    place.produce([("p", with_data(data)) for data in WRITTEN + REFUSED])
    consume_all(place)
    report = verify(place.settings, lambda _what, _done, _total: None, full=True)
    assert report.differences.kept == []
    assert (report.compared["events"], report.compared["records"]) == (len(WRITTEN), len(WRITTEN + REFUSED))
