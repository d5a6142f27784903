"""A client as a careful program is one: what was not answered is asked again, commands under the key they had.

`give` and `create` answer once for each call; how often they had to ask for that is not the caller's business.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx

from tests.faults.deployment import Deployment, connection, credentials

PATIENCE_SECONDS = 120.0
PAUSE_SECONDS = 0.1
IMAGE, FLAVOR = "tiny", "m1.nano"


class Refused(AssertionError):
    """An answer that no repetition changes."""


class Client:
    def __init__(self, http: httpx.AsyncClient, deployment: Deployment) -> None:
        self.http = http
        self._deployment = deployment

    @classmethod
    @asynccontextmanager
    async def open(cls, deployment: Deployment, cloud: str = "chronova") -> AsyncIterator[Client]:
        async with connection(deployment) as http:
            client = cls(http, deployment)
            answer = await client.ask("POST", "/identity/v3/auth/tokens", credentials(deployment, cloud))
            http.headers["X-Auth-Token"] = answer.headers["X-Subject-Token"]
            http.headers["X-OpenStack-Nova-API-Version"] = "2.96"
            yield client

    async def once(self, method: str, path: str, body: Any = None, key: str | None = None) -> httpx.Response | None:
        """One request; none if it was not answered, or only that it could not be done now."""
        headers = {"Idempotency-Key": key} if key else {}
        try:
            answer = await self.http.request(method, path, json=body, headers=headers)
        except httpx.TransportError:
            return None
        assert answer.status_code != 500, answer.text
        return None if answer.status_code == 503 else answer

    async def ask(self, method: str, path: str, body: Any = None, key: str | None = None) -> httpx.Response:
        """A request, until it is answered. Raises Refused."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (answer := await self.once(method, path, body, key)) is None:
                await asyncio.sleep(PAUSE_SECONDS)
        if answer.status_code >= 400:
            raise Refused(f"{method} {path} {body}: {answer.status_code} {answer.text}")
        return answer

    async def get(self, path: str) -> Any:
        return (await self.ask("GET", path)).json()

    async def give(self, command: str, server_id: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """A command that is accepted; the answer."""
        body = {"type": command, "server_id": server_id, "params": params or {}}
        answer: dict[str, Any] = (await self.ask("POST", "/v1/commands", body, str(uuid4()))).json()
        return answer

    async def create(self, name: str) -> str:
        """A server whose creation is accepted; its id."""
        body = {"type": "create", "params": {"name": name, "flavor": FLAVOR, "image": IMAGE}}
        answer = (await self.ask("POST", "/v1/commands", body, str(uuid4()))).json()
        return str(answer["server_id"])

    async def shows(self, path: str) -> Any:
        """What is at a path that the log has already: on a busy machine the API's read model may be behind."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (answer := await self.once("GET", path)) is None or answer.status_code == 404:
                await asyncio.sleep(PAUSE_SECONDS)
        if answer.status_code >= 400:
            raise Refused(f"GET {path}: {answer.status_code} {answer.text}")
        return answer.json()

    async def volume(self, name: str) -> str:
        """A volume that can be attached; its id. What was not answered may leave one more, which nobody uses."""
        body = {"volume": {"name": name, "size": 1}}
        volume_id = (await self.ask("POST", "/volume/v3/volumes", body)).json()["volume"]["id"]
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await self.shows(f"/volume/v3/volumes/{volume_id}"))["volume"]["status"] != "available":
                await asyncio.sleep(PAUSE_SECONDS)
        return str(volume_id)

    async def lift_quotas(self) -> None:
        """Room for many servers in the project of the user (an administrator's request)."""
        projects = (await self.get("/identity/v3/projects?name=demo"))["projects"]
        unlimited = {"instances": -1, "cores": -1, "ram": -1}
        await self.ask("PUT", f"/compute/v2.1/os-quota-sets/{projects[0]['id']}", {"quota_set": unlimited})
        await self.ask("PUT", f"/network/v2.0/quotas/{projects[0]['id']}", {"quota": {"port": -1}})
