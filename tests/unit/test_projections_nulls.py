"""Null characters are replaced in the JSON of commits, and nothing else is."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from projections.nulls import without_nulls

# Backslashes, quotes and what an escape is made of: so that escaped and escaping ones meet.
texts = st.text(st.sampled_from('\0\\"u0/é\n'), max_size=12)


@settings(deadline=None)
@given(st.lists(texts, max_size=4))
def test_every_null_character_becomes_a_replacement(value: list[str]) -> None:
    replaced = [text.replace("\0", "\ufffd") for text in value]
    assert msgspec.json.decode(without_nulls(msgspec.json.encode(value))) == replaced


def test_json_without_one_is_left_as_it_is() -> None:
    for raw in (b'{"a":"b"}', rb'{"a":"\"b\""}'):
        assert without_nulls(raw) is raw
    assert without_nulls(rb'"\\u0000"') == rb'"\\u0000"'
