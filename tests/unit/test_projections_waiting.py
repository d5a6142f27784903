"""Waiting for a position: woken at once, never for ever, never for somebody else's news."""

from __future__ import annotations

import asyncio

import pytest

from projections.database import name_of
from projections.waiting import Horizon, horizon, news, news_in


async def test_who_waits_is_woken_when_the_position_is_reached() -> None:
    place = Horizon()
    early, late = (asyncio.create_task(place.reached(position, 5)) for position in (3, 8))
    await asyncio.sleep(0)
    place.advance(5)
    assert await early
    assert not late.done()
    place.advance(8)
    assert await late
    assert await place.reached(8, 0)


async def test_waiting_ends_without_an_answer() -> None:
    place = Horizon()
    assert not await place.reached(1, 0.01)
    place.advance(1)
    assert place.position == 1


async def test_a_horizon_goes_back_only_when_it_begins_again() -> None:
    place = Horizon()
    place.advance(9)
    place.advance(4)
    assert place.position == 9
    place.restart(4)
    assert place.position == 4


async def test_many_who_gave_up_leave_nothing_behind() -> None:
    place = Horizon()
    await asyncio.gather(*(place.reached(10 + number, 0) for number in range(500)))
    assert len(place._waiting) <= 65


async def test_news_are_about_one_read_model(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.chdir(str(tmp_path))
    here = name_of("sqlite:///rm.db")
    assert here == name_of(f"sqlite:///{tmp_path}/rm.db")
    assert here != name_of("sqlite:///other.db")
    assert name_of("postgresql://u:secret@h/d") == name_of("postgresql+psycopg://u:changed@h/d")
    assert news_in(news(here, 7, "file"), here) == (7, "file")
    assert news_in(news("another", 7), here) is None
    assert news_in(b"nonsense", here) is None
    assert horizon(here) is horizon(here)
