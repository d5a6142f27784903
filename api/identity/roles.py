"""Roles. The built-in ones (admin contains manager contains member contains reader; and service) stay as they are."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Any
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from api.http import Json, context, services, wrapped_object
from api.identity.access import ROLE_NAMES, find, must_be_admin
from api.identity.names import forget, named
from api.links import base_url
from api.listing import living, next_link, page
from api.shapes import LONGEST_TEXT, name, text
from domain import groups
from domain.errors import Forbidden, NotFound
from domain.policy import IMPLIED
from domain.resources import Assignment, Resource, Role


def role_view(request: Request, role: Role) -> dict[str, Any]:
    return {
        "id": role.id,
        "name": role.name,
        "domain_id": None,
        "description": role.description,
        "options": {},
        "links": {"self": f"{base_url(request)}/identity/v3/roles/{role.id}"},
    }


async def list_roles(request: Request) -> Response:
    """Roles, filtered by name"""
    wanted = request.query_params.get("name")
    found = await living(request, "role", **({"name": wanted} if wanted else {}))
    views = [role_view(request, one) for one in found if isinstance(one, Role)]
    if request.query_params.get("domain_id"):
        views = []
    views, marker = page(request, views, default_sort=(("name", "asc"),))
    return Json(
        {
            "roles": views,
            "links": {"self": str(request.url), "previous": None, "next": next_link(request, marker)},
        }
    )


async def show_role(request: Request) -> Response:
    """One role"""
    return Json({"role": role_view(request, _role(await find(request, "role", request.path_params["id"])))})


async def create_role(request: Request) -> Response:
    """Create a role; policies know only the built-in ones"""
    must_be_admin(request)
    body = await wrapped_object(request, "role")
    fields = {"name": name(body), "description": text(body, "description", "", longest=LONGEST_TEXT)}
    id_ = uuid4().hex
    async with named(request, "role", fields["name"], id_) as commands:
        created = await commands.create("role", fields, context(request), id=id_)
    return Json({"role": role_view(request, _role(created))}, status_code=201)


async def update_role(request: Request) -> Response:
    """Change a role's name or description"""
    must_be_admin(request)
    role = _role(await find(request, "role", request.path_params["id"]))
    body = await wrapped_object(request, "role")
    changes: dict[str, Any] = {}
    if "name" in body:
        changes["name"] = name(body)
    if "description" in body:
        changes["description"] = text(body, "description", "", longest=LONGEST_TEXT)
    if changes.get("name", role.name) != role.name:
        _must_not_be_built_in(role)
    async with named(request, "role", changes.get("name"), role.id, role.name) as commands:
        updated = await commands.update("role", role.id, changes, context(request))
    services(request).tokens.forget()
    return Json({"role": role_view(request, _role(updated))})


async def delete_role(request: Request) -> Response:
    """Delete a role and take it from everybody"""
    must_be_admin(request)
    role = _role(await find(request, "role", request.path_params["id"]))
    _must_not_be_built_in(role)
    commands, who = services(request).commands, context(request)
    check = partial(groups.revoke, role_id=role.id)
    for held in await living(request, "assignment"):
        if isinstance(held, Assignment) and role.id in held.roles:
            with suppress(NotFound):  # taken meanwhile
                await commands.update("assignment", held.id, {}, who, verb="revoke", check=check)
    await commands.delete("role", role.id, who)
    await forget(request, "role", role.name, role.id)
    services(request).tokens.forget()
    return Response(status_code=204)


def _must_not_be_built_in(role: Role) -> None:
    if role.name in ROLE_NAMES:
        raise Forbidden(f"The role {role.name} is built in", hint="Policies name it: create another role instead")


async def role_inferences(request: Request) -> Response:
    """Which role contains which"""
    roles = {one.name: one for one in await living(request, "role") if isinstance(one, Role)}

    def short(role: Role) -> dict[str, Any]:
        view = role_view(request, role)
        return {key: view[key] for key in ("id", "name", "links")}

    inferences = [
        {
            "prior_role": short(roles[prior]),
            "implies": [short(roles[one]) for one in sorted(contained - {prior}) if one in roles],
        }
        for prior, contained in IMPLIED.items()
        if prior in roles and len(contained) > 1
    ]
    return Json({"role_inferences": inferences, "links": {"self": str(request.url)}})


def _role(resource: Resource) -> Role:
    assert isinstance(resource, Role), "a role was asked for"
    return resource


def routes() -> list[BaseRoute]:
    return [
        Route("/v3/roles", list_roles, methods=["GET"]),
        Route("/v3/roles", create_role, methods=["POST"]),
        Route("/v3/roles/{id}", show_role, methods=["GET"]),
        Route("/v3/roles/{id}", update_role, methods=["PATCH"]),
        Route("/v3/roles/{id}", delete_role, methods=["DELETE"]),
        Route("/v3/role_inferences", role_inferences, methods=["GET"]),
    ]
