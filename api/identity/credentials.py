"""Application credentials: secrets that programs sign in with, for one project and a part of their user's roles.

The secret is shown once, when it is made, and kept as a hash. A credential is always restricted: with its token nobody
can make further credentials.
"""

from __future__ import annotations

import secrets
from typing import Any
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from api.http import Json, caller, context, services, wrapped_object
from api.identity.access import expiry
from api.identity.passwords import LONGEST_PASSWORD, hashed
from api.identity.users import find_user
from api.links import base_url
from api.listing import living, next_link, page
from api.shapes import LONGEST_TEXT, flag, name, text
from domain.errors import Conflict, Forbidden, Invalid, NotFound
from domain.policy import effective_roles
from domain.resources import ApplicationCredential, Role

MOST_PER_USER = 100


async def _view(request: Request, held: ApplicationCredential) -> dict[str, Any]:
    roles = {one.name: one for one in await living(request, "role") if isinstance(one, Role)}
    return {
        "id": held.id,
        "name": held.name,
        "description": held.description,
        "project_id": held.project_id,
        "user_id": held.user_id,
        "roles": [{"id": roles[one].id, "name": one, "domain_id": None} for one in held.roles if one in roles],
        "expires_at": held.expires_at.strftime("%Y-%m-%dT%H:%M:%S.%f") if held.expires_at else None,
        "unrestricted": False,
        "access_rules": [],
        "system": None,
        "links": {"self": f"{base_url(request)}/identity/v3/users/{held.user_id}/application_credentials/{held.id}"},
    }


async def _held(request: Request) -> list[ApplicationCredential]:
    user = await find_user(request, "user_id")
    found = await living(request, "application_credential", where={"user_id": user.id})
    return [one for one in found if isinstance(one, ApplicationCredential)]


async def list_credentials(request: Request) -> Response:
    """A user's application credentials"""
    held = await _held(request)
    wanted = request.query_params.get("name")
    views = [await _view(request, one) for one in held if wanted in (None, one.name)]
    views, marker = page(request, views, default_sort=(("name", "asc"),))
    links = {"self": str(request.url), "previous": None, "next": next_link(request, marker)}
    return Json({"application_credentials": views, "links": links})


async def _one(request: Request) -> ApplicationCredential:
    wanted = request.path_params["id"]
    for held in await _held(request):
        if held.id == wanted:
            return held
    raise NotFound(f"Could not find Application Credential: {wanted}.")


async def show_credential(request: Request) -> Response:
    """One application credential, without its secret"""
    return Json({"application_credential": await _view(request, await _one(request))})


async def create_credential(request: Request) -> Response:
    """Make an application credential for the project of the token"""
    who = caller(request)
    user = await find_user(request, "user_id")
    if user.id != who.user_id or who.project_id is None:
        raise Forbidden("An application credential is made by its own user, with a project-scoped token")
    if who.claims.credential_id:
        raise Forbidden("An application credential cannot be made with the token of another one")
    body = await wrapped_object(request, "application_credential")
    if flag(body, "unrestricted", False) or body.get("access_rules"):
        raise Forbidden("Unrestricted application credentials and access rules are not offered here")
    held = await _held(request)
    title = name(body)
    if any(one.name == title for one in held):
        raise Conflict(f"An application credential named {title} exists already", hint="Choose another name")
    if len(held) >= MOST_PER_USER:
        raise Forbidden(f"A user has at most {MOST_PER_USER} application credentials", hint="Delete one")
    secret = text(body, "secret", None, longest=LONGEST_PASSWORD) or secrets.token_urlsafe(48)
    expires_at = None
    if body.get("expires_at") is not None:
        expires_at = expiry(text(body, "expires_at"))
        if expires_at is None:
            raise Invalid("expires_at has to be a time such as 2026-12-31T23:59:59.000000")
    fields = {
        "name": title,
        "user_id": user.id,
        "project_id": who.project_id,
        "description": text(body, "description", "", longest=LONGEST_TEXT),
        "roles": await _roles(request, body),
        "expires_at": expires_at,
        "secret_hash": await hashed(secret),
    }
    created = await services(request).commands.create(
        "application_credential", fields, context(request), id=uuid4().hex
    )
    assert isinstance(created, ApplicationCredential), "the command side answers with the kind that was asked for"
    return Json({"application_credential": await _view(request, created) | {"secret": secret}}, status_code=201)


async def _roles(request: Request, body: dict[str, Any]) -> list[str]:
    """The names of the roles asked for; by default those of the token, without what they contain."""
    mine = set(caller(request).roles)
    asked = body.get("roles")
    if not asked:
        contained = {one for role in mine for one in effective_roles([role]) - {role}}
        return sorted(mine - contained)
    if not isinstance(asked, list) or not all(isinstance(one, dict) for one in asked):
        raise Invalid("roles has to be a list of objects with id or name")
    known = await living(request, "role")
    chosen = []
    for one in asked:
        role = next(
            (r for r in known if one.get("id") == r.id or ("id" not in one and one.get("name") == r.name)), None
        )
        if role is None or role.name not in mine:
            raise Invalid(f"You do not have the role {one.get('name') or one.get('id')}")
        chosen.append(role.name)
    return chosen


async def delete_credential(request: Request) -> Response:
    """Delete an application credential; its tokens end"""
    if caller(request).claims.credential_id:
        raise Forbidden("An application credential cannot be deleted with the token of one")
    held = await _one(request)
    await services(request).commands.delete("application_credential", held.id, context(request))
    services(request).tokens.forget()
    return Response(status_code=204)


def routes() -> list[BaseRoute]:
    base = "/v3/users/{user_id}/application_credentials"
    return [
        Route(base, list_credentials, methods=["GET"]),
        Route(base, create_credential, methods=["POST"]),
        Route(base + "/{id}", show_credential, methods=["GET"]),
        Route(base + "/{id}", delete_credential, methods=["DELETE"]),
    ]
