"""Users. Admins keep them; others see themselves and change their own password."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from api.errors import Unauthorized
from api.http import Json, boolean, caller, context, services, wrapped_object
from api.identity.access import DEFAULT_DOMAIN, find, must_be_admin
from api.identity.names import forget, named
from api.identity.passwords import LONGEST_PASSWORD, hashed, verified
from api.links import base_url
from api.listing import living, next_link, page
from api.shapes import LONGEST_TEXT, flag, name, text
from domain.errors import Invalid, NotFound
from domain.resources import Resource, User


def user_view(request: Request, user: User) -> dict[str, Any]:
    view = {
        "id": user.id,
        "name": user.name,
        "domain_id": user.domain_id,
        "enabled": user.enabled,
        "description": user.description,
        "password_expires_at": None,
        "options": {},
        "links": {"self": f"{base_url(request)}/identity/v3/users/{user.id}"},
    }
    if user.email is not None:
        view["email"] = user.email
    if user.default_project_id is not None:
        view["default_project_id"] = user.default_project_id
    return view


async def list_users(request: Request) -> Response:
    """Users, filtered by name, domain_id, enabled"""
    who, params = caller(request), request.query_params
    filters = {"name": params["name"]} if params.get("name") else {}
    found = [one for one in await living(request, "user", **filters) if who.is_admin or one.id == who.user_id]
    views = [user_view(request, one) for one in found if isinstance(one, User)]
    if params.get("domain_id"):
        views = [one for one in views if one["domain_id"] == params["domain_id"]]
    if params.get("enabled"):
        views = [one for one in views if one["enabled"] == boolean(params["enabled"])]
    views, marker = page(request, views, default_sort=(("name", "asc"),))
    links = {"self": str(request.url), "previous": None, "next": next_link(request, marker)}
    return Json({"users": views, "links": links})


async def show_user(request: Request) -> Response:
    """One user"""
    return Json({"user": user_view(request, await find_user(request))})


async def find_user(request: Request, key: str = "id") -> User:
    """The user that the path names, if the caller may see it."""
    id_, who = request.path_params[key], caller(request)
    found = await find(request, "user", id_)
    if not isinstance(found, User) or (found.id != who.user_id and not who.is_admin):
        raise NotFound(f"Could not find user: {id_}.")
    return found


async def create_user(request: Request) -> Response:
    """Create a user"""
    must_be_admin(request)
    body = await wrapped_object(request, "user")
    if body.get("domain_id") not in (None, DEFAULT_DOMAIN):
        raise Invalid("Users can be in the domain Default only")
    fields = {"name": name(body), "domain_id": DEFAULT_DOMAIN} | await _changes(request, body)
    id_ = uuid4().hex
    async with named(request, "user", fields["name"], id_) as commands:
        created = await commands.create("user", fields, context(request), id=id_)
    return Json({"user": user_view(request, _user(created))}, status_code=201)


async def update_user(request: Request) -> Response:
    """Change a user, its password included"""
    must_be_admin(request)
    user = await find_user(request)
    body = await wrapped_object(request, "user")
    changes = await _changes(request, body)
    if "name" in body:
        changes["name"] = name(body)
    async with named(request, "user", changes.get("name"), user.id, user.name) as commands:
        updated = await commands.update("user", user.id, changes, context(request))
    services(request).tokens.forget()
    return Json({"user": user_view(request, _user(updated))})


async def _changes(request: Request, body: dict[str, Any]) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if "enabled" in body:
        changes["enabled"] = flag(body, "enabled", True)
    if "description" in body:
        changes["description"] = text(body, "description", "", longest=LONGEST_TEXT)
    if "email" in body:
        changes["email"] = text(body, "email", None)
    if "default_project_id" in body:
        changes["default_project_id"] = text(body, "default_project_id", None)
        if changes["default_project_id"]:
            await find(request, "project", changes["default_project_id"])
    if body.get("password") is not None:
        changes["password_hash"] = await hashed(_password(body, "password"))
    return changes


async def delete_user(request: Request) -> Response:
    """Delete a user with its roles and application credentials"""
    must_be_admin(request)
    user, who = await find_user(request), context(request)
    commands = services(request).commands
    for kind in ("assignment", "application_credential"):
        for held in await living(request, kind, where={"user_id": user.id}):
            await commands.delete(kind, held.id, who)
    await commands.delete("user", user.id, who)
    await forget(request, "user", user.name, user.id)
    services(request).tokens.forget()
    return Response(status_code=204)


async def change_password(request: Request) -> Response:
    """Change one's own password; every token got with the old one ends"""
    user = await find_user(request)
    body = await wrapped_object(request, "user")
    original, fresh = _password(body, "original_password"), _password(body, "password")
    if not await verified(original, user.password_hash):
        raise Unauthorized("The original password is wrong")
    await services(request).commands.update(
        "user", user.id, {"password_hash": await hashed(fresh)}, context(request), verb="change-password"
    )
    services(request).tokens.forget()
    return Response(status_code=204)


async def no_groups(request: Request) -> Response:
    """The groups of a user: none, there are no groups here"""
    await find_user(request)
    return Json({"groups": [], "links": {"self": str(request.url), "next": None, "previous": None}})


def _password(body: dict[str, Any], key: str) -> str:
    found = text(body, key, longest=LONGEST_PASSWORD)
    if not found:
        raise Invalid(f"{key} must not be empty")
    return found


def _user(resource: Resource) -> User:
    assert isinstance(resource, User), "the command side answers with the kind that was asked for"
    return resource


def routes() -> list[BaseRoute]:
    return [
        Route("/v3/users", list_users, methods=["GET"]),
        Route("/v3/users", create_user, methods=["POST"]),
        Route("/v3/users/{id}", show_user, methods=["GET"]),
        Route("/v3/users/{id}", update_user, methods=["PATCH"]),
        Route("/v3/users/{id}", delete_user, methods=["DELETE"]),
        Route("/v3/users/{id}/password", change_password, methods=["POST"]),
        Route("/v3/users/{id}/groups", no_groups, methods=["GET"]),
    ]
