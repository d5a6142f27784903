"""How the viewer looks: wide and narrow, light and dark, readable in all of them; the fleet and its filters."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.viewer import Site, keep

pytestmark = pytest.mark.browser

OpenPage = Callable[..., Page]

# Every piece of visible text against the ground it stands on, by the formula of WCAG 2.
LOW_CONTRAST = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255];
  };
  const light = (rgb) => rgb.slice(0, 3).map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const over = (top, under) => [0, 1, 2].map((i) => top[i] * top[3] + under[i] * (1 - top[3])).concat(1);
  const ground = (element) => {
    const layers = [];
    for (let one = element; one; one = one.parentElement) layers.push(rgba(getComputedStyle(one).backgroundColor));
    return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255, 1]);
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.checkVisibility() || element.closest('.sr, .skip, svg')) continue;
    const under = ground(element), text = over(rgba(getComputedStyle(element).color), under);
    const [a, b] = [light(text), light(under)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) found.push(`${ratio.toFixed(2)} ${element.className} ${walker.currentNode.data.trim()}`);
  }
  return found;
}"""

# What has to have a name for people who do not see it.
NAMELESS = """() => Array.from(document.querySelectorAll(
    'button, a[href], input:not([type=hidden]), select, svg[role=img], img'))
  .filter((one) => one.checkVisibility())
  .filter((one) => !(one.innerText?.trim() || one.getAttribute('aria-label') || one.getAttribute('alt')
    || one.closest('label')?.textContent?.trim() || one.querySelector?.('text')))
  .map((one) => one.outerHTML.slice(0, 120))"""


# The window, and the boxes that hold a table each.
TOO_WIDE = """() => [document.documentElement, ...document.querySelectorAll('#fleet, #actions, .state')]
  .filter((one) => one.scrollWidth > one.clientWidth)
  .map((one) => `${one.id || one.tagName} ${one.scrollWidth} > ${one.clientWidth}`)"""
UNFOLD = "() => document.querySelectorAll('main details, #more').forEach((one) => one.open = true)"


@pytest.fixture(scope="module")
def story(site: Site) -> Iterator[dict[str, str]]:
    """Servers in every colour."""
    with site.client("chronova") as demo:
        good = site.create(demo, "web-1")
        for command in ("stop", "start", "pause", "unpause"):
            site.give(demo, command, good)
        demo.post("/v1/commands", json={"type": "resume", "server_id": good})
        bad = site.create(demo, "web-2-fail-spawn")
        busy = site.create(demo, "web-3-hang-suspend")
        site.give(demo, "suspend", busy, wait=False)
        yield {"good": good, "bad": bad, "busy": busy, "long": site.create(demo, "W" * 255)}


def sizes(page: Page) -> tuple[int, int]:
    found: list[int] = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    return found[0], found[1]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 400])
def test_every_page_is_readable(
    site: Site, story: dict[str, str], open_page: OpenPage, scheme: str, width: int
) -> None:
    page = open_page(viewport={"width": width, "height": 1000}, color_scheme=scheme, reduced_motion="reduce")
    site.enter(page, "chronova-admin")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(14, 18, 23)"
    assert dark is (scheme == "dark")
    pages = {"fleet": "/ui/", "hosts": "/ui/hosts", "machine": f"/ui/machine?server={story['good']}"}
    pages |= {name: f"/ui/servers/{server_id}" for name, server_id in story.items()}
    for name, path in pages.items():
        page.goto(f"{site.base_url}{path}")
        page.wait_for_load_state("networkidle") if name == "machine" else page.wait_for_load_state("load")
        if name == "bad":
            page.locator(".actions details summary").first.click()
        keep(page, f"{name}-{scheme}-{width}")
        assert page.evaluate(LOW_CONTRAST) == [], name
        assert page.evaluate(NAMELESS) == [], name
        if name != "machine":
            whole, seen = sizes(page)
            assert whole <= seen, f"{name} is wider than the window"


def test_nothing_is_wider_than_its_box(site: Site, story: dict[str, str], open_page: OpenPage) -> None:
    page = open_page(reduced_motion="reduce")
    site.enter(page, "chronova-admin", path=f"/ui/servers/{story['long']}")
    moment = page.locator(".events a").last.get_attribute("href")
    paths = ["/ui/", "/ui/hosts", f"/ui/machine?server={story['long']}", f"/ui/nothing/{'W' * 255}", str(moment)]
    paths += [f"/ui/?name={'W' * 250}x", *(f"/ui/servers/{story[name]}" for name in ("long", "bad"))]
    for path in paths:
        page.goto(f"{site.base_url}{path}")
        page.evaluate(UNFOLD)
        for width in (1440, 1200, 800, 400):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate(TOO_WIDE) == [], f"{path} at {width}"


