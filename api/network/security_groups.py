"""Security groups and their rules.

They are kept, shown and checked as Neutron does, and belong to ports; hosts filter by them (see `domain.filters`). A
group and its rules are one aggregate. Every project has a group `default`, made when it is first looked for or used;
its id is derived from the project, so two requests cannot make two.
"""

from __future__ import annotations

from typing import Any, cast
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from api.errors import NeutronError
from api.http import Json, caller, context, services, timestamp, wrapped_object
from api.listing import living
from api.network import access
from api.network.query import chosen, listed
from api.network.quotas import must_have_room
from api.network.rules import rule_of, rule_view
from api.shapes import text
from commands.security_groups import ensure_default_group
from commands.server_ports import group_renamed
from domain.filters import DEFAULT_GROUP as DEFAULT
from domain.filters import default_group_id
from domain.resources import Port, SecurityGroup
from domain.security_groups import egress_rules


def group_view(group: SecurityGroup) -> dict[str, Any]:
    return access.common(group) | {
        "stateful": True,
        "shared": False,
        "security_group_rules": [rule_view(group, rule) for rule in group.rules],
    }


async def ensure_default(request: Request, project_id: str | None) -> SecurityGroup | None:
    """The project's group `default`, made now if it is not there. None without a project."""
    if project_id is None:
        return None
    known = services(request)
    found = await known.read.resource("security_group", default_group_id(project_id))
    if isinstance(found, SecurityGroup) and not found.deleted:
        return found
    if await known.read.resource("project", project_id) is None:
        return None
    id_ = await ensure_default_group(known.commands, project_id, context(request).request_id)
    await known.read.wait_for(await known.log.last_position(), known.commands.settings.visible_timeout)
    return cast(SecurityGroup | None, await known.commands.load("security_group", id_))


async def list_groups(request: Request) -> Response:
    """Security groups of the project"""
    asked = request.query_params.get("project_id") or request.query_params.get("tenant_id")
    who = caller(request)
    await ensure_default(request, asked if who.is_admin and asked else who.project_id)
    found = await access.visible(request, "security_group")
    return listed(request, "security_groups", [group_view(cast(SecurityGroup, one)) for one in found])


async def show_group(request: Request) -> Response:
    """One security group with its rules"""
    group = await access.find(request, "security_group")
    return Json({"security_group": chosen(request, group_view(group))})


async def create_groups(request: Request) -> Response:
    """Create security groups; they let everything out and nothing in"""

    async def make(body: dict[str, Any]) -> dict[str, Any]:
        who = access.must_be_member(request, "create_security_group")
        project_id = access.project_of(body, who)
        fields = {"name": text(body, "name", "") or "", "description": text(body, "description", "") or ""}
        if fields["name"].lower() == DEFAULT:
            raise NeutronError("SecurityGroupDefaultAlreadyExists", 409, "Default security group already exists.")
        await must_have_room(request, "security_group", project_id)
        id_ = str(uuid4())
        created = await services(request).commands.create(
            "security_group", fields | {"project_id": project_id, "rules": egress_rules(id_)}, context(request), id=id_
        )
        return group_view(cast(SecurityGroup, created))

    body, status = await access.create_all(request, "security_group", "security_groups", make)
    return Json(body, status_code=status)


async def update_group(request: Request) -> Response:
    """Change a security group's name or description"""
    group: SecurityGroup = await access.find_own(request, "security_group")
    body = await wrapped_object(request, "security_group")
    changes: dict[str, Any] = {key: text(body, key, "") or "" for key in ("name", "description") if key in body}
    if group.is_default and changes.get("name", DEFAULT) != DEFAULT:
        raise NeutronError("SecurityGroupCannotUpdateDefault", 409, "Updating default security group not allowed.")
    known = services(request)
    updated = await known.commands.update("security_group", group.id, changes, context(request))
    if updated.name != group.name:
        await group_renamed(known.commands, known.read, cast(SecurityGroup, updated), context(request))
    return Json({"security_group": group_view(cast(SecurityGroup, updated))})


async def delete_group(request: Request) -> Response:
    """Delete a security group that no port uses"""
    group: SecurityGroup = await access.find_own(request, "security_group")
    if group.is_default and not caller(request).is_admin:
        raise NeutronError(
            "SecurityGroupCannotRemoveDefault", 409, "Insufficient rights for removing default security group."
        )
    ports = await living(request, "port", project_id=group.project_id)
    if any(one in cast(Port, port).security_groups for port in ports for one in (group.id, group.name)):
        raise NeutronError(
            "SecurityGroupInUse", 409, f"Security Group {group.id} in use.", hint="Take it off the ports that have it"
        )
    await services(request).commands.delete("security_group", group.id, context(request))
    await _forget_remote(request, group)
    return Response(status_code=204)


