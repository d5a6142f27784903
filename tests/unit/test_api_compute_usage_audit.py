"""The month that an audit of usage is of."""

from __future__ import annotations

from datetime import datetime

import pytest

from api.compute.usage_audit import last_month


@pytest.mark.parametrize(
    ("before", "beginning", "ending"),
    [
        ("2026-03-31 05:00:00", "2026-02-01 00:00:00", "2026-03-01 00:00:00"),
        ("2026-01-01 00:00:01", "2025-12-01 00:00:00", "2026-01-01 00:00:00"),
        ("2026-01-01 00:00:00", "2025-11-01 00:00:00", "2025-12-01 00:00:00"),
        ("0001-03-05 00:00:00", "0001-02-01 00:00:00", "0001-03-01 00:00:00"),
    ],
)
def test_it_is_the_newest_that_was_over(before: str, beginning: str, ending: str) -> None:
    assert last_month(datetime.fromisoformat(before)) == (beginning, ending)
