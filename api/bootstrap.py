"""What a new deployment holds before its first request, and the clouds.yaml that people sign in with.

Every id is derived from a name, so a start that was killed half-way is completed by the next one, and nothing that an
admin has since changed or deleted comes back. Passwords are drawn once and kept in DATA/passwords.json (0600); removing
a user's line from it gives the user a new one at the next start. DATA/clouds.yaml (0600) is written at every start,
because the port may have changed.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import secrets
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from uuid import NAMESPACE_URL, uuid4, uuid5

import yaml

from api.auth import SYSTEM, assignment_id
from api.identity.access import DEFAULT_DOMAIN, ROLE_NAMES
from api.identity.passwords import hash_now
from api.image.header import virtual_size_of
from api.network.cidr import default_pools, network_of
from api.private_subnet import RANGES, free_range, hold
from commands.context import SERVICE, CommandContext
from domain.errors import Conflict
from domain.resources import Subnet, System

if TYPE_CHECKING:
    from commands.handler import Commands
    from projections.read_model import ReadModel

PROJECTS = ("admin", "demo", "other")
# user, project, role there
USERS = (
    ("admin", "admin", "admin"),
    ("demo", "demo", "member"),
    ("reader", "demo", "reader"),
    ("other", "other", "member"),
    ("service", "admin", "service"),
)
CLOUDS = {"chronova-admin": "admin", "chronova": "demo", "chronova-reader": "reader", "chronova-other": "other"}
# id that users see, name, vCPUs, RAM in MiB, disk in GiB
FLAVORS = (
    ("42", "m1.nano", 1, 96, 1),
    ("1", "m1.tiny", 1, 512, 1),
    ("2", "m1.small", 1, 2048, 20),
    ("3", "m1.medium", 2, 4096, 40),
    ("4", "m1.large", 4, 8192, 80),
)
NETWORK, SUBNET = "private", "private-subnet"
IMAGE = "tiny"


def hex_id(kind: str, name: str) -> str:
    """The id of a built-in user, project or role."""
    return uuid5(NAMESPACE_URL, f"chronova:{kind}:{name}").hex


def uuid_id(kind: str, name: str) -> str:
    """The id of a built-in flavor or image, and of the system's own record."""
    return str(uuid5(NAMESPACE_URL, f"chronova:{kind}:{name}"))


async def bootstrap(
    commands: Commands,
    read: ReadModel,
    data_dir: Path,
    *,
    base_url: str,
    tiny_image: Path | None,
    region: str = "RegionOne",
    bridged: bool = False,
) -> None:
    """Create what is missing and write clouds.yaml. Returns once the read model shows all of it.

    `bridged`: the hosts make bridges on this machine, so the range of the first network has to be free on it.
    """
    first = _FirstStart(commands)
    passwords = await asyncio.to_thread(_passwords, data_dir / "passwords.json")
    await first.identity(passwords)
    await first.flavors()
    await first.network(bridged=bridged)
    if tiny_image is not None:
        await first.image(tiny_image)
    await read.wait_for(await commands.log.last_position(), timeout=30.0)
    await asyncio.to_thread(_write_clouds, data_dir / "clouds.yaml", base_url, region, passwords)


