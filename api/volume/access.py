"""Who sees and changes which volumes: a project its own, admins all. Others do not exist for a caller."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, TypeVar, cast

from starlette.requests import Request

from api.auth import Caller
from api.http import boolean, caller, services
from api.listing import living
from api.volume.work import Work
from domain.errors import Forbidden, NotFound
from domain.resources import Resource, Volume, VolumeSnapshot

T = TypeVar("T", Volume, VolumeSnapshot)
_KINDS: dict[type[Resource], tuple[str, str]] = {
    Volume: ("volume", "Volume"),
    VolumeSnapshot: ("volume_snapshot", "Snapshot"),
}


def work(request: Request) -> Work:
    found: Work = request.app.state.volume_work
    return found


def must_be_member(request: Request) -> Caller:
    who = caller(request)
    if not who.is_admin and ("member" not in who.roles or who.project_id is None):
        raise Forbidden("Policy doesn't allow this to be performed.", hint="It needs the role member in a project")
    return who


def must_be_admin(request: Request) -> None:
    if not caller(request).is_admin:
        raise Forbidden("Policy doesn't allow this to be performed.", hint="It needs the role admin")


async def find(request: Request, type_: type[T], id_: str | None = None) -> T:
    kind, name = _KINDS[type_]
    id_ = request.path_params["id"] if id_ is None else id_
    found, who = await services(request).read.resource(kind, id_), caller(request)
    if not isinstance(found, type_) or found.deleted or not (who.is_admin or found.project_id == who.project_id):
        raise NotFound(f"{name} {id_} could not be found.")
    return found


async def visible(request: Request, type_: type[T]) -> list[T]:
    """Those of the project; for an admin those of all projects when `all_tenants` is given."""
    who, params = caller(request), request.query_params
    narrow: dict[str, Any] = {"project_id": who.project_id or "-"}
    if who.is_admin and boolean(params.get("all_tenants") or "false"):
        narrow = {"project_id": params["project_id"]} if params.get("project_id") else {}
    if params.get("name"):
        narrow["name"] = params["name"]
    return cast("list[T]", await living(request, _KINDS[type_][0], **narrow))


def moment(given: datetime | None) -> str | None:
    """`2026-01-02T03:04:05.000000`, the form of volumes."""
    return given.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") if given else None
