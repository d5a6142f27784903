"""Tokens and what a caller can find out about its own access: catalog, projects, domains, system."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from api.auth import SYSTEM, Caller, Claims, revocation_id
from api.errors import Unauthorized
from api.http import Json, caller, context, json_object, micro_timestamp, services
from api.identity.access import DOMAIN
from api.identity.authenticate import authenticate
from api.identity.catalog import catalog
from api.identity.projects import project_view
from api.links import base_url
from api.listing import living
from domain.errors import Conflict, Forbidden, NotFound
from domain.resources import ApplicationCredential, Assignment, Project

SUBJECT = "x-subject-token"


async def issue(request: Request) -> Response:
    """Sign in: a new token in X-Subject-Token"""
    claims = await authenticate(request, await json_object(request))
    tokens = services(request).tokens
    token = tokens.issue(claims)
    who = await tokens.check(token)
    if who is None:
        raise Unauthorized("The user was changed while it signed in", hint="Sign in again")
    body = await token_view(request, who, with_catalog="nocatalog" not in request.query_params)
    return Json({"token": body}, status_code=201, headers={"X-Subject-Token": token, "Vary": "X-Auth-Token"})


async def validate(request: Request) -> Response:
    """What a token is good for"""
    who = await _subject(request)
    body = await token_view(request, who, with_catalog="nocatalog" not in request.query_params)
    return Json({"token": body}, headers={"X-Subject-Token": who.token, "Vary": "X-Auth-Token"})


async def revoke(request: Request) -> Response:
    """End a token"""
    who = await _subject(request)
    known = services(request)
    fields = {"user_id": who.user_id, "expires_at": who.expires_at, "name": who.claims.audit_id}
    id_ = revocation_id(who.claims.audit_id)
    with suppress(Conflict):  # somebody else may have revoked it just now
        await known.commands.create("token_revocation", fields, context(request), id=id_, verb="revoke")
    known.tokens.forget()
    return Response(status_code=204)


async def _subject(request: Request) -> Caller:
    """The caller that X-Subject-Token stands for: one's own, or any for an admin."""
    who = caller(request)
    token = request.headers.get(SUBJECT, "")
    if not token:
        raise NotFound("The header X-Subject-Token is missing", hint="It names the token that this is about")
    found = who if token == who.token else await services(request).tokens.check(token)
    if found is None:
        raise NotFound("Could not find token.", hint="It has expired or was revoked")
    if found.user_id != who.user_id and not (who.is_admin or "service" in who.roles):
        raise Forbidden("You are not authorized to perform the requested action", hint="The token is another user's")
    return found


async def token_view(request: Request, who: Caller, *, with_catalog: bool) -> dict[str, Any]:
    claims, actor = who.claims, who.actor
    body: dict[str, Any] = {
        "methods": list(claims.methods),
        "user": {"domain": DOMAIN, "id": actor.user_id, "name": actor.user_name, "password_expires_at": None},
        "audit_ids": [claims.audit_id],
        "expires_at": micro_timestamp(who.expires_at),
        "issued_at": micro_timestamp(who.issued_at),
    }
    if claims.scope == "unscoped":
        return body
    if claims.scope == "project":
        body["project"] = {"domain": DOMAIN, "id": actor.project_id, "name": actor.project_name}
        body["is_domain"] = False
    elif claims.scope == "domain":
        body["domain"] = DOMAIN
    else:
        body["system"] = {"all": True}
    ids = {role.name: role.id for role in await living(request, "role")}
    body["roles"] = [{"id": ids[name], "name": name} for name in actor.roles if name in ids]
    if claims.credential_id:
        body["application_credential"] = await _credential_view(request, claims)
    if with_catalog:
        body["catalog"] = catalog(request)
    return body


async def _credential_view(request: Request, claims: Claims) -> dict[str, Any]:
    held = await services(request).read.resource("application_credential", claims.credential_id)
    name = held.name if isinstance(held, ApplicationCredential) else ""
    return {"id": claims.credential_id, "name": name, "restricted": True}


async def show_catalog(request: Request) -> Response:
    """The services of this deployment"""
    links = {"self": f"{base_url(request)}/identity/v3/auth/catalog", "next": None, "previous": None}
    return Json({"catalog": catalog(request), "links": links})


async def my_projects(request: Request) -> Response:
    """The projects that the caller can get a token for"""
    user_id = request.path_params.get("user_id", caller(request).user_id)
    who = caller(request)
    if user_id != who.user_id and not who.is_admin:
        raise NotFound(f"Could not find user: {user_id}.")
    held = await living(request, "assignment", where={"user_id": user_id})
    wanted = {one.project_id for one in held if isinstance(one, Assignment) and one.scope == "project" and one.roles}
    projects = [one for one in await living(request, "project") if isinstance(one, Project) and one.id in wanted]
    views = [project_view(request, one) for one in sorted(projects, key=lambda one: one.name)]
    return Json({"projects": views, "links": {"self": str(request.url), "next": None, "previous": None}})


async def my_domains(request: Request) -> Response:
    """The domains that the caller can get a token for"""
    roles = await services(request).tokens.roles_of(caller(request).user_id, "domain", DOMAIN["id"])
    domains = [DOMAIN | {"enabled": True, "description": "The one domain"}] if roles else []
    return Json({"domains": domains, "links": {"self": str(request.url), "next": None, "previous": None}})


async def my_system(request: Request) -> Response:
    """Whether the caller can get a token for the system"""
    roles = await services(request).tokens.roles_of(caller(request).user_id, "system", SYSTEM)
    return Json({"system": [{"all": True}] if roles else [], "links": {"self": str(request.url)}})


def routes() -> list[BaseRoute]:
    return [
        Route("/v3/auth/tokens", issue, methods=["POST"]),
        Route("/v3/auth/tokens", validate, methods=["GET"]),
        Route("/v3/auth/tokens", revoke, methods=["DELETE"]),
        Route("/v3/auth/catalog", show_catalog),
        Route("/v3/auth/projects", my_projects),
        Route("/v3/auth/domains", my_domains),
        Route("/v3/auth/system", my_system),
        Route("/v3/users/{user_id}/projects", my_projects),
    ]
