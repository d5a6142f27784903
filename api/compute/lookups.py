"""Finding what a path or body names, with Nova's refusals where it does not exist or is not the caller's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast
from uuid import NAMESPACE_URL, uuid5

from api.compute import faults
from api.compute.call import Call
from api.compute.policy import enforce
from api.compute.servers_view import View, view_of
from api.shapes import whole
from domain.errors import Invalid, NotFound
from domain.resources import Blob, Flavor, Host, Image, Resource
from domain.server import Server

FEW_HOSTS = 2  # so many are looked up one by one, more all at once


async def server_of(call: Call, server_id: str, rule: str | None = None, *, deleted: bool = False) -> Server:
    """The server, if the caller may see it; another project's does not exist. Then `rule` has to allow the rest."""
    server = await call.services.server(server_id)
    if (
        server is None
        or (server.deleted and not deleted)
        or not (call.is_admin or server.project_id == call.project_id)
    ):
        raise faults.no_such_server(server_id)
    if rule is not None:
        enforce(call, rule, server.project_id)
    return server


async def must_have_existed(call: Call, server_id: str) -> None:
    """For the few requests in which Nova has a sentence of its own for ids that no server ever had."""
    if await call.services.server(server_id) is None:
        raise faults.never_existed(server_id)


async def full_view(call: Call, servers: Iterable[Server]) -> View:
    """A view with everything that these servers need: host statuses and user data, for administrators only."""
    servers = list(servers)
    if not call.is_admin:
        return view_of(call)
    statuses = await _statuses(call, {server.host for server in servers if server.host}) if call.version >= 16 else {}
    texts: dict[str, str] = {}
    if call.version >= 3:
        for blob_id in {server.user_data_id for server in servers if server.user_data_id}:
            blob = await call.services.read.resource("blob", blob_id)
            if blob is not None:
                texts[blob_id] = cast("Blob", blob).text
    return view_of(call, statuses, texts)


async def _statuses(call: Call, names: set[str]) -> dict[str, str]:
    """Host name to UP, DOWN or MAINTENANCE, as servers show it."""
    if len(names) > FEW_HOSTS:
        hosts = [row.host for row in await call.services.read.hosts()]
    else:
        found = [await call.services.read.resource_by_name("host", name) for name in names]
        hosts = [cast("Host", host) for host in found if host is not None]
    return {host.name: _status(call, host) for host in hosts}


def _status(call: Call, host: Host) -> str:
    if host.forced_down or not call.services.commands.hosts.is_up(host.name):
        return "DOWN"
    return "MAINTENANCE" if host.disabled else "UP"


async def flavor_of(call: Call, flavor_id: str, *, message: str | None = None) -> Flavor:
    """A flavor that the caller may use, by the id users know."""
    read = call.services.read
    first = await read.resource("flavor", flavor_aggregate(flavor_id))
    if first is None or first.deleted:
        found = await read.resources("flavor", where={"flavor_id": flavor_id})
    else:
        found = [first]
    for one in found:
        flavor = cast("Flavor", one)
        if flavor.is_public or call.is_admin or call.project_id in flavor.access:
            return flavor
    raise NotFound(message or f"Flavor {flavor_id} could not be found.")


def flavor_aggregate(flavor_id: str) -> str:
    """The id of the aggregate of a flavor that users know by `flavor_id`: two creates of one id cannot both succeed."""
    return str(uuid5(NAMESPACE_URL, f"chronova:flavor:{flavor_id}"))


async def image_of(call: Call, image_id: str) -> Image | None:
    """An image that the caller may use."""
    image = cast("Image | None", await call.services.read.resource("image", image_id))
    if image is None or image.deleted:
        return None
    seen = (
        image.visibility in {"public", "community"}
        or image.project_id == call.project_id
        or (image.visibility == "shared" and call.project_id in image.members)
    )
    return image if seen or call.is_admin else None


async def named(call: Call, kind: str, name_or_id: str, project_id: str | None) -> Resource | None:
    """A resource of a project by id, else by name."""
    found = await call.services.read.resource(kind, name_or_id)
    if found is not None and not found.deleted and (call.is_admin or found.project_id in {project_id, None}):
        return found
    return await call.services.read.resource_by_name(kind, name_or_id, project_id)


def integer(call: Call, name: str, default: int | None = None) -> int | None:
    """A whole number from the query."""
    text = call.argument(name)
    if text is None or text == "":
        return default
    number = whole(text)
    if number is None:
        raise Invalid(f"{name} param must be an integer")
    return number
