"""Fields of a JSON body and numbers of a query: what is no number is refused, never an error of ours."""

from __future__ import annotations

import pytest

from api.shapes import MOST, number, whole
from domain.errors import Invalid


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("0", 0), ("7", 7), ("007", 7), ("9" * 18, 10**18 - 1), ("1" * 19, MOST), ("1" * 5000, MOST)),
        *(("", None), ("-1", None), ("1.0", None), (" 1", None), ("\u00b2", None), ("\u0663", None), ("1_0", None)),
    ],
)
def test_a_whole_number_is_written_in_digits(text: str, value: int | None) -> None:
    assert whole(text) == value


@pytest.mark.parametrize("given", ["--5", "-", "\u00b2", "1e3", "1" * 5000, True, 1.5, [1], 6, -6, "6", "-6"])
def test_what_is_no_number_of_the_range_is_refused(given: object) -> None:
    with pytest.raises(Invalid, match="size has to be"):
        number({"size": given}, "size", least=-5, most=5)


def test_a_number_may_be_written_as_text() -> None:
    assert [number({"size": given}, "size", least=-5) for given in ("5", 5, "-5", "05")] == [5, 5, -5, 5]
