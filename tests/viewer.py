"""A running `chronova up` with simulated hosts and a real Chromium, for tests of the history viewer."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

START_SECONDS = 120.0
WAIT_SECONDS = 60.0
ARGUMENTS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
# Slow enough that a person, or a test, sees an action while it runs.
CONFIG = """
[driver]
latency = { "*" = [0.1, 0.4], "reboot_soft" = 5.0, "snapshot" = 8.0 }
"""


@dataclass(frozen=True)
class Site:
    """A running system as its users reach it."""

    base_url: str
    clouds: dict[str, Any]

    def password(self, cloud: str) -> str:
        found: str = self.clouds[cloud]["auth"]["password"]
        return found

    def client(self, cloud: str) -> httpx.Client:
        """A client of the APIs, signed in."""
        auth = self.clouds[cloud]["auth"]
        user = {"name": auth["username"], "domain": {"id": "default"}, "password": auth["password"]}
        scope = {"project": {"name": auth["project_name"], "domain": {"id": "default"}}}
        body = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}}
        answer = httpx.post(f"{self.base_url}/identity/v3/auth/tokens", json=body, timeout=WAIT_SECONDS)
        assert answer.status_code == 201, answer.text
        headers = {"X-Auth-Token": answer.headers["x-subject-token"]}
        return httpx.Client(base_url=self.base_url, headers=headers, timeout=WAIT_SECONDS)

    def give(self, client: httpx.Client, command: str, server_id: str, *, wait: bool = True, **params: Any) -> None:
        body = {"type": command, "server_id": server_id, "params": params}
        answer = client.post("/v1/commands", json=body)
        assert answer.status_code == 202, answer.text
        if wait:
            self.settle(client, server_id)

    def create(self, client: httpx.Client, name: str, **params: Any) -> str:
        """A server of the smallest flavor, once it has come up (or failed to)."""
        wanted = {"name": name, "flavor": "m1.nano", "image": "tiny"} | params
        answer = client.post("/v1/commands", json={"type": "create", "params": wanted})
        assert answer.status_code == 202, answer.text
        server_id: str = answer.json()["server_id"]
        self.settle(client, server_id)
        return server_id

    def settle(self, client: httpx.Client, server_id: str) -> dict[str, Any]:
        def ended() -> dict[str, Any] | None:
            server: dict[str, Any] = client.get(f"/v1/servers/{server_id}").json()["server"]
            return server if server["operation"] is None else None

        settled: dict[str, Any] = until(ended, f"{server_id} has no operation")
        return settled

    def enter(self, page: Page, cloud: str = "chronova", path: str = "/ui/") -> None:
        """Open a page with a session that was made elsewhere."""
        with self.client(cloud) as client:
            token = client.headers["x-auth-token"]
        page.context.add_cookies([{"name": "chronova_token", "value": token, "url": self.base_url}])
        page.goto(f"{self.base_url}{path}")

    def sign_in(self, page: Page, cloud: str = "chronova", path: str = "/ui/") -> None:
        """Through the login page, as a person would."""
        page.goto(f"{self.base_url}{path}")
        page.get_by_label("Name").fill(self.clouds[cloud]["auth"]["username"])
        page.get_by_label("Password").fill(self.password(cloud))
        page.get_by_label("Project").fill(self.clouds[cloud]["auth"]["project_name"])
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("button", name="Sign out").wait_for()


def until(holds: Callable[[], Any], what: str) -> Any:
    """What `holds` returns as soon as it is true; fails after `WAIT_SECONDS`."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not (found := holds()):
        assert time.monotonic() < deadline, f"not within {WAIT_SECONDS} s: {what}"
        time.sleep(0.05)
    return found


@contextmanager
def running_site(directory: Path) -> Iterator[Site]:
    ready, config = directory / "ready.json", directory / "chronova.toml"
    config.write_text(CONFIG)
    command = (*(sys.executable, "-m", "cli.main", "up", "--data", directory / "data", "--listen", "127.0.0.1:0"),)
    options = (*("--hosts", "2", "--driver", "simulated", "--ready-file", ready, "--config", config),)
    with (directory / "up.log").open("wb") as log:
        process = subprocess.Popen([*command, *options], stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not ready.exists():
            assert process.poll() is None, (directory / "up.log").read_text()
            assert time.monotonic() < deadline, (directory / "up.log").read_text()
            time.sleep(0.1)
        told = json.loads(ready.read_text())
        yield Site(told["base_url"], yaml.safe_load(Path(told["clouds_yaml"]).read_text())["clouds"])
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(START_SECONDS)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("viewer")) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Closed with its module: while Playwright runs, asynchronous tests of the same process can not."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    expect.set_options(timeout=WAIT_SECONDS * 1000)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Makes pages, each in a fresh session. A page on which a script fails or the browser complains fails its test."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def make(**options: Any) -> Page:
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(WAIT_SECONDS * 1000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if refused(message.text) else None)
        return page

    yield make
    for context in contexts:
        context.close()
    assert not complaints


def refused(text: str) -> bool:
    return "Content Security Policy" in text or "Uncaught" in text


def keep(page: Page, name: str) -> None:
    """Leave a picture for people, where CHRONOVA_SCREENSHOTS names a directory."""
    directory = os.environ.get("CHRONOVA_SCREENSHOTS")
    if directory:
        page.screenshot(path=Path(directory) / f"{name}.png")
