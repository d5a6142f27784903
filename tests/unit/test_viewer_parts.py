"""The pure parts of the viewer: words, lanes, the picture of the machine, forms."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.ui import words
from api.ui.buttons import buttons, params_of
from api.ui.diagram import PLACES, diagram
from api.ui.lanes import LABEL, WIDTH, timeline
from api.ui.page import local_path
from domain.errors import Invalid
from domain.machine import MACHINE
from domain.states import VM_STATES
from projections.rows import ActionRow
from tests.unit.test_api_v1_reasons import NOW, action

SECONDS = st.floats(min_value=0, max_value=1e8, allow_nan=False)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.34, "340 ms"),
        (0.9996, "1.0 s"),
        (1.24, "1.2 s"),
        (42.4, "42 s"),
        (59.8, "1 min"),
        (125, "2 min 5 s"),
        (7200, "2 h"),
        (11_520, "3 h 12 min"),
        (180_000, "2 d 2 h"),
    ],
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert words.took(seconds) == text


@given(SECONDS)
def test_every_duration_has_words(seconds: float) -> None:
    assert words.took(seconds)
    assert words.ago(NOW - timedelta(seconds=min(seconds, 1e7)), NOW)


def test_times_show_their_offset() -> None:
    assert words.stamp(datetime(2026, 1, 31, 3, 12, tzinfo=UTC)) == "2026-01-31 03:12:00 +00:00"
    assert words.clock(datetime(2026, 1, 31, 3, 12, 5, 7000, tzinfo=UTC)) == "03:12:05.007"


def moved(offset: float, length: float | None) -> ActionRow:
    start = NOW + timedelta(seconds=offset)
    finish = None if length is None else start + timedelta(seconds=length)
    return msgspec.structs.replace(action("stop"), start_time=start, finish_time=finish)


@given(st.lists(st.tuples(SECONDS, st.floats(min_value=0, max_value=1e5)), min_size=1, max_size=15))
def test_every_bar_is_on_the_axis_and_in_order(times: list[tuple[float, float]]) -> None:
    ordered = sorted(times, reverse=True)
    found = timeline([moved(*one) for one in ordered], NOW + timedelta(seconds=2e8))
    assert found is not None
    shown = ordered[:12]
    for lane, (start, _) in zip(found.lanes, shown, strict=True):
        for bar in lane.bars:
            assert LABEL - 0.01 <= bar.x <= WIDTH
            assert bar.width > 0
        assert start >= 0
    for newer, older in pairwise(found.lanes):
        assert newer.bars[0].x >= older.bars[0].x - 0.01


def test_rest_between_work_is_cut_and_labelled() -> None:
    found = timeline([moved(7200, 2.0), moved(0, 1.0)], NOW + timedelta(hours=3))
    assert found is not None
    assert [one.text for one in found.breaks] == ["2 h idle"]
    newer, older = found.lanes
    assert older.bars[0].width > 100
    assert newer.bars[0].width > 100


def test_what_runs_reaches_now() -> None:
    found = timeline([moved(0, None)], NOW + timedelta(seconds=10))
    assert found is not None
    [bar] = found.lanes[0].bars
    assert bar.running
    assert bar.x + bar.width == pytest.approx(WIDTH - 16, abs=1)
    assert timeline([], NOW) is None


@pytest.mark.parametrize("here", VM_STATES)
def test_the_picture_shows_where_it_is_and_where_it_can_go(here: str) -> None:
    assert set(PLACES) == set(VM_STATES)
    legal = MACHINE.legal_commands(here, None)
    found = diagram(here, ["building", here], legal)
    assert [node.name for node in found.nodes if node.kind == "here"] == [here]
    written = {label[0] for edge in found.edges for label in edge.labels}
    assert written <= set(legal) | {"…"}
    assert not diagram(here, [], []).edges or all(edge.kind != "open" for edge in diagram(here, [], []).edges)


def test_the_usual_commands_come_first_and_the_dangerous_ask() -> None:
    made = buttons(MACHINE.legal_commands("active", None))
    assert [one.command for one in made.first] == ["stop", "reboot-soft", "pause"]
    delete = next(one for one in made.more if one.command == "delete")
    assert delete.danger
    assert not delete.at_once
    assert "lost" in next(one for one in made.more if one.command == "rebuild").warning
    assert {one.command for one in made.more}.isdisjoint({"metadata-set", "tags", "get-console-output"})


def test_a_form_becomes_parameters() -> None:
    assert params_of("lock", {"p.reason": " backup ", "p.other": "x"}) == {"reason": "backup"}
    assert params_of("stop", {"p.grace_seconds": "30"}) == {"grace_seconds": 30}
    assert params_of("update", {"p.name": "new", "p.description": ""}) == {"name": "new"}
    with pytest.raises(Invalid):
        params_of("stop", {"p.grace_seconds": "soon"})


@pytest.mark.parametrize(
    "text", ["//evil", "https://evil", "/ui/\\evil", "/v1", "", "/ui/login", "/ui/x\r\nSet-Cookie: a"]
)
def test_only_pages_of_the_viewer_are_gone_back_to(text: str) -> None:
    assert local_path(text) == "/ui/"


def test_a_page_of_the_viewer_is_gone_back_to() -> None:
    assert local_path("/ui/servers/1?marker=2") == "/ui/servers/1?marker=2"
