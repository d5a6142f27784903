"""Signing in to the viewer, and what stays closed: to strangers, to other projects, to other sites."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.viewer import Site, keep

pytestmark = pytest.mark.browser

OpenPage = Callable[..., Page]


def test_the_login_page_comes_first_and_leads_back(site: Site, open_page: OpenPage) -> None:
    page = open_page()
    page.goto(f"{site.base_url}/ui/hosts")
    assert "/ui/login?next=" in page.url
    keep(page, "login")
    site.sign_in(page, path="/ui/hosts")
    assert page.url == f"{site.base_url}/ui/hosts"
    [cookie] = [one for one in page.context.cookies() if one["name"] == "chronova_token"]
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Strict"
    assert page.evaluate("document.cookie") == ""


def test_a_wrong_password_says_so_and_keeps_the_name(site: Site, open_page: OpenPage) -> None:
    page = open_page()
    page.goto(f"{site.base_url}/ui/")
    page.get_by_label("Name").fill("demo")
    page.get_by_label("Password").fill("wrong")
    with page.expect_response(lambda answer: answer.request.method == "POST") as answer:
        page.get_by_role("button", name="Sign in").click()
    assert answer.value.status == 401
    expect(page.get_by_role("alert")).to_contain_text("Signing in failed")
    expect(page.get_by_label("Name")).to_have_value("demo")
    expect(page.get_by_label("Password")).to_have_value("")
    assert not page.context.cookies()
    keep(page, "login-wrong")


def test_another_projects_server_is_not_found(site: Site, open_page: OpenPage) -> None:
    with site.client("chronova") as demo:
        server_id = site.create(demo, "not-yours")
    page = open_page()
    site.sign_in(page, "chronova-other")
    expect(page.get_by_text("not-yours")).to_have_count(0)
    for missing in (server_id, str(uuid4())):
        answer = page.goto(f"{site.base_url}/ui/servers/{missing}")
        assert answer is not None
        assert answer.status == 404
        expect(page.get_by_role("main")).to_contain_text(f"Instance {missing} could not be found.")
    keep(page, "not-found")


def test_signing_out_closes_the_door(site: Site, open_page: OpenPage) -> None:
    page = open_page()
    site.sign_in(page)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.goto(f"{site.base_url}/ui/")
    assert "/ui/login" in page.url


def test_a_session_that_ends_while_one_looks_leads_to_the_login_page(site: Site, open_page: OpenPage) -> None:
    with site.client("chronova") as demo:
        server_id = site.create(demo, "watched")
        page = open_page()
        site.enter(page, path=f"/ui/servers/{server_id}")
        expect(page.locator("#tail-word")).to_have_text("Live")
        [cookie] = [one for one in page.context.cookies() if one["name"] == "chronova_token"]
        revoked = demo.delete("/identity/v3/auth/tokens", headers={"X-Subject-Token": cookie["value"]})
        assert revoked.status_code == 204
        site.give(demo, "lock", server_id)
    page.wait_for_url(f"**/ui/login?next=*{server_id}")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_a_form_from_elsewhere_is_refused(site: Site) -> None:
    demo = {"name": "demo", "password": site.password("chronova"), "project": "demo"}
    with httpx.Client(base_url=site.base_url, timeout=60) as client:
        foreign = client.post("/ui/login", data=demo, headers={"Origin": "http://evil.example"})
        assert foreign.status_code == 403
        assert client.post("/ui/login", data=demo).status_code == 303
        with site.client("chronova") as api:
            server_id = site.create(api, "guarded")
        path, stop = f"/ui/servers/{server_id}/commands", {"type": "stop"}
        assert client.post(path, data=stop).status_code == 403
        assert client.post(path, data=stop | {"csrf": "0" * 32}).status_code == 403
        assert client.post(path, data=stop, headers={"Origin": "http://evil.example"}).status_code == 403
        page = client.get("/ui/")
        assert page.status_code == 200
        policy = page.headers["content-security-policy"]
        assert policy.startswith("default-src 'self'")
        assert "unsafe" not in policy


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example", "/\\evil.example", "/v1/servers"])
def test_signing_in_leads_nowhere_else(site: Site, target: str) -> None:
    demo = {"name": "demo", "password": site.password("chronova"), "project": ""}
    with httpx.Client(base_url=site.base_url, timeout=60) as client:
        answer = client.post("/ui/login", params={"next": target}, data=demo)
        assert (answer.status_code, answer.headers["location"]) == (303, "/ui/")
