"""A page that grows keeps the place of who reads it: what is looked at, focused and open, and the time that passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest
from playwright.sync_api import Page, Route, expect

from api.ui.words import took
from tests.viewer import Site, keep

pytestmark = pytest.mark.browser

OpenPage = Callable[..., Page]
ROW = ".actions tbody[data-row]"
MOST_TABS = 60
ROUNDING = 4  # a window scrolls by whole pixels; a row is some sixty high
# Past the upper half of the only row that is shown; how far the window was scrolled for that.
SCROLL_INTO_THE_ROW = """() => {
  const { top, height } = document.querySelector('[data-row]').getBoundingClientRect();
  scrollBy(0, top + height / 2);
  return scrollY;
}"""
DURATIONS = (0.0, 0.34, 0.9996, 1.24, 42.4, 59.8, 60.0, 125.4, 3599.7, 7200.0, 11_520.0, 86_400.0, 180_000.0)
# How high the row with the focus is, and how many rows there are, in one look.
PLACE = """() => {
  const row = document.activeElement.closest('[data-row]');
  return [row?.id, row?.getBoundingClientRect().top, document.querySelectorAll('[data-row]').length];
}"""


@pytest.fixture(scope="module")
def demo(site: Site) -> Iterator[httpx.Client]:
    with site.client("chronova") as client:
        yield client


def test_new_rows_push_nothing_away(site: Site, demo: httpx.Client, open_page: OpenPage) -> None:
    server_id = site.create(demo, "long-read")
    for number in range(8):
        site.give(demo, "update", server_id, name=f"long-read-{number}")
    page = open_page(viewport={"width": 1280, "height": 500})
    site.enter(page, path=f"/ui/servers/{server_id}")
    expect(page.locator("#tail-word")).to_have_text("Live")
    fifth = page.locator(ROW).nth(4)
    fifth.locator("summary").first.focus()
    fifth.evaluate("row => scrollBy(0, row.getBoundingClientRect().top - 250)")
    row, top, _ = page.evaluate(PLACE)
    site.give(demo, "update", server_id, name="renamed")
    expect(page).to_have_title("renamed · chronova")
    now, where, count = page.evaluate(PLACE)
    assert (now, count) == (row, 10)
    assert abs(where - top) < ROUNDING


def test_a_button_that_became_another_has_no_focus(site: Site, demo: httpx.Client, open_page: OpenPage) -> None:
    server_id = site.create(demo, "finger")
    page = open_page()
    site.enter(page, path=f"/ui/servers/{server_id}")
    expect(page.locator("#tail-word")).to_have_text("Live")
    page.get_by_role("button", name="Stop", exact=True).focus()
    site.give(demo, "stop", server_id)
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="Start", exact=True)).not_to_be_focused()
    page.locator("#more > summary").click()
    site.give(demo, "lock", server_id, reason="tonight")
    expect(page.locator(ROW)).to_have_count(3)
    page.keyboard.press("Escape")
    expect(page.locator("#head")).to_contain_text("locked: tonight")
    expect(page.locator("#more > summary")).to_be_focused()


def test_tab_leads_to_the_timeline_which_says_what_it_shows(
    site: Site, demo: httpx.Client, open_page: OpenPage
) -> None:
    server_id = site.create(demo, "tabbed")
    page = open_page()
    site.enter(page, path=f"/ui/servers/{server_id}")
    lane = page.locator("#timeline").get_by_role("link", name="Create a server: Succeeded, ")
    expect(lane.get_by_role("img", name="Spawn on host-")).to_have_count(1)
    reached: list[str] = []
    while "lane" not in reached:
        assert len(reached) < MOST_TABS, reached
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.getAttribute('class')"))
    assert {"tail", "keys"} < set(reached)
    keep(page, "server-tabbed")
    page.keyboard.press("Enter")
    expect(page.locator(".steps")).to_be_visible()
    page.get_by_role("button", name="Running", exact=True).click()
    expect(page.locator("#none-shown")).to_contain_text("No action on this page fits.")
    page.get_by_role("button", name="Show all").click()
    expect(page.locator(ROW)).to_be_visible()


def test_a_filter_stays_when_an_event_comes_and_hides_what_ended(
    site: Site, demo: httpx.Client, open_page: OpenPage
) -> None:
    server_id = site.create(demo, "filtered")
    page = open_page(viewport={"width": 1280, "height": 500})
    site.enter(page, path=f"/ui/servers/{server_id}")
    expect(page.locator("#tail-word")).to_have_text("Live")
    # As the row stood while it ran: the page that comes with the next event knows that it ended.
    page.locator(ROW).evaluate("row => row.setAttribute('data-running', '')")
    page.get_by_role("button", name="Running", exact=True).click()
    place = page.evaluate(SCROLL_INTO_THE_ROW)
    site.give(demo, "lock", server_id)
    expect(page.locator(ROW)).to_have_count(2)
    expect(page.locator(f"{ROW}[hidden]")).to_have_count(2)
    expect(page.locator(".chip.chosen")).to_have_text("Running")
    expect(page.locator("#none-shown")).to_be_visible()
    assert abs(page.evaluate("scrollY") - place) < ROUNDING


def test_a_broken_line_catches_up_without_a_reload(site: Site, demo: httpx.Client, open_page: OpenPage) -> None:
    server_id = site.create(demo, "broken")
    page = open_page()
    site.enter(page, path=f"/ui/servers/{server_id}")
    expect(page.locator("#tail-word")).to_have_text("Live")
    page.evaluate("() => { window.stayed = true; window.dispatchEvent(new Event('pagehide')); }")
    broken: list[str] = []

    def cut(route: Route) -> None:
        broken.append(route.request.url)
        route.abort()

    page.route("**/v1/events/stream*", cut, times=1)
    site.give(demo, "lock", server_id)
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.locator(ROW)).to_have_count(2)
    assert len(broken) == 1
    assert page.evaluate("window.stayed") is True


def test_what_runs_grows_beyond_the_axis_it_began_on(site: Site, demo: httpx.Client, open_page: OpenPage) -> None:
    server_id = site.create(demo, "outgrown-hang-suspend")
    page = open_page()
    site.enter(page, path=f"/ui/servers/{server_id}")
    expect(page.locator("#tail-word")).to_have_text("Live")
    site.give(demo, "suspend", server_id, wait=False)
    page.wait_for_function("() => document.querySelector('.bar.running')?.getAttribute('width') > 300")


def test_the_clock_is_the_servers_and_durations_read_alike(site: Site, demo: httpx.Client, open_page: OpenPage) -> None:
    server_id = site.create(demo, "ahead")
    page = open_page()
    page.add_init_script("{ const real = Date.now; Date.now = () => real() + 7_200_000; }")
    site.enter(page, path=f"/ui/servers/{server_id}")
    expect(page.locator("#tail-word")).to_have_text("Live")
    assert "h ago" not in page.locator("#head").inner_text()
    script = "async (all) => { const { took } = await import('/ui/static/clocks.js'); return all.map(took); }"
    assert page.evaluate(script, DURATIONS) == [took(seconds) for seconds in DURATIONS]
