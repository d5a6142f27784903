"""A chronova to replay recorded answers against: all real but the hypervisor, one event loop, HTTP on a free port.

The parts of `tests.system` with the compute API in front, and the five actors of the recording: `admin` in a project of
its own, `demo`, `manager` and `reader` in one, `other` in a third. What a replay needs beside HTTP is to freeze and to
lose a part: `frozen` stops the conductor, `hosts_down` the agents.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import NAMESPACE_OID, uuid5

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount

from api import compute, errors
from api.auth import Claims, Tokens, assignment_id, load_keys, password_stamp
from api.middleware import Authentication, BodyLimit, RequestContext
from api.services import ApiSettings, Services
from domain.resources import User
from eventlog.nats_server import EmbeddedNats
from tests.http_server import HttpServer
from tests.system import ADMIN, System, context

HOSTS = ("host1", "host2", "host3")
WAIT_SECONDS = 60.0
KEEP_SECONDS = 600  # a connection that waits for the next cell is not closed under its client
ACTORS = {
    "admin": ("admin", "admin"),
    "demo": ("demo", "member"),
    "manager": ("demo", "manager"),
    "reader": ("demo", "reader"),
    "other": ("other", "member"),
}
# Names as recorded: id, vCPUs, RAM in MiB, disk in GiB.
FLAVORS = {"m1.tiny": ("1", 1, 512, 1), "m1.small": ("2", 1, 2048, 20), "huge": ("huge", 1, 100_000_000, 1)}
CAPACITY = {"vcpus": 1000, "memory_mb": 800_000, "disk_gb": 600_000}  # of a host, as recorded
IMAGES = ("image", "image2")


@dataclass
class Deployment:
    """`ids`: projects, users, images and the network by name. `clients`: one per actor, signed in."""

    system: System
    services: Services
    base_url: str = ""
    ids: dict[str, str] = field(default_factory=dict)
    clients: dict[str, httpx.AsyncClient] = field(default_factory=dict)

    @contextmanager
    def set_to(self, *, soft_delete: bool, keep_on_host: bool) -> Iterator[None]:
        """How the deployment deletes and shelves in here. Those who use it at once have to want the same."""
        commands = self.system.commands
        before = commands.settings
        commands.settings = dataclasses.replace(
            before,
            reclaim_seconds=86400.0 if soft_delete else 0.0,
            shelved_offload_seconds=-1.0 if keep_on_host else 0.0,
        )
        try:
            yield
        finally:
            commands.settings = before

    @asynccontextmanager
    async def frozen(self) -> AsyncIterator[None]:
        """Nothing that is accepted goes on in here."""
        await self.system.stop_conductor()
        try:
            yield
        finally:
            await self.system.start_conductor()

    async def hosts_down(self) -> None:
        await self.system.hosts_fall_silent()


@asynccontextmanager
async def running(directory: Path) -> AsyncIterator[Deployment]:
    with EmbeddedNats.start(directory / "nats", sync_interval=None) as nats:
        async with System.open(nats, directory, driver_options={"capacity": CAPACITY}, hosts=HOSTS) as system:
            tokens = Tokens(load_keys(directory), system.read)
            settings = ApiSettings(directory, access_log=False)
            services = Services(system.commands, system.read, system.log, tokens, settings)
            deployment = Deployment(system, services)
            deployment.ids["network"] = system.network_id
            await _flavors_and_images(deployment, directory)
            async with _serving(deployment):
                await _sign_in(deployment, tokens)
                try:
                    yield deployment
                finally:
                    for client in deployment.clients.values():
                        await client.aclose()


async def _flavors_and_images(deployment: Deployment, directory: Path) -> None:
    commands, admin = deployment.system.commands, context(ADMIN)
    for name, (flavor_id, vcpus, ram, disk) in FLAVORS.items():
        fields = {"name": name, "flavor_id": flavor_id, "vcpus": vcpus, "ram": ram, "disk": disk}
        await commands.create("flavor", fields, admin)
    for name in IMAGES:
        id_ = deployment.ids[name] = str(uuid5(NAMESPACE_OID, name))
        (directory / "images" / id_).write_bytes(b"a very small disk")
        fields = {"name": name, "status": "active", "visibility": "public", "disk_format": "qcow2", "size": 17}
        await commands.create("image", fields | {"container_format": "bare"}, admin, id=id_)


async def _sign_in(deployment: Deployment, tokens: Tokens) -> None:
    """The actors, and a token for each as the identity API would issue it."""
    commands, admin, ids = deployment.system.commands, context(ADMIN), deployment.ids
    for actor, (project, role) in ACTORS.items():
        for kind, name in (("project", project), ("role", role)):
            key = f"{kind} {name}"
            if key not in ids:
                ids[key] = uuid5(NAMESPACE_OID, key).hex
                await commands.create(kind, {"name": name}, admin, id=ids[key])
        user = await commands.create("user", {"name": actor}, admin, id=uuid5(NAMESPACE_OID, f"user {actor}").hex)
        assert isinstance(user, User)
        target = ids[f"project {project}"]
        held = {"user_id": user.id, "project_id": target, "roles": [ids[f"role {role}"]]}
        await commands.create("assignment", held, admin, id=assignment_id(user.id, "project", target))
        now = time.time()
        claims = Claims(
            user_id=user.id,
            issued_at=now,
            expires_at=now + 3600,
            methods=("password",),
            audit_id=actor,
            stamp=password_stamp(user),
            scope="project",
            target_id=target,
        )
        headers = {"X-Auth-Token": tokens.issue(claims)}
        deployment.clients[actor] = httpx.AsyncClient(
            base_url=deployment.base_url, headers=headers, timeout=WAIT_SECONDS
        )
        ids[f"user {actor}"] = user.id


def _app(services: Services) -> Starlette:
    app = Starlette(
        routes=[Mount("/compute", routes=compute.routes(services))],
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
async def _serving(deployment: Deployment) -> AsyncIterator[None]:
    config = uvicorn.Config(
        _app(deployment.services), port=0, log_level="error", lifespan="off", ws="none", timeout_keep_alive=KEEP_SECONDS
    )
    server = HttpServer(config)
    task = asyncio.create_task(server.serve())
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            while not server.started:
                await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        deployment.base_url = f"http://127.0.0.1:{port}"
        yield
    finally:
        server.should_exit = True
        async with asyncio.timeout(WAIT_SECONDS):
            await task
