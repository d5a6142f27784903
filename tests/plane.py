"""A whole control plane in one event loop, for tests of the API: nats-server, log, read model, conductor, agents.

Only the hypervisor is simulated. `running_plane` gives it two projects with a user each, an administrator, flavors, an
image and a network, and listens on a free port with the API's own middleware in front.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import NAMESPACE_OID, uuid4, uuid5

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount

from api import errors
from api.auth import Tokens, assignment_id, load_keys
from api.identity.passwords import hash_now
from api.middleware import Authentication, BodyLimit, RequestContext
from api.services import ApiSettings, Services
from commands.context import SERVICE, CommandContext
from commands.duty import Duty
from commands.handler import Commands
from commands.hosts import HostWatch
from commands.settings import CommandSettings
from commands.streams import ensure_streams
from eventlog.log import EventLog
from eventlog.nats_server import EmbeddedNats
from hypervisor_agent.link import NatsAccess
from hypervisor_agent.process import AgentSettings, serve
from projections.projector import Projector
from projections.read_model import ReadModel
from tests.http_server import HttpServer

PASSWORD = "correct horse battery staple"
WAIT_SECONDS = 60.0
KEEP_SECONDS = 600  # a connection that waits for its client's next request is not closed under it
USERS = {"admin": ("admin",), "demo": ("member",), "other": ("member",)}


@dataclass
class Plane:
    """The running parts. `ids` names what was set up: projects, users, `image`, `network`."""

    services: Services
    app: Starlette
    base_url: str = ""
    ids: dict[str, str] = field(default_factory=dict)

    async def token(self, name: str, project: str | None = None) -> str:
        async with self.client() as client:
            body = {
                "auth": {
                    "identity": {
                        "methods": ["password"],
                        "password": {"user": {"name": name, "domain": {"id": "default"}, "password": PASSWORD}},
                    },
                    "scope": {"project": {"name": project or name, "domain": {"id": "default"}}},
                }
            }
            answer = await client.post("/identity/v3/auth/tokens", json=body)
            assert answer.status_code == 201, answer.text
            return answer.headers["x-subject-token"]

    def client(self, token: str = "", **options: Any) -> httpx.AsyncClient:
        headers = {"X-Auth-Token": token} if token else {}
        return httpx.AsyncClient(base_url=self.base_url, headers=headers, timeout=WAIT_SECONDS, **options)

    @asynccontextmanager
    async def signed_in(self, name: str, project: str | None = None) -> AsyncIterator[httpx.AsyncClient]:
        async with self.client(await self.token(name, project)) as client:
            yield client

    async def create(self, client: httpx.AsyncClient, name: str, **params: Any) -> str:
        """A server of the smallest flavor, once it has come up (or failed to)."""
        wanted = {"name": name, "flavor": "m1.nano", "image": "tiny"} | params
        answer = await client.post("/v1/commands", json={"type": "create", "params": wanted})
        assert answer.status_code == 202, answer.text
        server_id: str = answer.json()["server_id"]
        await self.settled(server_id)
        return server_id

    async def settled(self, server_id: str) -> Any:
        """The server once nothing is in progress on it."""
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                server = await self.services.read.server(server_id)
                if server is not None and server.operation is None:
                    return server
                await asyncio.sleep(0.02)


@asynccontextmanager
async def running_plane(data: Path, mounts: dict[str, ModuleType], **driver_options: Any) -> AsyncIterator[Plane]:
    """A plane that serves these APIs: `{"v1": api.v1, ...}`."""
    async with contextlib.AsyncExitStack() as stack:
        nats = stack.enter_context(EmbeddedNats.start(data / "nats", sync_interval=None))
        log = await EventLog.open(nats.url)
        stack.push_async_callback(log.close)
        await ensure_streams(log.js)
        database = f"sqlite:///{data / 'read.db'}"
        projector = await Projector.start(log, database)
        stack.push_async_callback(projector.stop)
        read = await ReadModel.open(database)
        stack.push_async_callback(read.close)
        (data / "images").mkdir(exist_ok=True)
        settings = CommandSettings(
            images_dir=data / "images", volumes_dir=data / "volumes", grace_seconds=1, host_down_after=WAIT_SECONDS
        )
        watch = HostWatch(log, settings.host_down_after)
        await watch.start()
        stack.push_async_callback(watch.stop)

        async def visible(position: int) -> None:
            await read.shown(position, WAIT_SECONDS)

        commands = Commands(log, visible=visible, settings=settings, hosts=watch)
        duty = Duty(log, commands, read, settings, watch, me="this test", is_gone=lambda _: False)
        stack.push_async_callback(duty.stop)
        await stack.enter_async_context(_agents(nats.url, data / "agents", driver_options))
        tokens = Tokens(load_keys(data), read)
        services = Services(commands, read, log, tokens, ApiSettings(data, access_log=False))
        plane = Plane(services, _app(services, mounts))
        await _set_up(plane, data)
        await stack.enter_async_context(_serving(plane))
        yield plane


@asynccontextmanager
async def _agents(url: str, data: Path, options: dict[str, Any]) -> AsyncIterator[None]:
    stop = asyncio.Event()
    settings = AgentSettings(("host-1", "host-2"), "simulated", data, NatsAccess([url], "agents"), options)
    task = asyncio.create_task(serve(settings, stop))
    try:
        yield
    finally:
        stop.set()
        async with asyncio.timeout(WAIT_SECONDS):
            await task


def _app(services: Services, mounts: dict[str, ModuleType]) -> Starlette:
    app = Starlette(
        routes=[Mount(f"/{name}", routes=module.routes(services)) for name, module in mounts.items()],
        middleware=[
            Middleware(RequestContext, services=services),
            Middleware(BodyLimit, services=services),
            Middleware(Authentication, services=services),
        ],
        exception_handlers=dict.fromkeys(errors.HANDLED, errors.handle),
    )
    app.state.services = services
    app.router.redirect_slashes = False
    return app


@asynccontextmanager
async def _serving(plane: Plane) -> AsyncIterator[None]:
    config = uvicorn.Config(
        plane.app,
        port=0,
        log_level="error",
        lifespan="off",
        timeout_graceful_shutdown=1,
        timeout_keep_alive=KEEP_SECONDS,
    )
    server = HttpServer(config)
    task = asyncio.create_task(server.serve())
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            while not server.started:
                await asyncio.sleep(0.01)
        plane.base_url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        yield
    finally:
        server.should_exit = True
        async with asyncio.timeout(WAIT_SECONDS):
            await task


async def _set_up(plane: Plane, data: Path) -> None:
    commands, ids = plane.services.commands, plane.ids
    context = CommandContext(SERVICE, f"req-{uuid4()}")
    hashed = hash_now(PASSWORD)
    for role in ("admin", "member", "reader"):
        ids[role] = (await commands.create("role", {"name": role}, context)).id
    for name, roles in USERS.items():
        project = await commands.create("project", {"name": name}, context)
        user = await commands.create(
            "user", {"name": name, "password_hash": hashed, "default_project_id": project.id}, context
        )
        fields = {"user_id": user.id, "project_id": project.id, "roles": tuple(ids[role] for role in roles)}
        await commands.create("assignment", fields, context, id=assignment_id(user.id, "project", project.id))
        ids[f"project {name}"], ids[f"user {name}"] = project.id, user.id
    reader = await commands.create("user", {"name": "reader", "password_hash": hashed}, context)
    target = ids["project demo"]
    fields = {"user_id": reader.id, "project_id": target, "roles": (ids["reader"],)}
    await commands.create("assignment", fields, context, id=assignment_id(reader.id, "project", target))
    sizes = {"m1.nano": (1, 96, 1), "m1.small": (1, 512, 5), "m1.huge": (9_000_000, 1 << 20, 10)}
    for number, (name, (vcpus, ram, disk)) in enumerate(sizes.items(), 1):
        size = {"name": name, "flavor_id": str(number), "vcpus": vcpus, "ram": ram, "disk": disk}
        await commands.create("flavor", size, context)
    ids["image"] = str(uuid5(NAMESPACE_OID, "image tiny"))
    (data / "images" / ids["image"]).write_bytes(b"a very small disk")
    image = {"name": "tiny", "status": "active", "visibility": "public", "disk_format": "qcow2", "size": 17}
    await commands.create("image", image | {"container_format": "bare"}, context, id=ids["image"])
    network = await commands.create("network", {"name": "private", "shared": True}, context)
    await commands.create("subnet", {"name": "private", "network_id": network.id, "cidr": "10.1.0.0/16"}, context)
    ids["network"] = network.id
    async with asyncio.timeout(WAIT_SECONDS):
        while len(await plane.services.read.hosts()) < 2:
            await asyncio.sleep(0.05)
