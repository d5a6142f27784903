"""What every API takes as a body and as a time."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from api.http import DEEPEST, decoded, moment
from domain.errors import Invalid


def nested(levels: int) -> bytes:
    return b'{"a":[' * (levels // 2) + b"[" * (levels % 2) + b"]" * (levels % 2) + b"]}" * (levels // 2)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"nonsense", b"[" * 1_000_000], ids=len)
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(Invalid, match="Malformed request body"):
        decoded(body)


def test_a_body_may_be_nested_so_deep_and_no_deeper() -> None:
    decoded(nested(DEEPEST))
    with pytest.raises(Invalid, match="nested more than"):
        decoded(nested(DEEPEST + 1))


def test_a_body_may_be_as_wide_as_it_likes() -> None:
    assert decoded(b"[" + b"[{}]," * 1000 + b"[]]")[999] == [{}]


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (rb'"\u0000"', "it"),
        (rb'{"server":{"name":"x","tags":["a","b\\\u0000"]}}', r"server\.tags\[1\]"),
        (rb'{"server":{"metadata":{"a\u0000b":"c"}}}', "server\\.metadata\\.a\ufffdb"),
        (rb'[{"op":"add","path":"/x","value":"\u0000"}]', r"\[0\]\.value"),
    ],
    ids=["text", "list", "name", "patch"],
)
def test_a_null_character_is_refused_by_its_place(body: bytes, place: str) -> None:
    with pytest.raises(Invalid, match=f"^Malformed request body: {place} holds a null character$"):
        decoded(body)


def test_what_only_looks_like_a_null_character_is_taken() -> None:
    assert decoded(rb'["\\u0000","\\\\u0000"]') == [r"\u0000", r"\\u0000"]


def test_times_are_in_utc() -> None:
    assert moment("2026-01-02T03:04:05+01:00") == datetime(2026, 1, 2, 2, 4, 5, tzinfo=UTC)
    assert moment("2026-01-02T03:04:05").tzinfo is UTC


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "soon"])
def test_a_time_outside_all_years_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"out of range|Invalid isoformat"):
        moment(text)
