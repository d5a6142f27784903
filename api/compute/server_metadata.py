"""/servers/{id}/metadata"""

from __future__ import annotations

from api.compute.call import Call, Reply, empty, reply
from api.compute.carry_out import carry_out
from api.compute.dispatch import Route
from api.compute.lookups import server_of
from api.compute.schemas import servers as schemas
from domain.errors import Invalid, NotFound

_NOT_FOUND = "Metadata item was not found"


async def index(call: Call) -> Reply:
    server = await server_of(call, call.params[0], "os_compute_api:server-metadata:index")
    return reply({"metadata": server.metadata})


async def add(call: Call) -> Reply:
    return await _set(call, replace=False)


async def replace_all(call: Call) -> Reply:
    return await _set(call, replace=True)


async def _set(call: Call, *, replace: bool) -> Reply:
    body = await call.object()
    schemas.METADATA_ALL.check(call.version, body)
    params = {"metadata": body["metadata"], "replace": replace}
    answer = await carry_out(call, "metadata-set", call.params[0], params)
    return reply({"metadata": answer.server.metadata})


async def show(call: Call) -> Reply:
    server_id, key = call.params
    server = await server_of(call, server_id, "os_compute_api:server-metadata:show")
    if key not in server.metadata:
        raise NotFound(_NOT_FOUND)
    return reply({"meta": {key: server.metadata[key]}})


async def update(call: Call) -> Reply:
    server_id, key = call.params
    body = await call.object()
    schemas.METADATA_ITEM.check(call.version, body)
    if key not in body["meta"]:
        raise Invalid("Request body and URI mismatch")
    await carry_out(call, "metadata-set", server_id, {"metadata": body["meta"], "replace": False})
    return reply({"meta": body["meta"]})


async def delete(call: Call) -> Reply:
    """A key that is not there is 404 whatever the server's state, as in Nova."""
    server_id, key = call.params
    server = await server_of(call, server_id, "os_compute_api:server-metadata:delete")
    if key not in server.metadata:
        raise NotFound(_NOT_FOUND)
    await carry_out(call, "metadata-delete", server_id, {"key": key})
    return empty(204)


ROUTES = [
    Route("GET", "/servers/{}/metadata", index),
    Route("POST", "/servers/{}/metadata", add),
    Route("PUT", "/servers/{}/metadata", replace_all),
    Route("GET", "/servers/{}/metadata/{}", show),
    Route("PUT", "/servers/{}/metadata/{}", update),
    Route("DELETE", "/servers/{}/metadata/{}", delete),
]
