"""Security groups of servers are those of their ports: the groups that a server is created with, or is given, go there.

The compute API knows groups by name, a port by id. Everything here bears being done twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast

from commands.context import SERVICE, CommandContext
from commands.handler import Commands
from commands.lookup import Lookup
from domain.errors import Conflict, NotFound
from domain.filters import DEFAULT_GROUP, default_group_id
from domain.resources import Port, SecurityGroup
from domain.security_groups import default_group
from domain.server import Server


async def ensure_default_group(commands: Commands, project_id: str, request_id: str) -> str:
    """The id of the project's group `default`, which is made now if it never was."""
    id_ = default_group_id(project_id)
    if await commands.load("security_group", id_) is None:
        made_by = CommandContext(SERVICE, request_id)
        with suppress(Conflict):  # somebody else makes it just now
            await commands.create("security_group", default_group(project_id), made_by, id=id_, visible=False)
    return id_


async def group_ids(
    commands: Commands, read: Lookup, project_id: str, names: Sequence[str], request_id: str
) -> list[str]:
    """The ids of a project's groups. A name that stands for none stays, and lets nothing pass."""
    ids: dict[str, str] = {}
    if DEFAULT_GROUP in names:
        default = await read.resource("security_group", default_group_id(project_id))
        known = default is not None and not default.deleted
        ids[DEFAULT_GROUP] = (
            default_group_id(project_id) if known else await ensure_default_group(commands, project_id, request_id)
        )
    if set(names) - set(ids):
        found = await read.resources("security_group", project_id=project_id)
        ids = {group.name: group.id for group in found} | ids
    return [ids.get(name, name) for name in names]


async def set_on_ports(
    commands: Commands, server: Server, group: SecurityGroup, context: CommandContext, *, present: bool
) -> None:
    """Give the group to all ports of a server, or take it off them."""

    def change(state: Any) -> dict[str, Any] | None:
        port = cast(Port, state)
        rest = [one for one in port.security_groups if one not in (group.id, group.name)]
        wanted = [*rest, group.id] if present else rest
        return {"security_groups": wanted} if wanted != list(port.security_groups) else None

    for interface in server.interfaces:
        with suppress(NotFound):
            await commands.update("port", interface.port_id, {}, context, check=change)
