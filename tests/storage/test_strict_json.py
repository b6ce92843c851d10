"""JSON of strangers is read, or refused with a ValueError of one line."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tip_adapter.storage.strict_json import parse_json

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(values, st.booleans())
def test_what_was_written_is_read(value, ascii_only):
    assert parse_json(json.dumps(value, ensure_ascii=ascii_only)) == value
    assert parse_json(b"\xef\xbb\xbf" + json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@given(st.binary() | st.text())
def test_anything_else_is_a_value_error(data):
    try:
        text = json.dumps(parse_json(data), ensure_ascii=False, allow_nan=False)
    except ValueError:
        return
    assert parse_json(text.encode()) == parse_json(data)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("[" * 101 + "]" * 101, "100 deep"),
        ("[" * 200_000 + "]" * 200_000, "100 deep"),
        ('{"a":' * 3000 + "1" + "}" * 3000, "100 deep"),
        ("9" * 5000, "a number of 5000 digits"),
        ("1e999", "too large"),
        ("[-Infinity]", "no number of JSON"),
        (r'["\ud800"]', "half of a character"),
        (r'{"\uDFFF": 1}', "half of a character"),
        ('{"a": 1, "a": 2}', "'a' twice"),
        (b"\xff\xfe", "other bytes than UTF-8"),
        ("", "Expecting value"),
    ],
)
def test_each_kind_says_what_it_is(data, words):
    with pytest.raises(ValueError, match=words) as caught:
        parse_json(data)
    assert len(str(caught.value).splitlines()) == 1


def test_pairs_of_surrogates_are_characters():
    assert parse_json(r'["\ud83d\ude00", "\\ud800"]') == ["\U0001f600", "\\ud800"]
