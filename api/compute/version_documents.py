"""/versions/ID: the version's document once more, for who has a token. Without one it is at /compute/v2.1."""

from __future__ import annotations

from api.compute import versions
from api.compute.call import Call, Reply, reply
from api.compute.dispatch import Route
from domain.errors import NotFound


async def show(call: Call) -> Reply:
    """The version's document"""
    document = versions.one_version(call.root)
    if call.params[0] != document["version"]["id"]:
        raise NotFound("The resource could not be found.", hint=f"There is {document['version']['id']}.")
    return reply(document)


ROUTES = [Route("GET", "/versions/{}", show)]
