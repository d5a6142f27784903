"""Images that a server's command makes: they are there, still empty, from the moment the command is accepted.

The agent writes the data and the conductor activates the image. An image whose command is refused is not left behind.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import uuid4

from api.compute.call import Call
from api.compute.lookups import server_of
from commands.context import Answer
from domain import images
from domain.errors import Rejected


async def carry_out_with_image(
    call: Call, command: str, server_id: str, params: dict[str, Any], *, kind: str, name: str | None = None
) -> Answer:
    """Carry out a command that makes an image; its id is put into `params["image_id"]`. `kind`: snapshot or backup."""
    commands = call.services.commands
    server = await server_of(call, server_id)
    if command == "shelve" and server.volume_backed:
        return await commands.server(command, server_id, params, call.context)  # its volumes keep what it had
    image_id = params["image_id"] = str(uuid4())
    fields = images.made_from(server, kind, name, params)
    try:
        await commands.server(command, server_id, params, replace(call.context, dry_run=True))
    except Rejected:
        # The refusal is recorded by giving the command for real. Should it be accepted now, its image comes after it.
        answer = await commands.server(command, server_id, params, call.context)
        await commands.create("image", fields, call.context, id=image_id)
        return answer
    await commands.create("image", fields, call.context, id=image_id)
    try:
        return await commands.server(command, server_id, params, call.context)
    except Rejected as rejected:
        if rejected.code < 500:  # else it may have been accepted; the conductor sees to an image that nobody fills
            await commands.delete("image", image_id, call.context)
        raise
