"""/servers/{id}/tags, from 2.26 on."""

from __future__ import annotations

from api.compute.call import Call, Reply, empty, reply
from api.compute.carry_out import carry_out
from api.compute.dispatch import Route
from api.compute.lookups import server_of
from api.compute.schemas import servers as schemas
from domain.errors import Invalid, NotFound


async def index(call: Call) -> Reply:
    server = await server_of(call, call.params[0], "os_compute_api:os-server-tags:index")
    return reply({"tags": server.tags})


async def show(call: Call) -> Reply:
    server_id, tag = call.params
    server = await server_of(call, server_id, "os_compute_api:os-server-tags:show")
    if tag not in server.tags:
        raise _missing(server_id, tag)
    return empty(204)


def _missing(server_id: str, tag: str) -> NotFound:
    return NotFound(f"Instance {server_id} has no tag '{tag}'")


async def replace_all(call: Call) -> Reply:
    body = await call.object()
    schemas.TAGS.check(call.version, body)
    answer = await carry_out(call, "tags", call.params[0], {"tags": body["tags"]})
    return reply({"tags": answer.server.tags})


async def add(call: Call) -> Reply:
    server_id, tag = call.params
    try:
        schemas.TAG_NAME.check(call.version, tag)
    except Invalid as error:
        raise Invalid(
            f"Tag '{tag}' is invalid. It must be a non empty string without characters '/' and ','."
        ) from error
    server = await server_of(call, server_id, "os_compute_api:os-server-tags:update")
    tags = list(server.tags)
    known = tag in tags
    await carry_out(call, "tags", server_id, {"tags": tags if known else [*tags, tag]})
    if known:
        return empty(204)
    return empty(201, location=f"{call.root}/v2.1{call.project_path}/servers/{server_id}/tags/{tag}")


async def remove(call: Call) -> Reply:
    server_id, tag = call.params
    server = await server_of(call, server_id, "os_compute_api:os-server-tags:delete")
    if tag not in server.tags:
        raise _missing(server_id, tag)
    await carry_out(call, "tags", server_id, {"tags": [one for one in server.tags if one != tag]})
    return empty(204)


async def remove_all(call: Call) -> Reply:
    await carry_out(call, "tags", call.params[0], {"tags": []})
    return empty(204)


ROUTES = [
    Route("GET", "/servers/{}/tags", index, since=26),
    Route("PUT", "/servers/{}/tags", replace_all, since=26),
    Route("DELETE", "/servers/{}/tags", remove_all, since=26),
    Route("GET", "/servers/{}/tags/{}", show, since=26),
    Route("PUT", "/servers/{}/tags/{}", add, since=26),
    Route("DELETE", "/servers/{}/tags/{}", remove, since=26),
]