def test_the_fleet_filters_by_the_address(site: Site, story: dict[str, str], open_page: OpenPage) -> None:
    page = open_page()
    site.enter(page)
    page.get_by_placeholder("Name (regular expression)").fill("^web-")
    page.get_by_role("button", name="Filter").click()
    assert "name=%5Eweb-" in page.url
    expect(page.locator(".fleet tbody tr")).to_have_count(3)
    page.get_by_role("link", name="ERROR").click()
    expect(page.locator(".fleet tbody tr")).to_have_count(1)
    expect(page.locator(".fleet tbody")).to_contain_text("web-2-fail-spawn")
    expect(page).to_have_title("Servers: ^web-, ERROR · chronova")
    page.go_back()
    expect(page.locator(".fleet tbody tr")).to_have_count(3)
    page.go_back()
    expect(page.get_by_placeholder("Name (regular expression)")).to_have_value("")
    page.goto(f"{site.base_url}/ui/?name=nothing-is-called-so")
    expect(page.locator(".empty")).to_contain_text("No server fits name = nothing-is-called-so")
    page.get_by_role("link", name="Clear the filters").click()
    assert page.url == f"{site.base_url}/ui/"


def test_what_an_address_asks_for_in_vain_is_said_and_leads_on(
    site: Site, story: dict[str, str], open_page: OpenPage
) -> None:
    page = open_page()
    site.enter(page, path="/ui/?marker=x")
    expect(page.locator("main")).to_contain_text("No server has the id 'x'")
    page.get_by_role("link", name="Open the page afresh").click()
    expect(page).to_have_title("Servers · chronova")
    page.goto(f"{site.base_url}/ui/servers/{story['good']}?marker=req-nothing")
    expect(page.locator("main")).to_contain_text("req-nothing is no request of this server")
    page.get_by_role("link", name="Open the page afresh").click()
    expect(page).to_have_title("web-1 · chronova")
    page.goto(f"{site.base_url}/ui/?name=^W%2B$&marker={story['long']}")
    expect(page.locator(".empty")).to_contain_text("There are no older servers.")
    page.get_by_role("link", name="To the newest").click()
    expect(page.locator(".fleet tbody tr")).to_have_count(1)


def test_the_fleet_grows_too(site: Site, open_page: OpenPage) -> None:
    page = open_page()
    site.enter(page, path="/ui/?name=newcomer")
    expect(page.locator("#tail-word")).to_have_text("Live")
    with site.client("chronova") as demo:
        site.create(demo, "newcomer")
    expect(page.locator(".fleet tbody tr")).to_contain_text("ACTIVE")


def test_text_that_is_no_expression_stays_live_when_its_last_server_goes(site: Site, open_page: OpenPage) -> None:
    page = open_page()
    with site.client("chronova") as demo:
        server_id = site.create(demo, "odd[1")
        site.enter(page, path="/ui/?name=odd%5B1")
        expect(page.locator("#tail-word")).to_have_text("Live")
        expect(page.locator(".fleet tbody tr")).to_have_count(1)
        site.give(demo, "update", server_id, name="even")
    expect(page.locator(".empty")).to_contain_text("No server fits name = odd[1. 'name' is no regular expression: ")
    expect(page.locator("#tail-word")).to_have_text("Live")


def test_a_project_without_servers_says_how_to_begin(site: Site, open_page: OpenPage) -> None:
    page = open_page()
    site.enter(page, "chronova-other")
    expect(page.locator(".empty")).to_contain_text("openstack server create")


def test_the_pages_hold_no_inline_script_or_style(site: Site, story: dict[str, str]) -> None:
    with site.client("chronova") as demo:
        cookies = {"chronova_token": demo.headers["x-auth-token"]}
    with httpx.Client(base_url=site.base_url, cookies=cookies, timeout=60) as client:
        for path in ("/ui/", "/ui/hosts", "/ui/machine", f"/ui/servers/{story['bad']}"):
            text = client.get(path).text
            assert "<style" not in text
            assert " style=" not in text
            assert "<script>" not in text
            assert "onclick" not in text
