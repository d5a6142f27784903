"""Consoles without a right to them: refused before anything is opened. (With a guest: see the end-to-end tests.)"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from api.compute.consoles import ConsoleGrant, seal
from tests.deployment import Deployment, running_api

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
            async with connect(f"{api.base_url.replace('http', 'ws', 1)}{path}{query}"):
                pass


async def test_a_server_without_a_host_has_no_console(api: Deployment) -> None:
    token = seal(api.data, ConsoleGrant(SERVER, "", "serial", "u", time.time() + 60))
    with pytest.raises(InvalidStatus):
        async with connect(f"{api.base_url.replace('http', 'ws', 1)}/console/serial?token={token}"):
            pass


async def test_the_page_says_how_to_see_a_screen(api: Deployment) -> None:
    async with api.client() as client:
        answer = await client.get("/console/vnc_auto.html")
    assert answer.status_code == 200 or "novnc" in answer.text
