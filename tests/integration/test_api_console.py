"""Consoles without a right to them: refused before anything is opened. (With a guest: see the end-to-end tests.)"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from api.console.grants import ConsoleGrant, seal
from tests.deployment import WAIT_SECONDS, Deployment, running_api

pytestmark = pytest.mark.asyncio(loop_scope="module")
SERVER = "6d9bd9b2-1b0f-4a32-9b63-6f2b0a2d9f11"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    async with running_api(tmp_path_factory.mktemp("console")) as running:
        yield running


@pytest.mark.parametrize("path", ["/console/serial", "/console/vnc", "/"])
async def test_no_token_an_old_one_or_another_kind_of_token_opens_nothing(api: Deployment, path: str) -> None:
    old = seal(api.data, ConsoleGrant(SERVER, "host-1", "serial", "u", time.time() - 1))
    sign_in = (await api.sign_in("demo")).headers["x-subject-token"]
    for query in ("", "?token=", "?token=nonsense", f"?token={old}", f"?token={sign_in}"):
        with pytest.raises(InvalidStatus):
            async with connect(f"{api.base_url.replace('http', 'ws', 1)}{path}{query}", open_timeout=WAIT_SECONDS):
                pass


async def test_a_server_without_a_host_has_no_console(api: Deployment) -> None:
    token = seal(api.data, ConsoleGrant(SERVER, "", "serial", "u", time.time() + 60))
    address = f"{api.base_url.replace('http', 'ws', 1)}/console/serial?token={token}"
    async with connect(address, open_timeout=WAIT_SECONDS) as socket:
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4409
    assert "is not ready" in closed.value.rcvd.reason


@pytest.mark.parametrize(("path", "kind"), [("vnc_auto.html?path=%3Ftoken%3D", "novnc"), ("serial?token=", "serial")])
async def test_a_page_whose_token_is_no_good_says_so(api: Deployment, path: str, kind: str) -> None:
    old = seal(api.data, ConsoleGrant(SERVER, "host-1", kind, "u", time.time() - 1))
    async with api.client() as client:
        expired = await client.get(f"/console/{path}{old}")
        other = await client.get(f"/console/{path}nonsense")
    assert (expired.status_code, other.status_code) == (401, 401)
    assert "has expired" in expired.text
    assert f"/ui/servers/{SERVER}" in expired.text
    assert "is no address of a console" in other.text
    assert "<script" not in expired.text + other.text


async def test_the_pages_load_what_the_project_ships(api: Deployment) -> None:
    token = seal(api.data, ConsoleGrant(SERVER, "host-1", "serial", "u", time.time() + 60))
    async with api.client() as client:
        page = await client.get(f"/console/serial?token={token}")
        policy = page.headers["content-security-policy"]
        assert policy.startswith("default-src 'self';")
        assert "unsafe" not in policy
        for path in ("static/screen.js", "static/serial.js", "vendor/novnc/core/rfb.js", "vendor/xterm/xterm.mjs"):
            part = await client.get(f"/console/{path}")
            assert part.status_code == 200
            assert "javascript" in part.headers["content-type"]
