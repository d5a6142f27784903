"""/servers/{id}/tags, from 2.26 on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from api.compute.call import Call, Reply, empty, reply
from api.compute.carry_out import carry_out, state_comes_first
from api.compute.dispatch import Route
from api.compute.lookups import must_have_existed, server_of
from api.compute.schemas import servers as schemas
from domain.errors import Conflict, Invalid, NotFound, PreconditionFailed

RETRIES = 8


@contextmanager
def _named(verb: str) -> Iterator[None]:
    """Nova's name for this change of tags, in a refusal for the server's state. All of them are one command."""
    try:
        yield
    except Conflict as conflict:
        conflict.message = conflict.message.replace("'update tag'", f"'{verb}'")
        raise


async def index(call: Call) -> Reply:
    await must_have_existed(call, call.params[0])
    server = await server_of(call, call.params[0], "os_compute_api:os-server-tags:index")
    return reply({"tags": server.tags})


async def show(call: Call) -> Reply:
    server_id, tag = call.params
    await must_have_existed(call, server_id)
    server = await server_of(call, server_id, "os_compute_api:os-server-tags:show")
    if tag not in server.tags:
        raise NotFound(f"Server {server_id} has no tag '{tag}'")
    return empty(204)


def _missing(server_id: str, tag: str) -> NotFound:
    return NotFound(f"Instance {server_id} has no tag '{tag}'")


async def replace_all(call: Call) -> Reply:
    body = await call.object()
    schemas.TAGS.check(call.version, body)
    await must_have_existed(call, call.params[0])
    with _named("update tags"):
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
    before = await _change(call, "os_compute_api:os-server-tags:update", lambda tags: [*tags, tag])
    if tag in before:
        return empty(204)
    return empty(201, location=f"{call.root}/v2.1{call.project_path}/servers/{server_id}/tags/{tag}")


async def remove(call: Call) -> Reply:
    server_id, tag = call.params

    def without(tags: tuple[str, ...]) -> list[str]:
        if tag not in tags:
            raise _missing(server_id, tag)
        return [one for one in tags if one != tag]

    with _named("delete tag"):
        await _change(call, "os_compute_api:os-server-tags:delete", without)
    return empty(204)


async def _change(call: Call, rule: str, choose: Callable[[tuple[str, ...]], list[str]]) -> tuple[str, ...]:
    """Change the tags as they are now; again when somebody else was faster. Returns what they were before."""
    server_id = call.params[0]
    await must_have_existed(call, server_id)
    commands = call.services.commands
    for _ in range(RETRIES):
        await server_of(call, server_id, rule)
        server = await commands.load_server(server_id)
        if server is None:
            break
        context = replace(call.context, if_match=server.version)
        with state_comes_first(call, "tags", server):
            tags = choose(server.tags)
        try:
            await commands.server("tags", server_id, {"tags": tags}, context)
        except PreconditionFailed:
            continue
        return server.tags
    raise Conflict(f"The tags of {server_id} are changing too fast", hint="Send the request again.")


async def remove_all(call: Call) -> Reply:
    await must_have_existed(call, call.params[0])
    with _named("delete tags"):
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
