"""One server in the viewer: its history, live, in words, by keyboard, and without scripts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest
from playwright.sync_api import Page, Route, expect

from tests.viewer import Site, keep, until

pytestmark = pytest.mark.browser

OpenPage = Callable[..., Page]
ROW = ".actions tbody[data-row]"
# One look, for all of it is there for seconds only: state, banner, and the width of the one bar that grows.
WIDTH_WHILE_IT_REBOOTS = """() => {
  const bars = document.querySelectorAll('.timeline .bar.running');
  const shown = document.querySelector('#head .pill')?.textContent.trim() === 'REBOOT'
    && document.querySelector('#head .banner')?.textContent.includes('Reboot (soft)');
  return shown && bars.length === 1 && (bars[0].getAttribute('width') ?? '0');
}"""
# Closes the menu, and waits twice as long as a live page would wait with its refresh.
PAGES_ASKED_FOR_AFTER_THE_MENU = """() => new Promise((done) => {
  const [menu, ask] = [document.getElementById('more'), window.fetch];
  let asked = 0;
  window.fetch = (...given) => { asked += 1; return ask(...given); };
  const told = () => { window.fetch = ask; done(asked); };
  const closed = () => menu.open || setTimeout(told, 2 * Number(document.body.dataset.refresh));
  menu.addEventListener('toggle', closed);
  menu.open = false;
})"""


@pytest.fixture(scope="module")
def demo(site: Site) -> Iterator[httpx.Client]:
    with site.client("chronova") as client:
        yield client


def rows(page: Page) -> list[str]:
    return [text.strip() for text in page.locator(".actions tbody .act").all_inner_texts()]


def test_the_page_grows_while_one_looks(site: Site, demo: httpx.Client, open_page: OpenPage) -> None:
    server_id = site.create(demo, "live")
    page = open_page()
    site.enter(page, path=f"/ui/servers/{server_id}")
    expect(page.locator("#tail-word")).to_have_text("Live")
    assert rows(page) == ["Create a server"]
    page.evaluate("window.stayed = true")
    page.locator(".actions details summary").first.click()
    site.give(demo, "reboot-soft", server_id, wait=False)
    first = float(page.wait_for_function(WIDTH_WHILE_IT_REBOOTS).json_value())
    page.wait_for_function(
        "before => { const bar = document.querySelector('.timeline .bar.running');"
        " return !bar || Number(bar.getAttribute('width')) > before }",
        arg=first,
    )
    keep(page, "server-live")
    expect(page.locator("#head .pill")).to_have_text("ACTIVE")
    expect(page.locator(ROW).first).to_contain_text("Succeeded")
    assert rows(page) == ["Reboot (soft)", "Create a server"]
    assert page.evaluate("window.stayed") is True
    assert page.locator(".actions tbody:has-text('Create a server') details").first.get_attribute("open") is not None


def test_a_long_step_shows_how_far_it_is(site: Site, demo: httpx.Client, open_page: OpenPage) -> None:
    server_id = site.create(demo, "copied")
    page = open_page()
    site.enter(page, path=f"/ui/servers/{server_id}")
    expect(page.locator("#tail-word")).to_have_text("Live")
    site.give(demo, "create-image", server_id, wait=False, name="still")
    page.wait_for_function("() => document.querySelector('#head progress')?.value > 10")
    path = f"/compute/v2.1/servers/{server_id}"
    until(lambda: demo.get(path).json()["server"]["progress"] >= 40, "the API tells that it is at 40 %")
    page.wait_for_function("() => document.querySelector('.steps progress')?.value >= 40")
    keep(page, "server-progress")
    expect(page.locator(ROW).first).to_contain_text("Succeeded")
    expect(page.locator("progress")).to_have_count(0)


def test_a_burst_of_events_ends_with_everything_shown(site: Site, demo: httpx.Client, open_page: OpenPage) -> None:
    server_id = site.create(demo, "burst")
    page = open_page()
    site.enter(page, path=f"/ui/servers/{server_id}")
    expect(page.locator("#tail-word")).to_have_text("Live")
    for number in range(12):
        site.give(demo, "update", server_id, wait=False, name=f"burst-{number}")
    expect(page.locator(ROW)).to_have_count(13)
    expect(page.get_by_role("heading", level=1)).to_have_text("burst-11")


def test_held_it_counts_and_followed_it_catches_up(site: Site, demo: httpx.Client, open_page: OpenPage) -> None:
    server_id = site.create(demo, "held")
    page = open_page()
    site.enter(page, path=f"/ui/servers/{server_id}")
    expect(page.locator("#tail-word")).to_have_text("Live")
    page.keyboard.press(".")
    site.give(demo, "lock", server_id, reason="tonight")
    expect(page.locator("#tail-word")).to_contain_text("2 new events")
    assert rows(page) == ["Create a server"]
    page.keyboard.press(".")
    expect(page.locator(ROW)).to_have_count(2)
    expect(page.locator("#head")).to_contain_text("locked: tonight")


def test_held_it_stays_as_it_is_when_the_menu_closes(site: Site, demo: httpx.Client, open_page: OpenPage) -> None:
    server_id = site.create(demo, "held-menu")
    page = open_page()
    site.enter(page, path=f"/ui/servers/{server_id}")
    expect(page.locator("#tail-word")).to_have_text("Live")
    page.keyboard.press(".")
    site.give(demo, "lock", server_id, reason="tonight")
    expect(page.locator("#tail-word")).to_have_text("Held, 2 new events")
    page.locator("#more > summary").click()
    assert page.evaluate(PAGES_ASKED_FOR_AFTER_THE_MENU) == 0
    assert rows(page) == ["Create a server"]
    page.locator("#more > summary").click()
    page.keyboard.press(".")
    expect(page.locator(ROW)).to_have_count(2)
    page.keyboard.press(".")
    page.keyboard.press("Escape")
    expect(page.locator("#tail-word")).to_have_text("Held")
    page.keyboard.press(".")
    expect(page.locator("#head")).to_contain_text("locked: tonight")


def test_a_line_cut_in_the_middle_of_a_commit_loses_none_of_its_events(
    site: Site, demo: httpx.Client, open_page: OpenPage
) -> None:
    server_id = site.create(demo, "interrupted")
    page = open_page()
    site.enter(page, path=f"/ui/servers/{server_id}")
    expect(page.locator("#tail-word")).to_have_text("Live")
    page.keyboard.press(".")
    page.evaluate("window.dispatchEvent(new Event('pagehide'))")

    def cut(route: Route) -> None:
        told = ""
        with demo.stream("GET", route.request.url) as stream:
            for line in stream.iter_lines():
                told += f"{line}\n" if line.startswith(("id: ", "data: ")) else ""
                if line.startswith("data: "):
                    break
        route.fulfill(content_type="text/event-stream", body=f"{told}\n")

    page.route("**/v1/events/stream*", cut, times=1)
    site.give(demo, "lock", server_id)
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.locator("#tail-word")).to_have_text("Held, 2 new events")


def test_a_button_gives_the_command(site: Site, demo: httpx.Client, open_page: OpenPage) -> None:
    server_id = site.create(demo, "pressed")
    page = open_page()
    site.enter(page, path=f"/ui/servers/{server_id}")
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.locator("#head .pill")).to_have_text("SHUTOFF")
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_visible()
    page.locator("#more > summary").click()
    keep(page, "server-menu")
    page.locator("#ask-delete > summary").click()
    expect(page.locator("#ask-delete")).to_contain_text("The history stays")
    page.locator("#ask-resize > summary").click()
    page.locator("#ask-resize input[name='p.flavor']").fill("no-such-flavor")
    page.locator("#ask-resize button").click()
    expect(page.get_by_role("alert")).to_contain_text("There is no flavor 'no-such-flavor'")
    assert rows(page)[0] == "Stop"


def test_a_command_that_came_too_late_says_why(site: Site, demo: httpx.Client, open_page: OpenPage) -> None:
    server_id = site.create(demo, "late")
    page = open_page(java_script_enabled=False)
    site.enter(page, path=f"/ui/servers/{server_id}")
    site.give(demo, "stop", server_id)
    with page.expect_response(lambda answer: answer.request.method == "POST") as answer:
        page.get_by_role("button", name="Pause", exact=True).click()
    assert answer.value.status == 409
    expect(page.get_by_role("alert")).to_contain_text(f"Cannot 'pause' instance {server_id}")
    expect(page.locator("#head .pill")).to_have_text("SHUTOFF")


def test_it_works_without_scripts(site: Site, demo: httpx.Client, open_page: OpenPage) -> None:
    server_id = site.create(demo, "plain")
    page = open_page(java_script_enabled=False)
    site.enter(page, path=f"/ui/servers/{server_id}")
    page.get_by_role("button", name="Stop", exact=True).click()
    site.settle(demo, server_id)
    page.reload()
    expect(page.locator("#head .pill")).to_have_text("SHUTOFF")
    assert rows(page) == ["Stop", "Create a server"]
    page.locator(".actions details summary").first.click()
    expect(page.locator(".steps").first).to_contain_text("Power off")
    expect(page.locator(".events").first).to_contain_text("succeeded")


def test_error_is_explained_with_evidence(site: Site, demo: httpx.Client, open_page: OpenPage) -> None:
    with site.client("chronova-admin") as admin:
        flavor = {"name": "far-too-big", "vcpus": 9_000_000, "ram": 1 << 20, "disk": 1}
        assert admin.post("/compute/v2.1/flavors", json={"flavor": flavor}).status_code == 200
        server_id = site.create(admin, "too-big", flavor="far-too-big")
    page = open_page()
    site.enter(page, "chronova-admin", path=f"/ui/servers/{server_id}")
    expect(page.locator("#head .pill")).to_have_text("ERROR")
    panel = page.locator("#explain-panel")
    expect(panel).to_contain_text("No valid host was found")
    expect(panel.locator(".evidence")).to_contain_text("host-1")
    expect(panel.locator(".evidence")).to_contain_text("host-2")
    expect(panel.locator(".advice").first).to_contain_text("smaller flavor")
    keep(page, "server-error")


def test_failures_are_a_key_away(site: Site, demo: httpx.Client, open_page: OpenPage) -> None:
    server_id = site.create(demo, "keys-fail-pause")
    site.give(demo, "pause", server_id)
    site.give(demo, "lock", server_id)
    page = open_page()
    site.enter(page, path=f"/ui/servers/{server_id}")
    page.keyboard.press("j")
    expect(page.locator(".actions tbody.chosen")).to_contain_text("Lock")
    page.keyboard.press("f")
    chosen = page.locator(".actions tbody.chosen")
    expect(chosen).to_contain_text("Pause")
    expect(chosen.locator(".steps")).to_be_visible()
    page.keyboard.press("Enter")
    expect(chosen.locator(".steps")).to_be_hidden()
    page.keyboard.press("G")
    expect(page.locator(".actions tbody.chosen")).to_contain_text("Create a server")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Failed and undone").click()
    expect(page.locator(f"{ROW}:not([hidden])")).to_have_count(1)


def test_a_moment_shows_what_changed_then(site: Site, demo: httpx.Client, open_page: OpenPage) -> None:
    server_id = site.create(demo, "past")
    site.give(demo, "update", server_id, name="renamed")
    page = open_page()
    site.enter(page, path=f"/ui/servers/{server_id}")
    page.locator(".actions details summary").first.click()
    page.locator(".events a").first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("renamed at position")
    expect(page.locator("tr", has_text="name").first).to_contain_text("past")
    page.keyboard.press("[")
    expect(page.locator("main")).to_contain_text("server.create.succeeded")
    keep(page, "moment")
    answer = page.goto(f"{site.base_url}/ui/servers/{server_id}/at/1")
    assert answer is not None
    assert answer.status == 404


def test_a_reader_sees_everything_and_presses_nothing(site: Site, demo: httpx.Client, open_page: OpenPage) -> None:
    server_id = site.create(demo, "read-only")
    page = open_page()
    site.enter(page, "chronova-reader", path=f"/ui/servers/{server_id}")
    assert rows(page) == ["Create a server"]
    expect(page.locator(".commands")).to_have_text("No command is open to you now.")