class _FirstStart:
    def __init__(self, commands: Commands) -> None:
        self._commands = commands
        self._context = CommandContext(SERVICE, f"req-{uuid4()}")

    async def _ensure(self, kind: str, id_: str, fields: dict[str, Any]) -> bool:
        """Create a resource unless it exists, or existed: what was deleted stays deleted. Whether it was created."""
        if await self._commands.log.last(kind, id_) is not None:
            return False
        try:
            await self._commands.create(kind, fields, self._context, id=id_, verb="bootstrap", visible=False)
        except Conflict:  # another process starts at the same time
            return False
        return True

    async def identity(self, passwords: _Passwords) -> None:
        for role in ROLE_NAMES:
            await self._ensure("role", hex_id("role", role), {"name": role, "description": f"Built-in role {role}"})
        for project in PROJECTS:
            fields = {"name": project, "description": f"Project {project}", "domain_id": DEFAULT_DOMAIN}
            await self._ensure("project", hex_id("project", project), fields)
        for user, project, role in USERS:
            await self._user(user, project, passwords)
            await self._assign(user, role, "project", hex_id("project", project))
        await self._assign("admin", "admin", "system", SYSTEM)
        await self._assign("admin", "admin", "domain", DEFAULT_DOMAIN)

    async def _user(self, name: str, project: str, passwords: _Passwords) -> None:
        id_, drawn = hex_id("user", name), name in passwords.drawn_now
        fields = {"name": name, "domain_id": DEFAULT_DOMAIN, "default_project_id": hex_id("project", project)}
        known = await self._commands.load("user", id_)
        if known is None or drawn:
            hashed = await asyncio.to_thread(hash_now, passwords.of[name])
            if not await self._ensure("user", id_, fields | {"password_hash": hashed}) and known is not None:
                changes = {"password_hash": hashed}
                await self._commands.update("user", id_, changes, self._context, verb="reset-password", visible=False)

    async def _assign(self, user: str, role: str, scope: str, target: str) -> None:
        user_id = hex_id("user", user)
        fields = {
            "user_id": user_id,
            "scope": scope,
            "project_id": target if scope == "project" else None,
            "roles": [hex_id("role", role)],
        }
        await self._ensure("assignment", assignment_id(user_id, scope, target), fields)

    async def flavors(self) -> None:
        for flavor_id, name, vcpus, ram, disk in FLAVORS:
            fields = {"flavor_id": flavor_id, "name": name, "vcpus": vcpus, "ram": ram, "disk": disk}
            await self._ensure("flavor", uuid_id("flavor", flavor_id), fields)

    async def _own(self, kind: str, name: str) -> str:
        """The id of a built-in network or subnet. It differs from system to system, as bridges are named after it.

        A system that began before it had an identity keeps the id that was the same in all.
        """
        shared = uuid_id(kind, name)
        if await self._commands.log.last(kind, shared) is not None:
            return shared
        system = uuid_id("system", "identity")
        await self._ensure("system", system, {"name": "identity", "identity": uuid4().hex})
        known = cast(System, await self._commands.load("system", system))
        return str(uuid5(NAMESPACE_URL, f"chronova:{known.identity}:{kind}:{name}"))

    async def network(self, *, bridged: bool) -> None:
        project_id = hex_id("project", "admin")
        network_id = await self._own("network", NETWORK)
        about = "Every project may use it"
        fields = {"name": NETWORK, "project_id": project_id, "shared": True, "is_default": True, "description": about}
        await self._ensure("network", network_id, fields)
        subnet_id = await self._own("subnet", SUBNET)
        if await self._commands.log.last("subnet", subnet_id) is not None:
            known = await self._commands.load("subnet", subnet_id)
            if bridged and isinstance(known, Subnet):
                await asyncio.to_thread(hold, known.cidr)
            return
        cidr = network_of(await asyncio.to_thread(free_range) if bridged else RANGES[0], 4)
        gateway = str(cidr[1])
        fields = {
            "name": SUBNET,
            "project_id": project_id,
            "network_id": network_id,
            "cidr": str(cidr),
            "gateway_ip": gateway,
            "allocation_pools": default_pools(cidr, gateway),
        }
        await self._ensure("subnet", subnet_id, fields)

    async def image(self, source: Path) -> None:
        """The built-in image: its file first, then the image, so that an active image always has its data."""
        id_ = uuid_id("image", IMAGE)
        known = await self._commands.log.last("image", id_)
        if known is not None and await self._commands.load("image", id_) is None:
            return  # it was deleted
        target = self._commands.settings.images_dir / id_
        stored = await asyncio.to_thread(_copied, source, target)
        fields = {
            "name": IMAGE,
            "project_id": hex_id("project", "admin"),
            "status": "active",
            "visibility": "public",
            "disk_format": "qcow2",
            "container_format": "bare",
            "os_hash_algo": "sha512",
            "properties": {"os_type": "linux", "os_admin_user": "root"},
            **stored,
        }
        if not await self._ensure("image", id_, fields):

            def check(state: Any) -> dict[str, Any] | None:
                return stored if state.checksum != stored["checksum"] else None

            await self._commands.update("image", id_, {}, self._context, verb="refresh", check=check, visible=False)


class _Passwords:
    """User name to password, and which of them were drawn by this start."""

    def __init__(self, of: dict[str, str], drawn_now: frozenset[str]) -> None:
        self.of = of
        self.drawn_now = drawn_now


def _passwords(path: Path) -> _Passwords:
    """The passwords kept, with fresh ones for users that have none; on disk before they are used."""
    kept: dict[str, str] = {}
    with suppress(FileNotFoundError):
        kept = json.loads(path.read_bytes())
    fresh = {user: secrets.token_urlsafe(18) for user, _, _ in USERS if not kept.get(user)}
    if fresh:
        _write(path, json.dumps(kept | fresh, indent=2).encode() + b"\n")
    return _Passwords(kept | fresh, frozenset(fresh))


def _copied(source: Path, target: Path) -> dict[str, Any]:
    """Bring the image file to its place, if it is not there as it is, and measure it."""
    data = source.read_bytes()
    if not target.is_file() or target.stat().st_size != len(data) or target.read_bytes() != data:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        shutil.copyfile(source, part)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(target)
    return {
        "size": len(data),
        "virtual_size": virtual_size_of(target, "qcow2"),
        "checksum": hashlib.md5(data, usedforsecurity=False).hexdigest(),
        "os_hash_value": hashlib.sha512(data).hexdigest(),
    }


def _write_clouds(path: Path, base_url: str, region: str, passwords: _Passwords) -> None:
    projects = {user: project for user, project, _ in USERS}
    clouds = {
        cloud: {
            "auth": {
                "auth_url": f"{base_url}/identity/v3",
                "username": user,
                "password": passwords.of[user],
                "project_name": projects[user],
                "user_domain_id": DEFAULT_DOMAIN,
                "project_domain_id": DEFAULT_DOMAIN,
            },
            "region_name": region,
            "interface": "public",
            "identity_api_version": 3,
        }
        for cloud, user in CLOUDS.items()
    }
    _write(path, yaml.safe_dump({"clouds": clouds}, sort_keys=False).encode())


def _write(path: Path, data: bytes) -> None:
    """Replace a file that only its owner reads; whole at any instant."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
