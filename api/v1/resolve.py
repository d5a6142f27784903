"""From the parameters of a request to those of a command: names are looked up, ids are made, nothing is changed yet.

What a name stands for is fixed at this moment: a command carries the flavor and the image as they were when it was
given.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import NAMESPACE_OID, uuid5

import msgspec

from api.root_volumes import rebuilt_volume
from commands.context import CommandContext
from domain.errors import Invalid
from domain.flavors import snapshot
from domain.resources import Flavor, Image, Keypair, Network, Port, Resource, SecurityGroup, Volume
from domain.server import Server

if TYPE_CHECKING:
    from api.services import Services

R = TypeVar("R", bound=Resource)


@dataclass(frozen=True)
class Lookup:
    """One request's look-ups, as its caller may see things."""

    services: Services
    context: CommandContext

    async def flavor(self, text: str) -> Flavor:
        found = await self.services.read.resources("flavor", where={"flavor_id": text})
        return self._chosen(Flavor, found or await self._named("flavor", text), text)

    async def image(self, text: str) -> Image:
        image = self._chosen(Image, await self._named("image", text), text)
        if image.status != "active":
            raise Invalid(
                f"Image {image.name or image.id} is {image.status}", code=422, reason="image", hint="Wait for it."
            )
        return image

    async def network(self, text: str) -> Network:
        return self._chosen(Network, await self._named("network", text), text)

    async def volume(self, id_: str) -> Volume:
        return self._chosen(Volume, await self._named("volume", id_), id_)

    async def port(self, id_: str) -> Port:
        return self._chosen(Port, await self._named("port", id_), id_)

    async def security_group(self, text: str) -> SecurityGroup:
        return self._chosen(SecurityGroup, await self._named("security_group", text), text)

    async def public_key(self, name: str, user_id: str) -> str:
        found = await self.services.read.resource("keypair", str(uuid5(NAMESPACE_OID, f"keypair:{user_id}:{name}")))
        return self._chosen(Keypair, [found] if found else [], name).public_key

    async def _named(self, kind: str, text: str) -> list[Resource]:
        by_id = await self.services.read.resource(kind, text)
        return [by_id] if by_id is not None else await self.services.read.resources(kind, name=text)

    def _chosen(self, type_: type[R], found: list[Resource], text: str) -> R:
        """The one that is meant; refuses with 422 when there is none, or more than one."""
        seen = [one for one in found if isinstance(one, type_) and not one.deleted and self._sees(one)]
        if len(seen) > 1:
            seen = [one for one in seen if one.project_id == self.context.actor.project_id] or seen
        what = _WORDS.get(type_.__name__, type_.__name__.lower())
        if not seen:
            raise Invalid(
                f"There is no {what} {text!r}", code=422, reason=what, hint=f"Name a {what} that you can list."
            )
        if len(seen) > 1:
            raise Invalid(f"{len(seen)} {what}s are called {text!r}", code=422, reason=what, hint="Give its id.")
        return seen[0]

    def _sees(self, one: Resource) -> bool:
        if self.context.is_admin or one.project_id == self.context.actor.project_id:
            return True
        if isinstance(one, Flavor):
            return one.is_public or self.context.actor.project_id in one.access
        if isinstance(one, Image):
            return one.visibility in ("public", "community")
        if isinstance(one, Network):
            return one.shared
        return isinstance(one, Keypair) and one.user_id == self.context.actor.user_id


_WORDS = {"SecurityGroup": "security_group", "Keypair": "key_pair"}

Resolver = Callable[[Lookup, dict[str, Any], Server], Awaitable[dict[str, Any]]]


async def resolved(look: Lookup, command: str, params: dict[str, Any], server: Server) -> dict[str, Any]:
    """The parameters as `commands` takes them. Raises 422 for a name that stands for nothing."""
    resolver = RESOLVERS.get(command)
    return params if resolver is None else await resolver(look, params, server)


def _image_spec(image: Image) -> dict[str, Any]:
    return {"id": image.id, "properties": dict(image.properties)}


async def _resize(look: Lookup, params: dict[str, Any], server: Server) -> dict[str, Any]:
    return {"flavor": msgspec.to_builtins(snapshot(await look.flavor(params["flavor"])))}


async def _rebuild(look: Lookup, params: dict[str, Any], server: Server) -> dict[str, Any]:
    image = await look.image(params["image"])
    if server.flavor is not None and (
        image.min_ram > server.flavor.ram or (image.min_disk > server.flavor.disk > 0 and not server.volume_backed)
    ):
        raise Invalid(
            "The server's flavor is too small for this image", code=422, reason="image", hint="Resize it first."
        )
    wanted = params | {"image": _image_spec(image)}
    if server.volume_backed:
        wanted |= await rebuilt_volume(look.services, server, image, reimage=True)
    if "key_name" in params:
        name = params["key_name"]
        wanted["public_key"] = None if name is None else await look.public_key(name, server.user_id)
    return wanted


async def _rescue(look: Lookup, params: dict[str, Any], server: Server) -> dict[str, Any]:
    named = params.get("image") or server.image_id
    if named is None:
        raise Invalid("The server has no image", code=422, reason="image", hint="Name the image to rescue it with.")
    return params | {"image": _image_spec(await look.image(named))}


async def _group(look: Lookup, params: dict[str, Any], server: Server) -> dict[str, Any]:
    return {"group": (await look.security_group(params["group"])).name}


RESOLVERS: dict[str, Resolver] = {
    "resize": _resize,
    "rebuild": _rebuild,
    "rescue": _rescue,
    "add-security-group": _group,
}
