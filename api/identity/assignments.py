"""Who has which role where: in a project, in the domain, or system-wide.

All roles of one user in one scope are one aggregate, so giving and taking are changes of one list and cannot race.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from api.auth import SYSTEM, assignment_id
from api.http import Json, boolean, caller, context, services
from api.identity.access import DEFAULT_DOMAIN, DOMAIN, find, must_be_admin
from api.identity.roles import role_view
from api.links import base_url
from api.listing import living
from domain import groups
from domain.errors import Conflict, NotFound
from domain.policy import effective_roles
from domain.resources import Assignment, Role


async def _target(request: Request) -> tuple[str, str]:
    """Scope and target id of the path. Raises 404 for a project or domain that does not exist."""
    scope = request.url.path.split("/v3/")[1].partition("/")[0]
    if scope == "system":
        return "system", SYSTEM
    target = request.path_params["target"]
    if scope == "projects":
        return "project", (await find(request, "project", target)).id
    if target != DEFAULT_DOMAIN:
        raise NotFound(f"Could not find domain: {target}.")
    return "domain", target


async def _held(request: Request) -> tuple[str, str, str, Assignment | None]:
    scope, target = await _target(request)
    user_id = request.path_params["user"]
    found = await services(request).read.resource("assignment", assignment_id(user_id, scope, target))
    return scope, target, user_id, found if isinstance(found, Assignment) and not found.deleted else None


async def give(request: Request) -> Response:
    """Give a user a role"""
    must_be_admin(request)
    scope, target = await _target(request)
    user = await find(request, "user", request.path_params["user"])
    role = await find(request, "role", request.path_params["role"])
    await grant(request, user.id, role.id, scope, target)
    services(request).tokens.forget()
    return Response(status_code=204)


async def grant(request: Request, user_id: str, role_id: str, scope: str, target: str) -> None:
    commands, who = services(request).commands, context(request)
    id_ = assignment_id(user_id, scope, target)

    check = partial(groups.grant, role_id=role_id)
    fields = {
        "user_id": user_id,
        "project_id": target if scope == "project" else None,
        "scope": scope,
        "roles": [role_id],
    }
    try:
        await commands.update("assignment", id_, {}, who, verb="grant", check=check)
    except NotFound:
        try:
            await commands.create("assignment", fields, who, id=id_, verb="grant")
        except Conflict:
            await commands.update("assignment", id_, {}, who, verb="grant", check=check)


async def take(request: Request) -> Response:
    """Take a role from a user"""
    must_be_admin(request)
    _, _, _, held = await _held(request)
    role_id = request.path_params["role"]
    if held is None:
        raise NotFound(f"Could not find role assignment with role: {role_id}.")
    check = partial(groups.revoke, role_id=role_id)
    await services(request).commands.update("assignment", held.id, {}, context(request), verb="revoke", check=check)
    services(request).tokens.forget()
    return Response(status_code=204)


async def has(request: Request) -> Response:
    """Whether a user has a role"""
    must_be_admin(request)
    _, _, _, held = await _held(request)
    role_id = request.path_params["role"]
    if held is None or role_id not in held.roles:
        raise NotFound(f"Could not find role assignment with role: {role_id}.")
    return Response(status_code=204)


async def roles_of(request: Request) -> Response:
    """The roles of a user in a scope"""
    must_be_admin(request)
    _, _, _, held = await _held(request)
    ids = held.roles if held else ()
    views = [
        role_view(request, one) for one in await living(request, "role") if one.id in ids and isinstance(one, Role)
    ]
    return Json({"roles": views, "links": {"self": str(request.url), "next": None, "previous": None}})


async def list_assignments(request: Request) -> Response:
    """All role assignments, filtered by user, role and scope"""
    who, params = caller(request), request.query_params
    user_id = params.get("user.id")
    if not who.is_admin and user_id != who.user_id:
        must_be_admin(request)
    roles = {one.id: one for one in await living(request, "role") if isinstance(one, Role)}
    ids = {one.name: one.id for one in roles.values()}
    effective = "effective" in params and boolean(params["effective"] or "true")
    named = "include_names" in params and boolean(params["include_names"] or "true")
    names = await _names(request) if named else {}
    shown = []
    for held in await living(request, "assignment", **({"where": {"user_id": user_id}} if user_id else {})):
        if not isinstance(held, Assignment) or not _fits(held, params):
            continue
        given: tuple[str, ...] = held.roles
        if effective:
            contained = effective_roles([roles[one].name for one in given if one in roles])
            given = tuple(ids[one] for one in sorted(contained) if one in ids)
        for role_id in given:
            if role_id in roles and params.get("role.id") in (None, role_id):
                shown.append(_view(request, held, roles[role_id], names))
    return Json({"role_assignments": shown, "links": {"self": str(request.url), "next": None, "previous": None}})


def _fits(held: Assignment, params: Any) -> bool:
    if params.get("group.id"):
        return False
    if params.get("scope.project.id"):
        return bool(held.project_id == params["scope.project.id"])
    if params.get("scope.domain.id"):
        return bool(held.scope == "domain" and params["scope.domain.id"] == DEFAULT_DOMAIN)
    return held.scope == "system" if params.get("scope.system") else True


async def _names(request: Request) -> dict[str, str]:
    found = [*await living(request, "user"), *await living(request, "project")]
    return {one.id: one.name for one in found}


def _view(request: Request, held: Assignment, role: Role, names: dict[str, str]) -> dict[str, Any]:
    def entity(id_: str) -> dict[str, Any]:
        return {"id": id_, "name": names.get(id_, ""), "domain": DOMAIN} if names else {"id": id_}

    base = f"{base_url(request)}/identity/v3"
    scope: dict[str, Any]
    if held.scope == "project":
        scope, where = {"project": entity(held.project_id or "")}, f"projects/{held.project_id}"
    elif held.scope == "domain":
        scope, where = {"domain": DOMAIN if names else {"id": DEFAULT_DOMAIN}}, f"domains/{DEFAULT_DOMAIN}"
    else:
        scope, where = {"system": {"all": True}}, "system"
    return {
        "role": {"id": role.id, "name": role.name} if names else {"id": role.id},
        "user": entity(held.user_id),
        "scope": scope,
        "links": {"assignment": f"{base}/{where}/users/{held.user_id}/roles/{role.id}"},
    }


async def no_group_roles(request: Request) -> Response:
    """The roles of a group: there are no groups here"""
    must_be_admin(request)
    raise NotFound(f"Could not find group: {request.path_params['group']}.")


def routes() -> list[BaseRoute]:
    found: list[BaseRoute] = [Route("/v3/role_assignments", list_assignments)]
    for scope in ("projects/{target}", "domains/{target}", "system"):
        one = f"/v3/{scope}/users/{{user}}/roles/{{role}}"
        found += [
            Route(f"/v3/{scope}/users/{{user}}/roles", roles_of),
            Route(one, has, methods=["GET"]),
            Route(one, give, methods=["PUT"]),
            Route(one, take, methods=["DELETE"]),
            Route(f"/v3/{scope}/groups/{{group}}/roles", no_group_roles),
        ]
    return found
