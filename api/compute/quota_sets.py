"""/os-quota-sets and /os-quota-class-sets: the limits of a project, and the defaults of all."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import msgspec

from api.compute import quota
from api.compute.call import Call, Reply, empty, flag, reply
from api.compute.dispatch import Route
from api.compute.policy import enforce
from api.compute.schemas import quotas as schemas
from domain import groups
from domain.errors import Conflict, Invalid
from domain.resources import Project


def _shown(call: Call, limits: dict[str, int]) -> dict[str, int]:
    """The limits that this microversion knows."""
    body = dict(limits)
    if call.version < 36:
        body |= quota.NETWORK
    if call.version >= 57:
        body = {name: value for name, value in body.items() if name not in quota.FILES}
    return body


async def show(call: Call) -> Reply:
    project_id = call.params[0]
    schemas.QUERY.check(call.version, call.query)
    enforce(call, "os_compute_api:os-quota-sets:show", project_id)
    limits = await quota.limits_of(call, project_id)
    return reply({"quota_set": {"id": project_id} | _shown(call, limits)})


async def defaults(call: Call) -> Reply:
    project_id = call.params[0]
    enforce(call, "os_compute_api:os-quota-sets:defaults", project_id)
    limits = quota.DEFAULTS | await quota.class_limits(call)
    return reply({"quota_set": {"id": project_id} | _shown(call, limits)})


async def detail(call: Call) -> Reply:
    project_id = call.params[0]
    schemas.QUERY.check(call.version, call.query)
    enforce(call, "os_compute_api:os-quota-sets:detail", project_id)
    used = await _in_use(call, project_id)
    limits = _shown(call, await quota.limits_of(call, project_id))
    sets = {name: {"limit": limit, "in_use": used.get(name, 0), "reserved": 0} for name, limit in limits.items()}
    return reply({"quota_set": {"id": project_id} | sets})


async def _in_use(call: Call, project_id: str) -> dict[str, int]:
    usage = await call.services.read.usage(project_id)
    server_groups = await call.services.read.resources("server_group", project_id=project_id)
    return {
        "instances": usage.instances,
        "cores": usage.cores,
        "ram": usage.ram,
        "server_groups": len(server_groups),
    }


async def update(call: Call) -> Reply:
    project_id = call.params[0]
    body = await call.object()
    schemas.QUERY.check(call.version, call.query)
    schemas.UPDATE.check(call.version, body)
    enforce(call, "os_compute_api:os-quota-sets:update")
    wanted: dict[str, Any] = body["quota_set"]
    given = {name: int(value) for name, value in wanted.items() if name in quota.DEFAULTS}
    if not flag(wanted.get("force", False)):
        used = await _in_use(call, project_id)
        for name, value in given.items():
            if 0 <= value < used.get(name, 0):
                raise Invalid(
                    f"Quota value {value} for {name} must be greater than or equal to already used and reserved "
                    f"{used[name]}.",
                    hint="Send force to set it nevertheless.",
                )
    check = partial(groups.set_quotas, given=given)
    changed = await call.services.commands.update("project", project_id, {}, call.context, verb="quota", check=check)
    limits = quota.DEFAULTS | await quota.class_limits(call) | cast("Project", changed).quotas
    return reply({"quota_set": _shown(call, limits)})


async def delete(call: Call) -> Reply:
    enforce(call, "os_compute_api:os-quota-sets:delete")
    await call.services.commands.update("project", call.params[0], {"quotas": {}}, call.context, verb="quota")
    return empty(202)


def _class(call: Call, name: str, limits: dict[str, int]) -> dict[str, Any]:
    """Quota classes show server groups from 2.50 on, and network quotas before."""
    body: dict[str, Any] = {key: value for key, value in limits.items() if key not in quota.FILES or call.version < 57}
    if call.version < 50:
        body = {key: value for key, value in body.items() if not key.startswith("server_group")} | quota.NETWORK
    return {"id": name} | body


async def show_class(call: Call) -> Reply:
    enforce(call, "os_compute_api:os-quota-class-sets:show")
    name = call.params[0]
    limits = quota.DEFAULTS | (await quota.class_limits(call) if name == "default" else {})
    return reply({"quota_class_set": _class(call, name, limits)})


async def update_class(call: Call) -> Reply:
    body = await call.object()
    schemas.UPDATE_CLASS.check(call.version, body)
    enforce(call, "os_compute_api:os-quota-class-sets:update")
    name = call.params[0]
    if name != "default":
        raise Invalid(f"There is no quota class {name}.", hint="Only the class named default exists.")
    given = {key: int(value) for key, value in body["quota_class_set"].items() if key in quota.DEFAULTS}
    limits = await quota.class_limits(call) | given
    fields = {"name": "quota-class-default", "text": msgspec.json.encode(limits, order="sorted").decode()}
    commands = call.services.commands
    try:
        await commands.create("blob", fields, call.context, id=quota.CLASS_BLOB)
    except Conflict:
        await commands.update("blob", quota.CLASS_BLOB, fields, call.context)
    shown = _class(call, name, quota.DEFAULTS | limits)
    shown.pop("id")
    return reply({"quota_class_set": shown})


ROUTES = [
    Route("GET", "/os-quota-sets/{}", show),
    Route("PUT", "/os-quota-sets/{}", update),
    Route("DELETE", "/os-quota-sets/{}", delete),
    Route("GET", "/os-quota-sets/{}/defaults", defaults),
    Route("GET", "/os-quota-sets/{}/detail", detail),
    Route("GET", "/os-quota-class-sets/{}", show_class),
    Route("PUT", "/os-quota-class-sets/{}", update_class),
]
