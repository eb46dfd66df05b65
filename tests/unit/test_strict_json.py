"""What is ambiguous in a request's JSON is refused, and only ever with BadJson."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api import strict_json
from api.strict_json import DEEPEST, MOST_KEYS, BadJson

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=15,
)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "Expecting value"),
        (b"{", "line 1, column 2"),
        (b'{"a": 1,}', "line 1"),
        (b"{'a': 1}", "double quotes"),
        (b'{"a": 1} {}', "Extra data"),
        (b'{"delay": NaN}', "NaN is not JSON"),
        (b"[Infinity]", "Infinity is not JSON"),
        (b"[-Infinity]", "-Infinity is not JSON"),
        (b"[1e999]", "1e999 is too large"),
        (b"[-1e999]", "-1e999 is too large"),
        (b"[" + b"9" * 5_000 + b"]", "too large"),
        (b'{"a": 1, "a": 2}', "'a' appears twice"),
        (b'{"a": {"b": 1, "\\u0062": 2}}', "'b' appears twice"),
        (b'["\\u0000"]', "NUL"),
        (b'{"\\u0000": 1}', "NUL"),
        (b'["\\ud800"]', "surrogate"),
        (b'{"\\udfff": 1}', "surrogate"),
        (b'["\\udc00\\ud800"]', "surrogate"),
        (b'["\xff"]', "not UTF-8 (byte 2)"),
        (b'["\xed\xa0\x80"]', "not UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
        (b'\xef\xbb\xbf{"a": 1}', "BOM"),
        (b'["a\nb"]', "control character"),
        (b"[" * 100_000, "nested deeper"),
        (b'{"a":' * 100_000, "nested deeper"),
        (b"[" * (DEEPEST + 1) + b"]" * (DEEPEST + 1), "nested deeper than 32"),
        (json.dumps({str(key): key for key in range(MOST_KEYS + 1)}).encode(), "more than 1,000 keys"),
        (json.dumps([{"a": 1}] * (MOST_KEYS + 1)).encode(), "more than 1,000 keys"),
    ],
    ids=lambda part: str(part[:24]),
)
def test_what_is_ambiguous_is_refused_with_a_reason(body: bytes, said: str) -> None:
    with pytest.raises(BadJson) as refusal:
        strict_json.parse(body)
    assert said.lower() in str(refusal.value).lower()


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b' {"a": [1, 2.5, null, true]} ', {"a": [1, 2.5, None, True]}),
        (b'["\\ud83d\\ude00"]', ["😀"]),
        (b"[" * DEEPEST + b"]" * DEEPEST, json.loads("[" * DEEPEST + "]" * DEEPEST)),
        (
            json.dumps({str(key): key for key in range(MOST_KEYS)}).encode(),
            {str(key): key for key in range(MOST_KEYS)},
        ),
        (b'[{"a": 1}, {"a": 2}]', [{"a": 1}, {"a": 2}]),
        (b"1e308", 1e308),
    ],
    ids=lambda part: str(part)[:24],
)
def test_what_is_plain_is_read_as_it_stands(body: bytes, value: Any) -> None:
    assert strict_json.parse(body) == value


@given(values)
def test_every_ordinary_value_survives_the_strict_reader(value: Any) -> None:
    assert strict_json.parse(json.dumps(value).encode()) == value
    assert strict_json.parse(json.dumps(value, ensure_ascii=False).encode()) == value


#: JSON's own bytes, so that random bodies come close to being JSON.
almost_json = st.lists(
    st.sampled_from(
        [
            *(b"{", b"}", b"[", b"]", b'"', b":", b",", b'"a"', b"1", b"e", b"9" * 400, b"-", b"."),
            *(b"\\u", b"d800", b"NaN", b"null", b"true", b"\\", b"\x00", b"\xc3", b"\xa4", b" "),
        ]
    ),
    max_size=30,
).map(b"".join)


@given(st.binary(max_size=60) | almost_json | texts.map(str.encode))
def test_no_body_raises_anything_but_bad_json(body: bytes) -> None:
    try:
        value = strict_json.parse(body)
    except BadJson as refusal:
        assert str(refusal)
    else:
        assert json.loads(json.dumps(value, allow_nan=False)) == value
