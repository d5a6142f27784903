"""Consoles of a real guest in a real browser: a line is typed, and the guest is seen to answer it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect

from tests.life import MARKS, Guest, World, wait_until
from tests.viewer import keep

pytestmark = [*MARKS, pytest.mark.browser]

OpenPage = Callable[..., Page]
PASSWORD = "open-sesame"
WAIT_MS = 60_000
KEY_MS = 60


@pytest.fixture(scope="module")
def guest(world: World) -> Iterator[Guest]:
    guest = world.create("console", admin_password=PASSWORD)
    guest.settles("ACTIVE")
    guest.boots()
    yield guest
    guest.delete()


def url(world: World, kind: str) -> str:
    """The address that the real client shows; of a serial console, as of Nova's, that of the WebSocket."""
    shown = world.client("console", "url", "show", f"--{kind}", "console", "-f", "value", "-c", "url").strip()
    return shown.replace("ws://", "http://", 1)


def write(page: Page, line: str) -> None:
    """Type as fast as a person: of the keys of a screen, a guest that does not get on loses what is more than a few."""
    page.keyboard.type(f"{line}\n", delay=KEY_MS)


def log_in(page: Page, shows: Callable[[str], None]) -> None:
    """Type name and password, each when the guest asks for it."""
    shows("login:")
    write(page, "root")
    shows("Password:")
    write(page, PASSWORD)
    shows("~ #")


def test_a_line_on_the_serial_console_is_answered(world: World, guest: Guest, open_page: OpenPage) -> None:
    page = open_page()
    address = url(world, "serial")
    page.goto(address)
    rows = page.locator(".xterm-rows")

    def shows(text: str) -> None:
        expect(rows).to_contain_text(text, timeout=WAIT_MS)

    expect(page.locator("#state-word")).to_have_text("Connected", timeout=WAIT_MS)
    expect(page).to_have_title("Serial console of console · chronova")
    log_in(page, shows)
    page.keyboard.type("echo sum=$((40+2))\n")
    shows("sum=42")
    keep(page, "console-serial")
    token = address.partition("token=")[2]
    assert all(token not in log.read_text() for log in (world.data / "logs").iterdir())

    again = open_page()
    again.goto(address)
    expect(again.locator("#closed")).to_contain_text("was used already", timeout=WAIT_MS)
    expect(page.locator("#state-word")).to_have_text("Connected", timeout=WAIT_MS)

    newer = open_page()
    newer.goto(url(world, "serial"))
    expect(newer.locator("#state-word")).to_have_text("Connected", timeout=WAIT_MS)
    expect(page.locator("#closed")).to_contain_text("opened elsewhere", timeout=WAIT_MS)
    expect(newer.locator(".xterm-rows")).to_contain_text("sum=42", timeout=WAIT_MS)
    newer.keyboard.type("exit\n")
    expect(newer.locator(".xterm-rows")).to_contain_text("login:", timeout=WAIT_MS)


def test_what_is_typed_on_the_screen_is_answered_there(world: World, guest: Guest, open_page: OpenPage) -> None:
    page = open_page(viewport={"width": 1200, "height": 900})
    page.goto(url(world, "novnc"))
    page.locator("#console[data-connected]").wait_for(timeout=WAIT_MS)
    canvas = page.locator("#console canvas")

    def shows(text: str) -> None:
        """Of the guest's first terminal, as its own kernel has it on the screen."""
        wait_until(lambda: text in guest.run("cat /dev/vcs1"), f"the screen shows {text!r}")

    before = canvas.screenshot()
    log_in(page, shows)
    write(page, "touch /run/typed")
    wait_until(lambda: guest.run("ls /run/typed; true"), "the shell on the screen did what was typed")
    wait_until(lambda: canvas.screenshot() != before, "other pixels")
    keep(page, "console-screen")
    page.keyboard.type("exit\n")


def test_consoles_from_the_viewer_and_their_end(world: World, guest: Guest, open_page: OpenPage) -> None:
    base = world.system.ready["base_url"]
    page = open_page()
    page.goto(f"{base}/ui/servers/{guest.id}")
    auth = world.cloud.config.get_auth_args()
    page.get_by_label("Name").fill(auth["username"])
    page.get_by_label("Password").fill(auth["password"])
    page.get_by_role("button", name="Sign in").click()
    with page.context.expect_page() as opened:
        page.get_by_role("button", name="Screen").click()
    screen = opened.value
    screen.locator("#console[data-connected]").wait_for(timeout=WAIT_MS)
    assert urlsplit(screen.url).path == "/console/vnc_auto.html"

    guest.do("stop_server", "SHUTOFF")
    expect(screen.locator("#closed")).to_contain_text("was switched off", timeout=WAIT_MS)
    refused = world.client("console", "url", "show", "--novnc", "console", refused=True)
    assert "Instance not yet ready" in refused
    assert "start the server first" in refused
    screen.get_by_role("button", name="Open a new console").click()
    expect(screen.get_by_role("alert")).to_contain_text("Instance not yet ready")
    expect(screen.get_by_role("button", name="Screen")).to_have_count(0)
    assert "No Server found" in world.client("console", "url", "show", guest.id, cloud="chronova-other", refused=True)
