"""Giving a command together with what it needs beside the server: an image to write to, a volume kept for it.

What is made or reserved beforehand is taken back when the command is refused. With an Idempotency-Key every id is
derived from the key, so that a repeat names the same things and is answered as the first was.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_OID, uuid4, uuid5

import msgspec

from api.v1.resolve import Lookup, resolved
from api.volumes_kept import kept, spec_of, spec_of_attached
from commands.context import Answer, CommandContext
from commands.security_groups import set_on_ports
from domain import images
from domain.block_devices import device_name, next_device
from domain.errors import Conflict, Invalid, NotFound, Rejected
from domain.server import FlavorSnapshot, Server, decode_server

if TYPE_CHECKING:
    from api.services import Services

Carrier = Callable[[Lookup, str, dict[str, Any], Server], Awaitable[Answer]]


async def carry_out(
    services: Services, command: str, params: dict[str, Any], server: Server, context: CommandContext
) -> Answer:
    """Carry out a command whose parameters have been checked. Raises `Rejected`."""
    look = Lookup(services, context)
    carrier = CARRIERS.get(command)
    if carrier is not None:
        return await carrier(look, command, params, server)
    return await services.commands.server(command, server.id, await resolved(look, command, params, server), context)


def _new_id(look: Lookup, server: Server, what: str) -> str:
    """A new id; the same again for the same caller and Idempotency-Key."""
    key = look.context.idempotency_key
    return str(
        uuid4() if key is None else uuid5(NAMESPACE_OID, f"{what}:{server.id}:{look.context.actor.user_id}:{key}")
    )


async def _would_go(look: Lookup, command: str, params: dict[str, Any], server: Server) -> bool:
    """Whether the command is legal now. If not, it is still given for real: that records why it was refused."""
    try:
        await look.services.commands.server(command, server.id, params, replace(look.context, dry_run=True))
    except Rejected:
        return False
    return True


async def _with_image(look: Lookup, command: str, params: dict[str, Any], server: Server) -> Answer:
    """The image is there, still empty, from the moment the command is accepted: the agent fills it."""
    commands, context = look.services.commands, look.context
    if command == "shelve" and server.volume_backed:
        return await commands.server(command, server.id, {"offload": True}, context)  # its volumes keep what it had
    image_id = _new_id(look, server, "image")
    if command == "shelve":
        wanted: dict[str, Any] = {"image_id": image_id, "offload": commands.settings.shelved_offload}
    else:
        wanted = {"metadata": {}, "properties": {}} | params | {"image_id": image_id}
    made = False
    new = not context.dry_run and await commands.load("image", image_id) is None
    if new and await _would_go(look, command, wanted, server):
        kind = "backup" if command == "create-backup" else "snapshot"
        fields = images.made_from(server, kind, wanted.get("name"), wanted)
        await commands.create("image", fields, context, id=image_id)
        made = True
    try:
        return await commands.server(command, server.id, wanted, context)
    except Rejected as rejected:
        if made and rejected.code < 500:  # else it may have been accepted; the conductor sees to what nobody fills
            await commands.delete("image", image_id, context)
        raise


async def _resize(look: Lookup, command: str, params: dict[str, Any], server: Server) -> Answer:
    from api.compute.quota import resized  # here, because the compute API's package needs this one

    wanted = await resolved(look, command, params, server)
    flavor = msgspec.convert(wanted["flavor"], FlavorSnapshot)
    give = partial(look.services.commands.server, command, server.id, wanted, look.context)
    return await resized(look, server, flavor, give)


async def _attach_volume(look: Lookup, command: str, params: dict[str, Any], server: Server) -> Answer:
    """The volume is reserved first: of two servers that want it at once, one is refused."""
    commands, context = look.services.commands, look.context
    earlier = await _earlier(look, server)
    if earlier is not None:
        return earlier
    volume = await look.volume(params["volume_id"])
    device = device_name(params.get("device")) or next_device(server)
    wanted = {
        "volume": spec_of(volume, look.services.settings.volumes_dir, device),
        "attachment_id": _new_id(look, server, "attachment"),
        "delete_on_termination": params.get("delete_on_termination", False),
        "tag": None,
    }
    if context.dry_run:
        return await commands.server(command, server.id, wanted, context)
    try:
        async with kept(commands, volume.id, server.id, wanted["attachment_id"], context):
            return await commands.server(command, server.id, wanted, context)
    except Invalid as refused:
        if refused.reason != "volume":
            raise
        raise Conflict(refused.message, hint=refused.hint, reason="volume") from refused


async def _earlier(look: Lookup, server: Server) -> Answer | None:
    """The answer that this Idempotency-Key got before, from the commit that carries it."""
    key = look.context.idempotency_key
    if key is None:
        return None
    for one in reversed(await look.services.log.read("server", server.id)):
        meta = one.commit.meta
        if meta.idempotency_key == key and meta.actor.user_id == look.context.actor.user_id:
            state = decode_server(one.commit.state)
            return Answer(meta.request_id, server.id, one.commit.version, one.position, state)
    return None


async def _detach_volume(look: Lookup, command: str, params: dict[str, Any], server: Server) -> Answer:
    attached = next((one for one in server.volumes if one.volume_id == params["volume_id"]), None)
    if attached is None:
        raise NotFound(
            f"Instance {server.id} is not attached to volume {params['volume_id']}",
            hint=f"GET /v1/servers/{server.id} lists its volumes.",
        )
    volume = spec_of_attached(attached)
    wanted = {"volume_id": attached.volume_id, "volume": volume}
    return await look.services.commands.server(command, server.id, wanted, look.context)


async def _attach_interface(look: Lookup, command: str, params: dict[str, Any], server: Server) -> Answer:
    if "port_id" in params:
        port = await look.port(params["port_id"])
        wanted: dict[str, Any] = {"port_id": port.id, "network_id": port.network_id, "create": False}
    else:
        network = await look.network(params["network"])
        wanted = {"port_id": _new_id(look, server, "port"), "network_id": network.id, "create": True}
        if "fixed_ip" in params:
            wanted["fixed_ip"] = params["fixed_ip"]
    return await look.services.commands.server(command, server.id, wanted, look.context)


async def _security_group(look: Lookup, command: str, params: dict[str, Any], server: Server) -> Answer:
    group = await look.security_group(params["group"])
    answer = await look.services.commands.server(command, server.id, {"group": group.name}, look.context)
    if not look.context.dry_run:
        present = command == "add-security-group"
        await set_on_ports(look.services.commands, answer.server, group, look.context, present=present)
    return answer


CARRIERS: dict[str, Carrier] = {
    "create-image": _with_image,
    "create-backup": _with_image,
    "shelve": _with_image,
    "resize": _resize,
    "attach-volume": _attach_volume,
    "detach-volume": _detach_volume,
    "attach-interface": _attach_interface,
    "add-security-group": _security_group,
    "remove-security-group": _security_group,
}
