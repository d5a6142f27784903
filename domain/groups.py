"""Who is in a server group, which roles a user has in a scope, what quotas a project has: lists that change. Pure.

Each function returns the fields to change, None when it already is so, and raises `Rejected` when it may not be.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from domain.errors import Forbidden, NotFound
from domain.resources import Assignment, Project, ServerGroup


def join(group: ServerGroup, joining: list[str], *, gone: Collection[str], most: int) -> dict[str, Any]:
    """Servers become members before they are placed. `gone`: deleted ones; `most`: the quota, negative for none."""
    members = [member for member in group.members if member not in gone and member not in joining]
    if 0 <= most < len(members) + len(joining):
        raise Forbidden(
            "Quota exceeded, too many servers in group",
            hint=f"The quota server_group_members is {most}: use another group, or ask for more.",
            reason="quota",
        )
    return {"members": [*members, *joining]}


def leave(group: ServerGroup, leaving: Collection[str]) -> dict[str, Any]:
    return {"members": [member for member in group.members if member not in leaving]}


def grant(held: Assignment, role_id: str) -> dict[str, Any] | None:
    return None if role_id in held.roles else {"roles": [*held.roles, role_id]}


def revoke(held: Assignment, role_id: str) -> dict[str, Any]:
    if role_id not in held.roles:
        raise NotFound(
            f"Could not find role assignment with role: {role_id}.", hint="List role_assignments to see what there is."
        )
    return {"roles": [one for one in held.roles if one != role_id]}


def set_quotas(project: Project, given: dict[str, int]) -> dict[str, Any]:
    return {"quotas": project.quotas | given}


def reset_quotas(project: Project, prefix: str) -> dict[str, Any]:
    """The quotas whose names begin so are the default ones again."""
    return {"quotas": {key: value for key, value in project.quotas.items() if not key.startswith(prefix)}}
