"""How much of the network API a project may use. -1 is without limit."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from api.errors import NeutronError
from api.http import Json, caller, context, services, wrapped_object
from api.listing import living
from api.network.access import refused
from api.shapes import number
from domain import groups
from domain.errors import NotFound
from domain.resources import Project, SecurityGroup

DEFAULTS = {
    "network": 100,
    "subnet": 100,
    "port": -1,  # the ports of servers are bounded by the number of servers
    "security_group": 100,
    "security_group_rule": 1000,
    "floatingip": 0,
    "router": 0,
    "subnetpool": 0,
    "rbac_policy": 0,
}
PREFIX = "network:"  # a project's quotas of all APIs are in one mapping


async def _project(request: Request, id_: str) -> Project | None:
    found = await services(request).read.resource("project", id_)
    return found if isinstance(found, Project) and not found.deleted else None


async def _limits(request: Request, project_id: str | None) -> dict[str, int]:
    project = await _project(request, project_id) if project_id else None
    own = {key.removeprefix(PREFIX): value for key, value in (project.quotas if project else {}).items()}
    return {key: own.get(key, default) for key, default in DEFAULTS.items()}


async def _used(request: Request, project_id: str, kind: str) -> int:
    if kind == "security_group_rule":
        groups = await living(request, "security_group", project_id=project_id)
        return sum(len(cast(SecurityGroup, one).rules) for one in groups)
    if kind not in ("network", "subnet", "port", "security_group"):
        return 0
    return len(await living(request, kind, project_id=project_id))


async def must_have_room(request: Request, kind: str, project_id: str | None) -> None:
    """Raise OverQuota if the project may not have one more."""
    limit = (await _limits(request, project_id))[kind]
    if limit < 0 or project_id is None:
        return
    if await _used(request, project_id, kind) >= limit:
        raise NeutronError(
            "OverQuota",
            409,
            f"Quota exceeded for resources: ['{kind}'].",
            hint="Delete some, or ask for a higher quota",
        )


def _id(request: Request) -> str:
    who, id_ = caller(request), str(request.path_params["project_id"])
    if not who.is_admin and id_ != who.project_id:
        raise refused("rule:get_quota")
    return id_


async def list_quotas(request: Request) -> Response:
    """The projects whose quotas are not the default"""
    if not caller(request).is_admin:
        raise refused("rule:get_quota")
    found = []
    for one in await living(request, "project"):
        if any(key.startswith(PREFIX) for key in cast(Project, one).quotas):
            found.append(await _limits(request, one.id) | {"project_id": one.id, "tenant_id": one.id})
    return Json({"quotas": found})


async def show_quota(request: Request) -> Response:
    """The quotas of a project"""
    return Json({"quota": await _limits(request, _id(request))})


async def default_quota(request: Request) -> Response:
    """The quotas that a project has by default"""
    _id(request)
    return Json({"quota": DEFAULTS})


async def quota_details(request: Request) -> Response:
    """The quotas of a project and what is used of them"""
    id_ = _id(request)
    limits = await _limits(request, id_)
    details = {
        key: {"limit": limit, "used": await _used(request, id_, key), "reserved": 0} for key, limit in limits.items()
    }
    return Json({"quota": details})


async def update_quota(request: Request) -> Response:
    """Change the quotas of a project"""
    body = await wrapped_object(request, "quota")
    changes = {f"{PREFIX}{key}": number(body, key, least=-1) for key in DEFAULTS if key in body}
    check = partial(groups.set_quotas, given=changes)
    id_ = await _change(request, check)
    return Json({"quota": await _limits(request, id_)})


async def reset_quota(request: Request) -> Response:
    """Give a project the default quotas again"""
    await _change(request, partial(groups.reset_quotas, prefix=PREFIX))
    return Response(status_code=204)


async def _change(request: Request, check: Any) -> str:
    id_ = _id(request)
    if not caller(request).is_admin:
        raise refused("rule:update_quota")
    if await _project(request, id_) is None:
        raise NotFound(f"Project {id_} could not be found.")
    await services(request).commands.update("project", id_, {}, context(request), verb="quota", check=check)
    return id_


def routes() -> list[BaseRoute]:
    one = "/v2.0/quotas/{project_id}"
    return [
        Route("/v2.0/quotas", list_quotas),
        Route(one, show_quota, methods=["GET"]),
        Route(one, update_quota, methods=["PUT"]),
        Route(one, reset_quota, methods=["DELETE"]),
        Route(one + "/default", default_quota),
        Route(one + "/details.json", quota_details),
        Route(one + "/details", quota_details),
    ]
