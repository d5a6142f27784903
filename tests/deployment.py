"""The API with everything that is no server, for tests: NATS, read model, the first start's content, no hosts.

`running_api` listens on a free port exactly as `chronova api` does, lifespan included.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn
import yaml

from api.app import build_app
from api.auth import Tokens, load_keys
from api.bootstrap import bootstrap
from api.services import ApiSettings, Services
from commands.handler import Commands
from commands.hosts import HostWatch
from commands.settings import CommandSettings
from commands.streams import ensure_streams
from eventlog.log import EventLog
from eventlog.nats_server import EmbeddedNats
from projections.projector import Projector
from projections.read_model import ReadModel
from tests.http_server import HttpServer

WAIT_SECONDS = 60.0
KEEP_SECONDS = 600  # a connection that waits for its client's next request is not closed under it


@dataclass
class Deployment:
    data: Path
    services: Services
    base_url: str
    nats: EmbeddedNats
    projecting: AsyncExitStack  # closed: the read model stays as it is

    def password(self, user: str) -> str:
        found: str = json.loads((self.data / "passwords.json").read_text())[user]
        return found

    def clouds(self) -> dict[str, Any]:
        found: dict[str, Any] = yaml.safe_load((self.data / "clouds.yaml").read_text())["clouds"]
        return found

    def client(self, token: str = "") -> httpx.AsyncClient:
        headers = {"X-Auth-Token": token} if token else {}
        return httpx.AsyncClient(base_url=self.base_url, headers=headers, timeout=WAIT_SECONDS)

    async def sign_in(self, user: str, project: str | None = None, **auth: Any) -> httpx.Response:
        """The answer to a password sign-in, scoped to the user's own project unless `auth` says another scope."""
        own = "demo" if user == "reader" else user
        body: dict[str, Any] = {
            "identity": {
                "methods": ["password"],
                "password": {"user": {"name": user, "domain": {"id": "default"}, "password": self.password(user)}},
            },
            "scope": {"project": {"name": project or own, "domain": {"id": "default"}}},
        }
        async with self.client() as client:
            return await client.post("/identity/v3/auth/tokens", json={"auth": body | auth})

    @asynccontextmanager
    async def signed_in(self, user: str) -> AsyncIterator[httpx.AsyncClient]:
        answer = await self.sign_in(user)
        assert answer.status_code == 201, answer.text
        async with self.client(answer.headers["x-subject-token"]) as client:
            yield client


@asynccontextmanager
async def running_api(data: Path, **settings: Any) -> AsyncIterator[Deployment]:
    """An API process's worth of chronova in `data`. Opened again on the same directory it finds what it left."""
    async with AsyncExitStack() as stack:
        nats = stack.enter_context(EmbeddedNats.start(data / "nats", sync_interval=None))
        log = await EventLog.open(nats.url)
        stack.push_async_callback(log.close)
        await ensure_streams(log.js)
        database = f"sqlite:///{data / 'read.db'}"
        projecting = await stack.enter_async_context(AsyncExitStack())
        projecting.push_async_callback((await Projector.start(log, database)).stop)
        read = await ReadModel.open(database)
        stack.push_async_callback(read.close)
        watch = HostWatch(log, 30.0)
        await watch.start()
        stack.push_async_callback(watch.stop)
        given = ApiSettings(data, access_log=False, **settings)
        told = CommandSettings(images_dir=given.images_dir, volumes_dir=given.volumes_dir)

        async def visible(position: int) -> None:
            await read.shown(position, WAIT_SECONDS)

        commands = Commands(log, visible=visible, settings=told, hosts=watch)
        tokens = Tokens(load_keys(data), read, recheck=given.token_recheck_seconds)
        services = Services(commands=commands, read=read, log=log, tokens=tokens, settings=given)
        # What was left undone is found in the read model: `chronova api` has waited for all of it before it serves.
        assert await read.wait_for(await log.last_position(), WAIT_SECONDS)
        base_url = await stack.enter_async_context(_serving(services))
        await bootstrap(commands, read, data, base_url=base_url, tiny_image=None)
        yield Deployment(data, services, base_url, nats, projecting)


@asynccontextmanager
async def _serving(services: Services) -> AsyncIterator[str]:
    config = uvicorn.Config(
        build_app(services),
        port=0,
        log_level="error",
        lifespan="on",
        timeout_graceful_shutdown=1,
        timeout_keep_alive=KEEP_SECONDS,
    )
    server = HttpServer(config)
    task = asyncio.create_task(server.serve())
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            while not server.started:
                await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        async with asyncio.timeout(WAIT_SECONDS):
            await task
