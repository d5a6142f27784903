"""Projects: what servers, images and networks belong to. Admins keep them; others see those they have a role in."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from api.http import Json, boolean, caller, context, services, wrapped_object
from api.identity.access import DEFAULT_DOMAIN, find, must_be_admin
from api.identity.names import forget, named
from api.links import base_url
from api.listing import living, next_link, page
from api.shapes import LONGEST_TEXT, flag, name, text
from domain.errors import Invalid, NotFound
from domain.resources import Assignment, Project, Resource


def project_view(request: Request, project: Project) -> dict[str, Any]:
    return {
        "id": project.id,
        "name": project.name,
        "domain_id": project.domain_id,
        "description": project.description,
        "enabled": project.enabled,
        "parent_id": project.domain_id,
        "is_domain": False,
        "tags": [],
        "options": {},
        "links": {"self": f"{base_url(request)}/identity/v3/projects/{project.id}"},
    }


async def _visible_ids(request: Request) -> set[str | None] | None:
    """The projects that the caller may see; None for all."""
    who = caller(request)
    if who.is_admin:
        return None
    held = await living(request, "assignment", where={"user_id": who.user_id})
    return {one.project_id for one in held if isinstance(one, Assignment) and one.scope == "project"}


async def list_projects(request: Request) -> Response:
    """Projects, filtered by name, domain_id, enabled"""
    visible = await _visible_ids(request)
    params = request.query_params
    filters = {"name": params["name"]} if params.get("name") else {}
    found = [one for one in await living(request, "project", **filters) if visible is None or one.id in visible]
    views = [project_view(request, one) for one in found if isinstance(one, Project)]
    if params.get("domain_id"):
        views = [one for one in views if one["domain_id"] == params["domain_id"]]
    if params.get("enabled"):
        views = [one for one in views if one["enabled"] == boolean(params["enabled"])]
    if params.get("is_domain") and boolean(params["is_domain"]):
        views = []
    views, marker = page(request, views, default_sort=(("name", "asc"),))
    links = {"self": str(request.url), "previous": None, "next": next_link(request, marker)}
    return Json({"projects": views, "links": links})


async def show_project(request: Request) -> Response:
    """One project"""
    project = await _find(request)
    return Json({"project": project_view(request, project)})


async def _find(request: Request) -> Project:
    id_ = request.path_params["id"]
    visible = await _visible_ids(request)
    found = await find(request, "project", id_)
    if not isinstance(found, Project) or (visible is not None and found.id not in visible):
        raise NotFound(f"Could not find project: {id_}.")
    return found


async def create_project(request: Request) -> Response:
    """Create a project"""
    must_be_admin(request)
    body = await wrapped_object(request, "project")
    fields: dict[str, Any] = {
        "name": name(body, longest=64),
        "description": text(body, "description", "", longest=LONGEST_TEXT),
        "enabled": flag(body, "enabled", True),
        "domain_id": DEFAULT_DOMAIN,
    }
    if body.get("domain_id") not in (None, DEFAULT_DOMAIN) or body.get("is_domain"):
        raise Invalid("Projects can be in the domain Default only")
    if body.get("parent_id") not in (None, DEFAULT_DOMAIN):
        raise Invalid("Projects cannot be nested here", hint="Leave parent_id out")
    id_ = uuid4().hex
    async with named(request, "project", fields["name"], id_) as commands:
        created = await commands.create("project", fields, context(request), id=id_)
    return Json({"project": project_view(request, _project(created))}, status_code=201)


async def update_project(request: Request) -> Response:
    """Change name, description or enabled"""
    must_be_admin(request)
    project = await _find(request)
    body = await wrapped_object(request, "project")
    changes: dict[str, Any] = {}
    if "name" in body:
        changes["name"] = name(body, longest=64)
    if "description" in body:
        changes["description"] = text(body, "description", "", longest=LONGEST_TEXT)
    if "enabled" in body:
        changes["enabled"] = flag(body, "enabled")
    async with named(request, "project", changes.get("name"), project.id, project.name) as commands:
        updated = await commands.update("project", project.id, changes, context(request))
    services(request).tokens.forget()
    return Json({"project": project_view(request, _project(updated))})


async def delete_project(request: Request) -> Response:
    """Delete a project; nobody can get a token for it any more"""
    must_be_admin(request)
    project = await _find(request)
    who = context(request)
    commands = services(request).commands
    for held in await living(request, "assignment", project_id=project.id):
        await commands.delete("assignment", held.id, who)
    await commands.delete("project", project.id, who)
    await forget(request, "project", project.name, project.id)
    services(request).tokens.forget()
    return Response(status_code=204)


def _project(resource: Resource) -> Project:
    assert isinstance(resource, Project), "the command side answers with the kind that was asked for"
    return resource


def routes() -> list[BaseRoute]:
    return [
        Route("/v3/projects", list_projects, methods=["GET"]),
        Route("/v3/projects", create_project, methods=["POST"]),
        Route("/v3/projects/{id}", show_project, methods=["GET"]),
        Route("/v3/projects/{id}", update_project, methods=["PATCH"]),
        Route("/v3/projects/{id}", delete_project, methods=["DELETE"]),
    ]
