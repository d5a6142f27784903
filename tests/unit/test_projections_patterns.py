"""A name finds its server, whatever it holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.database import compiled
from projections.patterns import finder, literal, why_text
from projections.query import InvalidQuery

TEXT = st.text(st.characters(codec="utf-8") | st.sampled_from("\\.^$*+?()[]{}|-=!<:,1"), min_size=1, max_size=40)


@given(TEXT)
def test_a_text_as_an_expression_finds_itself_only(text: str) -> None:
    found = compiled(literal(text)).fullmatch(text)
    assert found is not None
    assert compiled(literal(text)).fullmatch(f"{text}x") is None


@given(TEXT)
def test_a_name_as_a_pattern_finds_itself(name: str) -> None:
    assert finder(name)(name)


def test_what_is_no_expression_is_text() -> None:
    assert why_text("web.1") is None
    assert finder("web.1")("web-1")
    assert why_text("web.[1") == "missing ]: [1"
    assert finder("b.[1")("web.[1]")
    assert not finder("b.[1")("web-[1")


@pytest.mark.parametrize(("pattern", "why"), [("a" * 256, "is longer than 255"), (r"(\pL{9}){99}", "too much memory")])
def test_what_can_not_be_carried_out_is_refused(pattern: str, why: str) -> None:
    with pytest.raises(InvalidQuery, match=why):
        why_text(pattern)