async def _forget_remote(request: Request, gone: SecurityGroup) -> None:
    """Remove the rules that let in the members of a group that is gone."""

    def check(state: SecurityGroup) -> dict[str, Any] | None:
        kept = [rule for rule in state.rules if rule.get("remote_group_id") != gone.id]
        return {"rules": kept} if len(kept) < len(state.rules) else None

    for one in await living(request, "security_group", project_id=gone.project_id):
        await services(request).commands.update(
            "security_group", one.id, {}, context(request), verb="remove-rule", check=check
        )


async def list_rules(request: Request) -> Response:
    """Rules of the security groups of the project"""
    await ensure_default(request, caller(request).project_id)
    who = caller(request)
    wanted = request.query_params.get("security_group_id")
    narrow: dict[str, Any] = {"ids": [wanted]} if wanted else {}
    groups = [
        cast(SecurityGroup, one) for one in await living(request, "security_group", **narrow) if access.owns(who, one)
    ]
    return listed(request, "security_group_rules", [rule_view(group, rule) for group in groups for rule in group.rules])


async def _find_rule(request: Request) -> tuple[SecurityGroup, dict[str, Any]]:
    id_, who = request.path_params["id"], caller(request)
    narrow = {} if who.is_admin else {"project_id": who.project_id or "-"}
    for one in await living(request, "security_group", **narrow):
        group = cast(SecurityGroup, one)
        for rule in group.rules:
            if rule["id"] == id_:
                return group, rule
    raise NeutronError("SecurityGroupRuleNotFound", 404, f"Security group rule {id_} does not exist")


async def show_rule(request: Request) -> Response:
    """One rule"""
    group, rule = await _find_rule(request)
    return Json({"security_group_rule": chosen(request, rule_view(group, rule))})


async def create_rules(request: Request) -> Response:
    """Add rules to security groups"""

    async def make(body: dict[str, Any]) -> dict[str, Any]:
        group: SecurityGroup = await access.find_own(request, "security_group", text(body, "security_group_id"))
        remote = text(body, "remote_group_id", None)
        if remote is not None:
            await access.find(request, "security_group", remote)
        await must_have_room(request, "security_group_rule", group.project_id)
        who = context(request)
        rule = rule_of(body, created_at=timestamp(group.updated_at) or "")

        def check(state: SecurityGroup) -> dict[str, Any]:
            for held in state.rules:
                if all(held.get(key) == value for key, value in rule.items() if key not in _NOT_COMPARED):
                    raise NeutronError(
                        "SecurityGroupRuleExists", 409, f"Security group rule already exists. Rule id is {held['id']}."
                    )
            return {"rules": [*state.rules, rule]}

        updated = await services(request).commands.update(
            "security_group", group.id, {}, who, verb="add-rule", check=check
        )
        return rule_view(cast(SecurityGroup, updated), rule)

    body, status = await access.create_all(request, "security_group_rule", "security_group_rules", make)
    return Json(body, status_code=status)


_NOT_COMPARED = frozenset({"id", "description", "created_at"})


async def delete_rule(request: Request) -> Response:
    """Remove a rule"""
    group, rule = await _find_rule(request)
    access.must_be_member(request, "delete_security_group_rule")

    def check(state: SecurityGroup) -> dict[str, Any]:
        return {"rules": [one for one in state.rules if one["id"] != rule["id"]]}

    await services(request).commands.update(
        "security_group", group.id, {}, context(request), verb="remove-rule", check=check
    )
    return Response(status_code=204)


def routes() -> list[BaseRoute]:
    return [
        Route("/v2.0/security-groups", list_groups, methods=["GET"]),
        Route("/v2.0/security-groups", create_groups, methods=["POST"]),
        Route("/v2.0/security-groups/{id}", show_group, methods=["GET"]),
        Route("/v2.0/security-groups/{id}", update_group, methods=["PUT"]),
        Route("/v2.0/security-groups/{id}", delete_group, methods=["DELETE"]),
        Route("/v2.0/security-group-rules", list_rules, methods=["GET"]),
        Route("/v2.0/security-group-rules", create_rules, methods=["POST"]),
        Route("/v2.0/security-group-rules/{id}", show_rule, methods=["GET"]),
        Route("/v2.0/security-group-rules/{id}", delete_rule, methods=["DELETE"]),
    ]
