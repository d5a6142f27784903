"""How many volumes and gigabytes a project may have (-1: without limit), and what it has."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from api.http import Json, boolean, caller, context, services, wrapped_object
from api.listing import all_living
from api.services import Services
from api.shapes import number
from api.volume.paths import both
from domain import groups
from domain.errors import Forbidden, NotFound, TooLarge
from domain.resources import Project, Volume, VolumeSnapshot

DEFAULTS = {
    "volumes": 100,
    "snapshots": 100,
    "gigabytes": 10000,
    "per_volume_gigabytes": -1,
    "backups": 0,
    "backup_gigabytes": 0,
    "groups": 0,
}
PREFIX = "volume:"  # a project's quotas of all APIs are in one mapping


async def _limits(known: Services, project_id: str | None) -> dict[str, int]:
    found = await known.read.resource("project", project_id or "")
    quotas = found.quotas if isinstance(found, Project) else {}
    return {key: quotas.get(PREFIX + key, default) for key, default in DEFAULTS.items()}


async def _used(known: Services, project_id: str | None) -> dict[str, int]:
    volumes = [cast(Volume, one) for one in await all_living(known, "volume", project_id=project_id or "-")]
    snapshots = [
        cast(VolumeSnapshot, one) for one in await all_living(known, "volume_snapshot", project_id=project_id or "-")
    ]
    gigabytes = sum(one.size_gb for one in volumes) + sum(one.size_gb for one in snapshots)
    used = {"volumes": len(volumes), "snapshots": len(snapshots), "gigabytes": gigabytes}
    return {key: used.get(key, 0) for key in DEFAULTS}


async def must_have_room(request: Request, project_id: str | None, **more: int) -> None:
    await must_have_room_for(services(request), project_id, **more)


async def must_have_room_for(known: Services, project_id: str | None, **more: int) -> None:
    """Raise 413 (as Cinder does) if the project may not have so much more."""
    limits, used = await _limits(known, project_id), await _used(known, project_id)
    for key, amount in more.items():
        if 0 <= limits[key] < used[key] + amount:
            raise TooLarge(
                f"Quota exceeded for {key}: {used[key]} of {limits[key]} used, {amount} more asked for",
                hint="Delete some, or ask for a higher quota",
            )


def _target(request: Request) -> str:
    who, id_ = caller(request), str(request.path_params["target"])
    if not who.is_admin and id_ != who.project_id:
        raise Forbidden("Policy doesn't allow this to be performed.", hint="It needs the role admin")
    return id_


async def show_quota(request: Request) -> Response:
    """The quotas of a project, with usage=true what is used too"""
    id_ = _target(request)
    limits: dict[str, Any] = dict(await _limits(services(request), id_))
    if boolean(request.query_params.get("usage") or "false"):
        used = await _used(services(request), id_)
        limits = {key: {"limit": limit, "in_use": used[key], "reserved": 0} for key, limit in limits.items()}
    return Json({"quota_set": {"id": id_, **limits}})


async def default_quota(request: Request) -> Response:
    """The quotas that a project has by default"""
    return Json({"quota_set": {"id": _target(request), **DEFAULTS}})


async def update_quota(request: Request) -> Response:
    """Change the quotas of a project"""
    body = await wrapped_object(request, "quota_set")
    changes = {PREFIX + key: number(body, key, least=-1) for key in DEFAULTS if key in body}
    check = partial(groups.set_quotas, given=changes)
    id_ = await _change(request, check)
    return Json({"quota_set": await _limits(services(request), id_)})


async def reset_quota(request: Request) -> Response:
    """Give a project the default quotas again"""
    await _change(request, partial(groups.reset_quotas, prefix=PREFIX))
    return Response(status_code=200)


async def _change(request: Request, check: Any) -> str:
    id_ = _target(request)
    if not caller(request).is_admin:
        raise Forbidden("Policy doesn't allow this to be performed.", hint="It needs the role admin")
    found = await services(request).read.resource("project", id_)
    if found is None or found.deleted:
        raise NotFound(f"Project {id_} could not be found.")
    await services(request).commands.update("project", id_, {}, context(request), verb="quota", check=check)
    return id_


async def class_quota(request: Request) -> Response:
    """The quotas of the one class, default"""
    return Json({"quota_class_set": {"id": request.path_params["name"], **DEFAULTS}})


async def limits(request: Request) -> Response:
    """The limits of the caller's project, in the words of old clients"""
    project_id = caller(request).project_id
    allowed, used = await _limits(services(request), project_id), await _used(services(request), project_id)
    absolute = {
        "maxTotalVolumes": allowed["volumes"],
        "maxTotalSnapshots": allowed["snapshots"],
        "maxTotalVolumeGigabytes": allowed["gigabytes"],
        "maxTotalBackups": 0,
        "maxTotalBackupGigabytes": 0,
        "totalVolumesUsed": used["volumes"],
        "totalSnapshotsUsed": used["snapshots"],
        "totalGigabytesUsed": used["gigabytes"],
        "totalBackupsUsed": 0,
        "totalBackupGigabytesUsed": 0,
    }
    return Json({"limits": {"rate": [], "absolute": absolute}})


def routes() -> list[BaseRoute]:
    return [
        *both("/limits", limits),
        *both("/os-quota-sets/{target}", show_quota),
        *both("/os-quota-sets/{target}", update_quota, ["PUT"]),
        *both("/os-quota-sets/{target}", reset_quota, ["DELETE"]),
        *both("/os-quota-sets/{target}/defaults", default_quota),
        *both("/os-quota-class-sets/{name}", class_quota),
    ]
