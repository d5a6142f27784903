"""/os-server-groups: servers that should share a host, or must not."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

from api.compute import quota
from api.compute.call import Call, Reply, empty, flag, reply
from api.compute.dispatch import Route
from api.compute.lookups import integer
from api.compute.policy import enforce
from api.compute.schemas import server_groups as schemas
from domain import groups
from domain.errors import Forbidden, Invalid, NotFound
from domain.resources import ServerGroup
from domain.server import Server
from projections.query import ServerQuery


async def _members(call: Call, group: ServerGroup) -> list[str]:
    """The servers of the group that are there now, in the order in which they joined."""
    alive = {server.id for server in await _servers(call, group, deleted=False)}
    return [member for member in group.members if member in alive]


async def _servers(call: Call, group: ServerGroup, *, deleted: bool) -> list[Server]:
    if not group.members:
        return []
    return await call.services.read.servers(ServerQuery(ids=group.members, deleted=deleted))


async def find(call: Call, group_id: str) -> ServerGroup | None:
    """A group that the caller may use."""
    found = await call.services.read.resource("server_group", group_id)
    if found is None or found.deleted or not (call.is_admin or found.project_id == call.project_id):
        return None
    return cast("ServerGroup", found)


async def join(call: Call, group: ServerGroup, server_ids: list[str]) -> None:
    """Make servers that are about to be created members, before their placing. `Forbidden` for a full group."""
    most = (await quota.limits_of(call, group.project_id))["server_group_members"]
    gone = {server.id for server in await _servers(call, group, deleted=True)}
    check = partial(groups.join, joining=server_ids, gone=gone, most=most)
    await call.services.commands.update("server_group", group.id, {}, call.context, verb="join", check=check)


async def leave(call: Call, group: ServerGroup, server_ids: list[str]) -> None:
    """Take back `join` for servers that were not created after all."""
    check = partial(groups.leave, leaving=server_ids)
    await call.services.commands.update("server_group", group.id, {}, call.context, verb="leave", check=check)


async def _view(call: Call, group: ServerGroup) -> dict[str, Any]:
    body: dict[str, Any] = {"id": group.id, "name": group.name, "members": await _members(call, group)}
    if call.version >= 64:
        body |= {"policy": group.policy, "rules": group.rules}
    else:
        body |= {"policies": [group.policy], "metadata": {}}
    if call.version >= 13:
        body |= {"project_id": group.project_id, "user_id": group.user_id}
    return body


async def index(call: Call) -> Reply:
    schemas.LIST.check(call.version, call.query)
    enforce(call, "os_compute_api:os-server-groups:index")
    project_id = call.project_id
    if "all_projects" in call.query and flag(call.argument("all_projects") or "true") and call.is_admin:
        enforce(call, "os_compute_api:os-server-groups:index:all_projects")
        project_id = None
    found = await call.services.read.resources("server_group", project_id=project_id)
    start = integer(call, "offset", 0) or 0
    limit = integer(call, "limit") or len(found)
    shown = [cast("ServerGroup", one) for one in found][start : start + limit]
    return reply({"server_groups": [await _view(call, group) for group in shown]})


async def _find(call: Call, rule: str) -> ServerGroup:
    group = await find(call, call.params[0])
    if group is None:
        raise NotFound(f"Instance group {call.params[0]} could not be found.")
    enforce(call, rule, group.project_id)
    return group


async def show(call: Call) -> Reply:
    return reply({"server_group": await _view(call, await _find(call, "os_compute_api:os-server-groups:show"))})


async def create(call: Call) -> Reply:
    body = await call.object()
    schemas.CREATE.check(call.version, body)
    enforce(call, "os_compute_api:os-server-groups:create")
    wanted: dict[str, Any] = body["server_group"]
    policy = wanted["policy"] if call.version >= 64 else wanted["policies"][0]
    rules = {name: int(value) for name, value in wanted.get("rules", {}).items()}
    if rules and policy != "anti-affinity":
        raise Invalid("Only anti-affinity policy supports rules.")
    most = (await quota.limits_of(call, call.project_id))["server_groups"]
    if 0 <= most <= len(await call.services.read.resources("server_group", project_id=call.project_id)):
        raise Forbidden("Quota exceeded, too many server groups.", reason="quota")
    fields = {
        "name": wanted["name"],
        "project_id": call.project_id,
        "user_id": call.caller.actor.user_id,
        "policy": policy,
        "rules": rules,
    }
    group = await call.services.commands.create("server_group", fields, call.context)
    return reply({"server_group": await _view(call, cast("ServerGroup", group))})


async def delete(call: Call) -> Reply:
    group = await _find(call, "os_compute_api:os-server-groups:delete")
    await call.services.commands.delete("server_group", group.id, call.context)
    return empty(204)


ROUTES = [
    Route("GET", "/os-server-groups", index),
    Route("POST", "/os-server-groups", create),
    Route("GET", "/os-server-groups/{}", show),
    Route("DELETE", "/os-server-groups/{}", delete),
]
