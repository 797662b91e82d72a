"""What counts as a date at upload can be read as one by an index."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sourcebook.language.dates import read_date
from sourcebook.language.iso_dates import is_date


@given(st.from_regex(r"20[0-9]{2}-[01][0-9]-[0-3][0-9]([T ][0-9:.,]{1,12}(Z|[+-][0-9:]{2,5})?)?", fullmatch=True))
def test_what_is_inferred_as_a_date_is_indexed_as_one(text: str) -> None:
    if is_date(text):
        assert read_date(text) is not None


@given(st.datetimes(timezones=st.just(UTC)), st.sampled_from(["", "Z", "+05:30", "-18:00"]), st.sampled_from("T "))
def test_what_python_prints_is_a_date(moment: datetime, zone: str, separator: str) -> None:
    text = moment.replace(tzinfo=None).isoformat(separator) + zone
    assert is_date(text)
    if not zone:
        milliseconds = (moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000
        assert abs((read_date(text) or (0, 0))[0] - milliseconds) < 1.1


@pytest.mark.parametrize(
    "text", ["2023-02-30", "2023-05-01T24:00", "2023-05-01 10", "2023-05-01T10:00+99:00", "20230501", "2023-05-01\n"]
)
def test_what_is_no_date(text: str) -> None:
    assert not is_date(text)
